"""One shot: remove the values with the lowest scores (paper, section 3)."""

from __future__ import annotations

from explorer.attribution import Scores
from explorer.core.errors import NotFiniteError, SettingsError
from explorer.masks.mask import Removed


def lowest(scores: Scores, count: int, seed: int = 0) -> tuple[Removed, ...]:
    """The `count` lowest-scored values over all scored matrices; ties go in canonical order, the seed is not used.

    Raises:
        SettingsError: a count below 0 or above the number of scored values.
    """
    check_count(scores, count)
    return tuple(scores.removed(key, index) for _, key, index in scores.ranking()[:count])


def check_count(scores: Scores, count: int) -> None:
    """Raise SettingsError or NotFiniteError unless `count` values can be chosen among the scored ones."""
    if not 0 <= count <= scores.size:
        raise SettingsError(f"{count} values cannot be removed: choose 0 to {scores.size:,}, the number scored.")
    if count > (usable := sum(map(len, scores.usable.values()))):
        _, key, index = scores.unusable[0]
        raise NotFiniteError(
            f"{count} values cannot be removed: {scores.size - usable:,} of {scores.size:,} have a score or a frozen "
            f"mean that is not finite, the first of them value {index} of {key}; choose {usable:,} at most, or load "
            "the model in float32."
        )
