"""What the Masks page makes and measures: saved masks on the bench's examples, and on other tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from explorer.actions import TransferMask
from explorer.core.progress import Progress
from explorer.experiments.transfer import refreeze, transfer
from explorer.masks.apply import apply
from explorer.masks.belonging import adopted, belongs
from explorer.masks.mask import Mask
from explorer.measure.evaluate import Comparison, Evaluation, evaluate
from explorer.models import View
from explorer.tasks import Task
from explorer.ui.components import words
from explorer.ui.jobs.work import on_view
from explorer.ui.session import Bench, Setting, requests
from explorer.ui.session.notices import notices


def pair(bench: Bench, first: Mask, second: Mask, task: Task | None = None) -> Comparison | None:
    """Both masks on the bench's examples, or on as many of another task; None while they are being measured."""
    found = [_evaluation(bench, mask, task or bench.task) for mask in (first, second)]
    return None if found[0] is None or found[1] is None else Comparison(found[1], found[0])


def transferred(bench: Bench, mask: Mask, task: Task, *, sibling: bool) -> Mask | None:
    """A mask carried over to a task, on its own model or on a sibling: the bench's; None while it is being made.

    As `eigenprune mask transfer` does, it takes the means from as many train examples as are measured.
    """

    def work(view: View, progress: Progress) -> Mask:
        carry = transfer if sibling else refreeze
        if belongs(view, mask, bench.svds):
            adopted(view, mask, bench.svds, notify=notices().append_once)
        return carry(view, mask, bench.svds, task=task, limit=bench.eval_limit, progress=progress)

    key = ("transfer", transfer_request(requests.by_contents(replace(bench, task=task)), mask, sibling=sibling))
    return on_view(bench, key, work, label=f"Carrying {words.count(len(mask), 'value')} over to {task.name}")


def transfer_request(setting: Setting, mask: Mask, *, sibling: bool) -> TransferMask:
    """A mask carried over to the setting's task and, if that is a sibling of its own, model."""
    return TransferMask(
        model=setting.model, mask=setting.file(mask), tasks=setting.tasks, to_sibling=sibling, new_means=not sibling,
        out=Path("transferred.mask.json"), split=setting.bench.split, limit=setting.bench.eval_limit,
    )  # fmt: skip


def _evaluation(bench: Bench, mask: Mask, task: Task) -> Evaluation | None:
    def work(view: View, progress: Progress) -> Evaluation:
        apply(view, adopted(view, mask, bench.svds, notify=notices().append_once), bench.svds)
        return evaluate(view, task, bench.split, limit=bench.eval_limit, progress=progress)

    key = ("evaluation", requests.evaluate(requests.by_contents(replace(bench, task=task)), mask))
    return on_view(bench, key, work, label=f"Measuring {words.chosen(mask)} on {task.name}")
