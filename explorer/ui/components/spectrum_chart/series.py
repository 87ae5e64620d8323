"""What the plot shows: the singular values of one matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Series:
    """The singular values of one matrix, as the plot shows them.

    Attributes:
        matrix: matrix key, e.g. ``"L0.Q.H3"``.
        s: ``[r]`` singular values, descending, in the units of the weights.
        score: ``[r]`` predicted change of the task loss in nats per example if that value alone is removed
            (negative = removing it helps), or ``None`` if nothing was scored.
        removed: indices of the removed values.
        blocks: degenerate blocks, each with its member indices (two or more).
        null_from: values from this index on are numerically null; ``None`` if there are none.
        uncertain: indices of values the sign of whose score is in doubt.
        labels: what some values are called, by index.
        edge: a level to draw as a line across singular values: where the random bulk ends; ``None`` for no line.

    Raises:
        ValueError: if the shapes differ or an index lies outside ``0..r-1``.
    """

    matrix: str
    s: NDArray[np.floating]
    score: NDArray[np.floating] | None
    removed: frozenset[int]
    blocks: tuple[tuple[int, ...], ...] = ()
    null_from: int | None = None
    edge: float | None = None
    uncertain: frozenset[int] = frozenset()
    labels: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.s.ndim != 1 or not np.isfinite(self.s).all():
            raise ValueError(f"{self.matrix}: s must be a vector of finite numbers, got shape {self.s.shape}.")
        if self.score is not None and self.score.shape != self.s.shape:
            raise ValueError(f"{self.matrix}: score has shape {self.score.shape}, s has {self.s.shape}.")
        used = self.removed.union(self.uncertain, self.labels, *self.blocks)
        if used and not (min(used) >= 0 and max(used) < self.s.size):
            raise ValueError(
                f"{self.matrix}: removed, uncertain, labels and blocks must hold indices in 0..{self.s.size - 1}."
            )
