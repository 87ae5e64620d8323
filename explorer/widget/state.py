"""What a widget shows: decompositions, scores and blocks of its matrices, which stay, and the mask, which changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from explorer.actions.loaded import LoadedModel
from explorer.attribution import MatrixScores, Scores
from explorer.core.errors import SettingsError
from explorer.core.keys import MatrixKey
from explorer.masks.apply import empty_mask
from explorer.masks.mask import Mask
from explorer.spectra.svd import Decomposition
from explorer.tasks import Task
from explorer.ui.components.spectrum_chart.of_matrix import series_of
from explorer.ui.components.spectrum_chart.series import Series


@dataclass(frozen=True, eq=False)
class ShownMatrices:
    """What does not change while a widget lives.

    Attributes:
        model: whose values are shown.
        task: what they are scored on; None for nothing.
        scores: of the matrices; zeros without a task, so that nothing is frozen.
        decompositions: of the matrices, in the order in which they are shown.
        start: the mask that removes nothing.
    """

    model: LoadedModel
    task: Task | None
    scores: Scores
    decompositions: dict[MatrixKey, Decomposition]
    start: Mask

    def series(self, mask: Mask) -> list[Series]:
        """What the plot draws under a mask."""
        return [
            series_of(
                key, decomposition, removed=mask.indices(key),
                scored=None if self.task is None else self.scores.matrices[key],
            )
            for key, decomposition in self.decompositions.items()
        ]  # fmt: skip


def begin(model: LoadedModel, names: Sequence[str], task: Task | None) -> ShownMatrices:
    """Decompose and score some matrices.

    Raises:
        SettingsError: there are none.
        MatrixError, TaskError: what is asked does not fit the model.
    """
    keys = tuple(dict.fromkeys(MatrixKey.parse(name) for name in names))
    if not keys:
        raise SettingsError("no matrix is named: give some, such as 'L0.K.H3'.")
    decompositions = {key: model.svd(str(key)) for key in keys}
    return ShownMatrices(
        model, task, _scores(model, task, decompositions), decompositions=decompositions, start=_start(model, task)
    )


def lowest(model: LoadedModel, task: Task, count: int) -> tuple[str, ...]:
    """The matrices that hold the lowest scores of a task, the lowest first."""
    matrices = dict.fromkeys(str(key) for _, key, _ in model.score(task).ranking())
    return tuple(matrices)[:count]


def _scores(model: LoadedModel, task: Task | None, decompositions: dict[MatrixKey, Decomposition]) -> Scores:
    if task is None:
        zeros = {key: torch.zeros(one.rank, dtype=torch.float64) for key, one in decompositions.items()}
        found = {key: MatrixScores(one.s, zeros[key], zeros[key]) for key, one in decompositions.items()}
        return Scores("none", "zero", "", split="", n=0, seed=0, loss=0.0, matrices=found)
    with model.views.borrow() as view:
        from explorer.attribution import score

        return score(view, task, model.svds, keys=tuple(decompositions), seed=task.seed)


def _start(model: LoadedModel, task: Task | None) -> Mask:
    return empty_mask(model, "zero" if task is None else "freeze")
