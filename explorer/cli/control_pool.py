"""What the random masks of `eval` are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from explorer.keys import Kind, MatrixKey

if TYPE_CHECKING:
    from explorer.masks import Mask
    from explorer.models import View


@dataclass(frozen=True)
class ControlPool:
    """Matrices to draw from, and examples for frozen means.

    Attributes:
        kinds, per_head: no kinds for the mask's own, taken per head or stacked as the mask is; `every` for all of them.
        examples: number of train examples; None for as many as the mask's own means come from.
    """

    kinds: tuple[Kind, ...] = ()
    every: bool = False
    per_head: bool = True
    examples: int | None = None

    def keys(self, view: View, mask: Mask) -> tuple[MatrixKey, ...]:
        """All matrices to draw from, in canonical order."""
        from explorer.registry import matrices

        if self.every or self.kinds:
            return matrices(view, None if self.every else self.kinds, per_head=self.per_head)
        per_head: dict[Any, bool] = {}
        for key in mask.by_matrix:
            per_head[key.kind] = per_head.get(key.kind, False) or key.head is not None
        return tuple(sorted(key for kind, split in per_head.items() for key in matrices(view, (kind,), per_head=split)))
