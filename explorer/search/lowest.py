"""One shot: remove the values with the lowest scores (paper, section 3)."""

from __future__ import annotations

from explorer.attribution import Scores
from explorer.errors import SettingsError
from explorer.masks import Removed


def lowest(scores: Scores, count: int, seed: int = 0) -> tuple[Removed, ...]:
    """The `count` lowest-scored values over all scored matrices; ties go in canonical order, the seed is not used.

    Raises:
        SettingsError: a count below 0 or above the number of scored values.
    """
    check_count(scores, count)
    return tuple(scores.removed(key, index) for _, key, index in scores.ranking()[:count])


def check_count(scores: Scores, count: int) -> None:
    """Raise SettingsError unless `count` values can be chosen among the scored ones."""
    if not 0 <= count <= scores.size:
        raise SettingsError(f"{count} values cannot be removed: choose 0 to {scores.size:,}, the number scored.")
