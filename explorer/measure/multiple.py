"""Several tests at once: p-values that hold for all of them together."""

from __future__ import annotations

from collections.abc import Sequence


def holm_adjusted(p: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979): those up to a level are rejected at that level for all hypotheses together.

    The smallest is multiplied by how many there are, the next by one less, and so on; none is smaller than those
    before it, and none larger than 1. NaN for a NaN, which counts as the largest.
    """
    order = sorted(range(len(p)), key=lambda place: (p[place] != p[place], p[place]))
    adjusted, least = list(p), 0.0
    for done, place in enumerate(order):
        if p[place] == p[place]:
            adjusted[place] = least = max(least, min(1.0, (len(p) - done) * p[place]))
    return adjusted
