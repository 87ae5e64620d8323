"""A sample to measure every mask on while a user waits: the first examples of a split, as many as fit a time budget.

1. Run the view as it is on few examples, keeping their residual streams (`explorer.measure.residuals`), and take the
   time.
2. Double the sample while twice the time still fits the budget, up to `most` examples.
3. `Sample.measure` runs only blocks that a mask can have changed, so it takes no longer than that.

Splits are shuffled, so the first examples are a random sample; they are the same for every mask, so changes are paired.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from explorer.core.progress import Progress
from explorer.measure.evaluate import Comparison, Evaluation, evaluate_kept
from explorer.measure.readers import measured_batches
from explorer.measure.residuals import Kept, keep
from explorer.models import View
from explorer.tasks import Example, Task

BUDGET_SECONDS = 1.0
MOST = 64
START = 8
MEMORY_BYTES = 1 << 28


@dataclass(frozen=True, eq=False)
class Sample:
    """Examples with their kept residual streams.

    Attributes:
        examples: the first ones of the split.
        total: number of examples that they stand for.
        kept: the residual streams of the view that `draw_sample` was given.
        baseline: what that view does on them.
        seconds: what running all of its blocks on them took.
    """

    examples: tuple[Example, ...]
    total: int
    kept: Kept
    baseline: Evaluation
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether the sample is all there is."""
        return len(self.examples) == self.total

    def measure(self, view: View, progress: Progress | None = None) -> Comparison:
        """The view, as it is now, on the sample, beside the baseline.

        Raises:
            SettingsError: a view of another model.
        """
        metric = self.baseline.metric
        return Comparison(
            evaluate_kept(view, self.examples, self.kept, progress=progress, metric=metric), self.baseline
        )


def draw_sample(
    view: View,
    task: Task,
    split: str = "test",
    *,
    limit: int | None = None,
    most: int = MOST,
    seconds: float = BUDGET_SECONDS,
    progress: Progress | None = None,
) -> Sample:
    """Draw a sample that takes at most about `seconds` to measure; never fewer than `START` examples, if there are any.

    Args:
        view: the view, whose state now is the baseline.
        task: the task.
        split: `train`, `validation` or `test`.
        limit: only from the first so many examples of the split.
        most: bound on the sample.
        seconds: the time budget.
        progress: told (done, total) of the largest sample that may come.

    Raises:
        TaskError: an empty split, or an example that this model cannot take.
    """
    every, metric = task.split(split, limit), task.metric_of(split)
    bound = min(most, len(every))
    _keep(view, task, every[:1])  # warm up
    kept, took = most_within(
        seconds, lambda count: _keep(view, task, every[:count]), START, bound=bound, progress=progress
    )
    examples = every[: kept.n]
    baseline = evaluate_kept(view, examples, kept, metric=metric)
    return Sample(examples, len(every), kept, baseline=baseline, seconds=took)


def most_within(
    seconds: float, run: Callable[[int], Kept], start: int, *, bound: int, progress: Progress | None = None
) -> tuple[Kept, float]:
    """The largest of runs that double while twice the time of the last one still fits; and the seconds that it took.

    Args:
        seconds: the time budget.
        run: keeps so many examples.
        start: how many at first, whatever they take.
        bound: the most.
        progress: told (done, bound).
    """
    count = min(start, bound)
    while True:
        began = time.perf_counter()
        kept = run(count)
        took = time.perf_counter() - began
        if progress is not None:
            progress(count, bound)
        if count == bound or took * min(2 * count, bound) / count > seconds:
            return kept, took
        count = min(2 * count, bound)


def _keep(view: View, task: Task, examples: tuple[Example, ...]) -> Kept:
    return keep(view, measured_batches(view, task, examples), memory_bytes=MEMORY_BYTES)
