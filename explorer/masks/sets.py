"""Masks as sets of singular values: what they share, and votes among them. They need no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from explorer.core.errors import MaskError
from explorer.core.keys import MatrixKey
from explorer.masks.mask import RELEASED_MEANS, Derived, Mask


@dataclass(frozen=True)
class MaskOverlap:
    """How many values two masks remove, in one matrix or altogether."""

    only_first: int
    only_second: int
    both: int

    @property
    def jaccard(self) -> float:
        """Values in both masks over values in either; 1 if neither removes any."""
        either = self.only_first + self.only_second + self.both
        return self.both / either if either else 1.0

    def __add__(self, other: MaskOverlap) -> MaskOverlap:
        return MaskOverlap(
            self.only_first + other.only_first, self.only_second + other.only_second, self.both + other.both
        )


def overlaps(first: Mask, second: Mask) -> dict[MatrixKey, MaskOverlap]:
    """What two masks share per matrix, in canonical order; removal modes and frozen means play no part.

    Raises:
        MaskError: the masks belong to two models, or to two bases of one: their indices mean different things.
    """
    if not first.model.may_be(second.model):
        second.check_model(first.model)
    found = {}
    for key in sorted({*first.by_matrix, *second.by_matrix}):
        a, b = first.indices(key), second.indices(key)
        found[key] = MaskOverlap(len(a - b), len(b - a), len(a & b))
    return found


def vote(masks: Sequence[Mask], at_least: int) -> Mask:
    """Values that at least so many of the masks remove: 1 gives the union, as many as there are the intersection.

    A value's frozen mean is that of the first mask that removes it. The provenance is the first mask's, with the
    digests of all of them; if the frozen means of one are the released code's, the metrics say so.

    Raises:
        MaskError: a number that the masks cannot reach, several models or modes, or a matrix that is per head in one
            mask and stacked in another.
    """
    if not 1 <= at_least <= len(masks):
        raise MaskError(f"{at_least} of {len(masks)} masks cannot remove a value: ask for 1 to {max(1, len(masks))}.")
    votes = Counter((one.matrix, one.index) for mask in masks for one in mask.removed)
    union = reduce(Mask.union, masks)
    how = {1: "union", len(masks): "intersection"}.get(at_least, f"vote {at_least}")
    derived = Derived(how=how, masks=tuple(mask.digest for mask in masks))
    made = masks[0].provenance.model_copy(update={"derived": derived})
    released = [mask for mask in masks if mask.has_released_means]
    notes = {RELEASED_MEANS: f"as released in {len(released)} of {len(masks)} masks"} if released else {}
    kept = union.without([place for place, n in votes.items() if n < at_least])
    return kept.model_copy(update={"provenance": made, "metrics": notes})
