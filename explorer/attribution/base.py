"""What a scorer is asked and what it answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from explorer.batches import Batch
from explorer.keys import MatrixKey
from explorer.masks import Mask, Mode, Removed
from explorer.models import View
from explorer.progress import Progress
from explorer.svd_cache import SvdCache


@dataclass(frozen=True, eq=False)
class MatrixScores:
    """Scores of one matrix.

    Attributes:
        s: singular values [r].
        score: nats per example [r], negative = removing helps.
        c: frozen mean m . u_i [r].
    """

    s: Float[Tensor, " r"]
    score: Float[Tensor, " r"]
    c: Float[Tensor, " r"]


@dataclass(frozen=True)
class Scores:
    """Scores of several matrices from one scorer on one set of examples.

    Attributes:
        loss: mean loss of the view on these examples, nats per example.
        n: number of examples.
    """

    scorer: str
    mode: Mode
    task: str
    split: str
    n: int
    seed: int
    loss: float
    matrices: Mapping[MatrixKey, MatrixScores]

    @property
    def size(self) -> int:
        """Number of scored values."""
        return sum(len(matrix.s) for matrix in self.matrices.values())

    def ranking(self) -> list[tuple[float, MatrixKey, int]]:
        """All values as (score, matrix, index), the most harmful first; ties in canonical order."""
        entries = [
            (score, key, index)
            for key, matrix in self.matrices.items()
            for index, score in enumerate(matrix.score.tolist())
        ]
        return sorted(entries, key=lambda entry: (entry[0], entry[1], entry[2]))

    def removed(self, key: MatrixKey, index: int) -> Removed:
        """The mask entry that removes one scored value."""
        matrix = self.matrices[key]
        return Removed(matrix=str(key), index=index, sigma=float(matrix.s[index]), c=float(matrix.c[index]))

    def predicted(self, mask: Mask) -> float | None:
        """Sum of the scores of a mask's values: the linear prediction; None if one of them was not scored.

        Effects of several removals do not add up: show it beside the measured change.
        """
        if any(key not in self.matrices for key in mask.by_matrix):
            return None
        return math.fsum(float(self.matrices[one.key].score[one.index]) for one in mask.removed)


@dataclass(frozen=True, eq=False)
class Request:
    """What a scorer is asked: which matrices of which view, on which examples, for which removal mode."""

    view: View
    svds: SvdCache
    keys: tuple[MatrixKey, ...]
    batches: tuple[Batch, ...]
    mode: Mode
    seed: int
    progress: Progress | None

    @property
    def n(self) -> int:
        """Number of examples."""
        return sum(len(batch) for batch in self.batches)


Scorer = Callable[[Request], tuple[float, dict[MatrixKey, MatrixScores]]]
