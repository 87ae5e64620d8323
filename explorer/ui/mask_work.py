"""What the Masks page measures: saved masks on the bench's examples and on other tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from explorer.config import settings
from explorer.edit import apply
from explorer.evaluate import Comparison, Evaluation, evaluate
from explorer.masks import Mask
from explorer.paired import McNemar, bootstrap_interval, mcnemar
from explorer.progress import Progress
from explorer.tasks import Task, load_task
from explorer.ui.cached import compute
from explorer.ui.session import Bench


@dataclass(frozen=True)
class Pair:
    """Two measurements on the same examples, the second as the change of the first."""

    comparison: Comparison

    @property
    def test(self) -> McNemar:
        """Exact McNemar test of the change of accuracy."""
        return mcnemar(self.comparison.masked.correct, self.comparison.baseline.correct)

    def loss_interval(self) -> tuple[float, float]:
        """Paired 95 % bootstrap interval of the change of the mean loss, nats per example."""
        pairs = zip(self.comparison.masked.loss, self.comparison.baseline.loss, strict=True)
        return bootstrap_interval([now - then for now, then in pairs], seed=settings().seed)


def pair(bench: Bench, first: Mask, second: Mask, task: Task | None = None) -> Pair | None:
    """Both masks on the bench's examples, or on as many of another task; None while they are being measured."""
    found = [_evaluation(bench, mask, task or bench.task) for mask in (first, second)]
    return None if found[0] is None or found[1] is None else Pair(Comparison(found[1], found[0]))


def other_task(bench: Bench, name: str) -> Task:
    """A built-in task, split as the bench's; raises TaskError."""
    return load_task(name, settings().seed)


def _evaluation(bench: Bench, mask: Mask, task: Task) -> Evaluation | None:
    def work(progress: Progress) -> Evaluation:
        with bench.views.borrow() as view:
            apply(view, mask, bench.svds)
            return evaluate(view, task, bench.split, limit=bench.eval_limit, progress=progress)

    key = ("evaluation", bench.model.digest, mask.digest, task.digest, bench.split, bench.eval_limit)
    return cast("Evaluation | None", compute(key, f"Measuring {len(mask):,} removed values on {task.name}", work))
