"""How far a hooked model is from plain transformers, in figures; `explorer.models.fidelity` finds them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

ALONE, BATCH, PARTS = "a prompt alone", "prompts of several lengths in one batch", "a prompt in two parts"


@dataclass(frozen=True)
class Fidelity:
    """How far a view's log-probabilities are from plain transformers'.

    Attributes:
        dtype: the type that the model computes in, such as `float32`.
        tolerance: the largest difference that is allowed, nats.
        differences: the largest difference that there is, nats, by probe; infinite for one that failed.
        prefixes: whether a shared beginning of prompts can be read once; otherwise they run whole.
        layers: how many blocks ran.
        n_layers: how many there are.
        longest: tokens of the longest prompt.
    """

    dtype: str
    tolerance: float
    differences: Mapping[str, float]
    prefixes: bool
    layers: int
    n_layers: int
    longest: int

    @property
    def finite_differences(self) -> dict[str, float | None]:
        """`differences` for a report: null for a probe that failed."""
        return {name: value if math.isfinite(value) else None for name, value in self.differences.items()}

    def words(self) -> str:
        """One or two sentences for a model card."""
        blocks = "all blocks" if self.layers == self.n_layers else f"{self.layers} of {self.n_layers} blocks"
        whole = "" if self.prefixes else " Its cache cannot be continued: prompts with a shared beginning run whole."
        return (
            f"Within {self.largest:.0e} nats of plain transformers ({self.tolerance:g} allowed, {blocks} run).{whole}"
        )

    @property
    def largest(self) -> float:
        """The largest difference between runs whose numbers are used, nats."""
        return max(value for name, value in self.differences.items() if name != PARTS or self.prefixes)


UNCHECKED = Fidelity("", math.nan, {}, prefixes=False, layers=0, n_layers=0, longest=0)
