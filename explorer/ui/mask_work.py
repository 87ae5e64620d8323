"""What the Masks page measures: saved masks on the bench's examples and on other tasks."""

from __future__ import annotations

from typing import cast

from explorer.config import settings
from explorer.edit import apply
from explorer.evaluate import Comparison, Evaluation, evaluate
from explorer.masks import Mask
from explorer.progress import Progress
from explorer.tasks import Task, load_task
from explorer.ui import words
from explorer.ui.cached import compute
from explorer.ui.session import Bench


def pair(bench: Bench, first: Mask, second: Mask, task: Task | None = None) -> Comparison | None:
    """Both masks on the bench's examples, or on as many of another task; None while they are being measured."""
    found = [_evaluation(bench, mask, task or bench.task) for mask in (first, second)]
    return None if found[0] is None or found[1] is None else Comparison(found[1], found[0])


def other_task(bench: Bench, name: str) -> Task:
    """A built-in task, split as the bench's; raises TaskError."""
    return load_task(name, settings().seed)


def _evaluation(bench: Bench, mask: Mask, task: Task) -> Evaluation | None:
    def work(progress: Progress) -> Evaluation:
        with bench.views.borrow() as view:
            apply(view, mask, bench.svds)
            return evaluate(view, task, bench.split, limit=bench.eval_limit, progress=progress)

    key = ("evaluation", bench.model.digest, mask.digest, task.digest, bench.split, bench.eval_limit)
    return cast(
        "Evaluation | None", compute(key, f"Measuring {len(mask):,} {words.past(mask)} values on {task.name}", work)
    )
