"""Masks measured as cells: controls of a search, and stops along the ranking."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from explorer.core.executor import Executor, InProcess, Plain, WorkCell
from explorer.core.files import digest
from explorer.core.progress import Progress
from explorer.masks.apply import apply
from explorer.masks.mask import Mask
from explorer.measure.evaluate import Evaluation, evaluate
from explorer.measure.opened import OpenedModel
from explorer.measure.sampling import Sample, draw_sample
from explorer.models import View
from explorer.search.curve import MasksApart
from explorer.search.journal import Journal
from explorer.search.records import pack_evaluation, unpack_evaluation
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task


@dataclass(frozen=True)
class MaskCell(WorkCell[OpenedModel]):
    """What a mask does on the first examples of a split.

    Attributes:
        limit: how many examples; None for all.
        suffix: whether only the blocks that a mask changes are run, from residual streams of the unpruned model.
    """

    mask: Mask
    split: str
    limit: int | None
    suffix: bool = False

    def run(self, opened: OpenedModel, progress: Progress | None = None) -> Plain:
        """The evaluation, without the examples; the mask stays on the view."""
        view, svds = opened.view, opened.svds
        sample = opened.held(self.sampled, lambda: self._draw(opened)) if self.suffix else None
        apply(view, self.mask, svds)
        if sample is not None:
            return pack_evaluation(sample.measure(view, progress).masked)
        return pack_evaluation(evaluate(view, opened.task, self.split, limit=self.limit, progress=progress))

    @property
    def sampled(self) -> tuple[str, str, int | None]:
        """Under which name whoever answers holds the sample."""
        return "sample", self.split, self.limit

    def _draw(self, opened: OpenedModel) -> Sample:
        apply(opened.view, self.mask.without_all(), opened.svds)
        examples = opened.task.split(self.split, self.limit)
        return draw_sample(opened.view, opened.task, self.split, most=len(examples), seconds=math.inf)


def measured_masks(
    executor: Executor,
    task: Task,
    masks: Sequence[Mask],
    split: str,
    *,
    limit: int | None,
    suffix: bool = False,
    progress: Progress | None = None,
    journal: Journal | None = None,
) -> tuple[Evaluation, ...]:
    """Evaluations of masks, in their order.

    Args:
        executor: who measures them.
        task: whose examples they are measured on.
        masks: of one model; one that comes twice is measured once.
        split: of the task.
        limit: the first so many examples of it; None for all.
        suffix: see `MaskCell`.
        progress: told (done, total) masks.
        journal: of a search on this model, where the same masks are found if they were measured before.
    """
    cells = [MaskCell(mask, split, limit, suffix=suffix) for mask in masks]
    examples = task.split(split, limit)
    question = digest([task.digest.encode(), task.metric.encode(), *(cell.digest.encode() for cell in cells)])
    known = None if journal is None else journal.next("masks", question)
    if known is not None:
        if progress is not None:
            progress(len(cells), len(cells))  # which may stop what follows
        return tuple(unpack_evaluation(figures, examples) for figures in json.loads(known))
    found: Mapping[str, Plain] = {name: answer.values for name, answer in executor.map_unordered(cells, progress)}
    if journal is not None:
        journal.add("masks", question, json.dumps([found[cell.digest] for cell in cells]).encode(), dear=True)
    return tuple(unpack_evaluation(found[cell.digest], examples) for cell in cells)


def masks_by(executor: Executor, task: Task, split: str, limit: int) -> MasksApart:
    """For `curve`: masks are measured by an executor, on the first `limit` examples of a split."""

    def measured(masks: Sequence[Mask], progress: Progress | None) -> tuple[Evaluation, ...]:
        return measured_masks(executor, task, masks, split=split, limit=limit, suffix=True, progress=progress)

    return measured


def here(view: View, task: Task, svds: SvdCache) -> InProcess:
    """This process as an executor, on what is open already."""
    return InProcess(OpenedModel(view, task, svds))
