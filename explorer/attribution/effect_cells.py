"""Exact effects as cells: runs of single values, and masks, each measured from residual streams that are kept once.

A worker measures a run as this process would, value by value together, so that the bits are the same; what the store
holds is not asked for again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from explorer.attribution.effect_costs import cell_flop, run_flop, value_flop
from explorer.attribution.exact import Apart, Chunk, EffectsJob, Value, keep_unpruned, mask_losses
from explorer.core.errors import ModelError
from explorer.core.executor import Executor, Plain, WorkCell
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress
from explorer.masks.apply import apply
from explorer.masks.mask import Mask
from explorer.measure.batches import batches
from explorer.measure.metrics import Mean, paired_difference
from explorer.measure.opened import OpenedModel
from explorer.models.matrices import matrices


@dataclass(frozen=True)
class EffectsCell(WorkCell[OpenedModel]):
    """The exact effects of some values.

    Attributes:
        runs: values as (matrix, index); those of one run are of one layer, and their copies run together.
        mask: what is removed already.
        split, limit: the examples.
        context: what the numbers depend on beside matrix and index, as the one who asks has it.
    """

    runs: tuple[tuple[tuple[str, int], ...], ...]
    mask: Mask
    split: str
    limit: int | None
    context: str

    def run(self, opened: OpenedModel, progress: Progress | None = None) -> Plain:
        """Per value: the mean change of the loss, its standard error, and the number of examples.

        Raises:
            ModelError: something that the numbers depend on is otherwise here.
        """
        job = opened.held(("effects", self.mask.digest, self.split, self.limit), lambda: self._job(opened))
        if job.context != self.context:
            raise ModelError(
                "the model, the examples or the code are others here than where exact effects were asked for: install "
                "the same version of everything on both."
            )
        with opened.view.lock:
            apply(opened.view, self.mask, opened.svds)  # another cell may have put its own on since
            found = [mean for some in job.measured(self.flipped, progress) for mean in some.values()]
        return {"effects": [(mean.value, mean.stderr, mean.n) for mean in found]}

    @property
    def flipped(self) -> list[list[Value]]:
        """The values of each run by their matrices' keys."""
        return [[(MatrixKey.parse(key), index) for key, index in run] for run in self.runs]

    def _job(self, opened: OpenedModel) -> EffectsJob:
        view = opened.view
        cut = batches(view, opened.task, opened.task.split(self.split, self.limit))
        with view.lock:
            return EffectsJob.begin(view, cut, opened.svds, mask=self.mask, keys=matrices(view, per_head=False))


@dataclass(frozen=True)
class MaskLossCell(WorkCell[OpenedModel]):
    """The loss of every example of a split under a mask, from the unpruned model's residual streams."""

    mask: Mask
    split: str
    limit: int | None

    def run(self, opened: OpenedModel, progress: Progress | None = None) -> Plain:
        """`before` and `after`: the losses without and with the mask, nats."""
        view, svds = opened.view, opened.svds

        def unpruned() -> Any:
            cut = batches(view, opened.task, opened.task.split(self.split, self.limit))
            return keep_unpruned(view, cut, svds)

        kept, before = opened.held(("unpruned", self.split, self.limit), unpruned)
        return {"before": before, "after": mask_losses(view, kept, svds, masks=[self.mask])[0].tolist()}


def effects_by(executor: Executor, split: str, limit: int | None) -> Apart:
    """For `exact_effects`: runs are measured by an executor, on the first `limit` examples of a split."""

    def measured(runs: Sequence[Chunk], job: EffectsJob, progress: Progress | None) -> Iterator[Mapping[Value, Mean]]:
        cells = {cell.digest: cell for cell in effect_cells(runs, job, split, limit=limit)}
        for digest, answer in executor.map_unordered(tuple(cells.values()), progress):
            yield from_answer(cells[digest], answer.values)

    return measured


def effect_cells(runs: Sequence[Chunk], job: EffectsJob, split: str, *, limit: int | None) -> tuple[EffectsCell, ...]:
    """Runs of a job, as many in a cell as its device is to take for one, whoever is there to answer.

    Args:
        runs: in order.
        job: what they belong to.
        split: of the task.
        limit: the first so many examples of it, which are the job's; None for all.
    """
    device, some, flop = job.view.device.type, list[tuple[tuple[str, int], ...]](), 0.0
    cells = []
    for run in runs:
        some.append(tuple((str(key), index) for key, index in run))
        flop += run_flop(device, len(run) * _value_flop(job, run[0]))
        if flop >= cell_flop(device) or run is runs[-1]:
            cells.append(EffectsCell(tuple(some), job.mask, split, limit=limit, context=job.context))
            some, flop = [], 0.0
    return tuple(cells)


def _value_flop(job: EffectsJob, value: Value) -> float:
    model, layers = job.view.model, int(job.view.config.n_layers)
    tokens = sum(batch.tokens.numel() for batch in job.kept.batches)
    return value_flop(model.parameters_count, tokens, (layers - value[0].layer) / layers)


def from_answer(cell: EffectsCell, values: Plain) -> dict[Value, Mean]:
    """The effects that a cell's answer holds, by value."""
    asked = [value for run in cell.flipped for value in run]
    return dict(zip(asked, (Mean(*one) for one in values["effects"]), strict=True))


def joint_effects_by(
    executor: Executor, masks: Sequence[Mask], split: str, *, limit: int | None, progress: Progress | None = None
) -> tuple[Mean, ...]:
    """`joint_effects` of masks, measured by an executor on the first `limit` examples of a split."""
    cells = [MaskLossCell(mask, split, limit) for mask in masks]
    found = {
        digest: paired_difference(answer.values["after"], answer.values["before"])
        for digest, answer in executor.map_unordered(cells, progress)
    }
    return tuple(found[cell.digest] for cell in cells)
