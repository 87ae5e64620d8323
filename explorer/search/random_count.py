"""Control: as many values, drawn uniformly from the same matrices."""

from __future__ import annotations

import random

from explorer.attribution import Scores
from explorer.masks import Removed
from explorer.search.lowest import check_count


def random_count(scores: Scores, count: int, seed: int = 0) -> tuple[Removed, ...]:
    """`count` values drawn without replacement from all scored ones by `seed`; scores play no part.

    Raises:
        SettingsError: a count below 0 or above the number of scored values.
    """
    check_count(scores, count)
    places = [(key, index) for key, matrix in scores.matrices.items() for index in range(len(matrix.s))]
    return tuple(scores.removed(key, index) for key, index in random.Random(seed).sample(places, count))
