"""Which control masks `eval` draws, and from what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.core.errors import SettingsError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.mask import Mask
from explorer.models import View
from explorer.models.matrices import matrices
from explorer.search.controls import DEFAULT, POOL, check_control


@dataclass(frozen=True)
class ControlPool:
    """A control, matrices to draw from, and examples for frozen means.

    Attributes:
        control: its name.
        kinds, per_head: no kinds for the mask's own, taken per head or stacked as the mask is; `every` for all of them.
        examples: number of train examples; None for as many as the mask's own means come from.
    """

    control: str
    kinds: tuple[Kind, ...] = ()
    every: bool = False
    per_head: bool = True
    examples: int | None = None

    @classmethod
    def asked(
        cls, control: str | None, kinds: tuple[Kind, ...] | None, examples: int | None, *, stacked: bool
    ) -> ControlPool:
        """As a request asks for it; kinds to draw from (none of them: all), or stacked ones, imply `random-pool`.

        Raises:
            SettingsError: no such control or kinds, or kinds for a control that draws from the mask's matrices.
        """
        pooled = kinds is not None or stacked
        name = control or (POOL if pooled else DEFAULT)
        check_control(name)
        if pooled and name != POOL:
            raise SettingsError(f"--control-kinds and --control-stacked belong to --control {POOL}, not to {name}.")
        return cls(name, kinds or (), kinds == (), per_head=not stacked, examples=examples)

    def keys(self, view: View, mask: Mask) -> tuple[MatrixKey, ...]:
        """All matrices to draw from, in canonical order: the mask's own, unless the control has a pool."""
        if self.control != POOL:
            return tuple(mask.by_matrix)
        if self.every or self.kinds:
            return matrices(view, None if self.every else self.kinds, per_head=self.per_head)
        per_head: dict[Any, bool] = {}
        for key in mask.by_matrix:
            per_head[key.kind] = per_head.get(key.kind, False) or key.head is not None
        return tuple(sorted(key for kind, split in per_head.items() for key in matrices(view, (kind,), per_head=split)))
