"""What a strategy is asked, and what it answers: one signature for all of them.

A strategy sees the train and the validation split; the task that it is given has no test split.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from jaxtyping import Int
from torch import Tensor

from explorer.attribution import Scores, score
from explorer.edit import apply, empty_mask
from explorer.errors import Stopped
from explorer.evaluate import Evaluation, evaluate
from explorer.keys import MatrixKey
from explorer.masks import Mask, Mode, Removed
from explorer.models import View
from explorer.progress import Progress
from explorer.svd_cache import SvdCache
from explorer.tasks import Example, Task


@dataclass(frozen=True)
class Budget:
    """What a search may use up.

    Attributes:
        removed: largest number of removed values.
        seconds: time after which the best mask so far is returned; None for no limit.
    """

    removed: int
    seconds: float | None = None


@dataclass(frozen=True)
class Point:
    """A mask on a search's way, measured; losses in nats per example."""

    mask: Mask
    train: Evaluation | None
    validation: Evaluation

    @property
    def removed(self) -> int:
        """Number of removed values."""
        return len(self.mask)


@dataclass(frozen=True)
class Found:
    """The result of a strategy.

    Attributes:
        best: the measured mask with the lowest validation loss within the budget; the unpruned model counts.
        curve: every measured mask, in order.
        stopped: why it ended early: "time", "stopped", or "" if it ran to its end.
    """

    best: Point
    curve: tuple[Point, ...]
    stopped: str = ""


class OutOfTime(Exception):
    """The time budget is used up: the strategy ends, and the best mask so far is its result."""


@dataclass(eq=False)
class Problem:
    """One search: what may be removed from which model for which task, and what has been measured so far.

    Attributes:
        task: without its test split.
        keys: the matrices whose values may be removed.
        limit: examples used of the train split; None for all.
        text: blocks of plain-text tokens `[1, position]` on which the model should go on as before.
        forwards: forward passes of one example so far (a backward pass counts as two).
    """

    view: View
    task: Task
    svds: SvdCache
    keys: tuple[MatrixKey, ...]
    budget: Budget
    mode: Mode = "freeze"
    scorer: str = "gradient"
    limit: int | None = None
    seed: int = 0
    text: tuple[Int[Tensor, "1 position"], ...] = ()
    progress: Progress | None = None
    forwards: int = 0
    curve: list[Point] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.task = replace(self.task, test=())

    @property
    def examples(self) -> tuple[Example, ...]:
        """The train examples that are used."""
        return self.task.split("train", self.limit)

    @property
    def seconds(self) -> float:
        """Seconds since the search began."""
        return time.monotonic() - self._started

    def score(self, mask: Mask | None = None) -> Scores:
        """Scores of all values on the train split, at a mask (of the unpruned model if none is given)."""
        found = score(
            self.view, self.task, self.svds, self.keys,
            scorer=self.scorer, mode=self.mode, limit=self.limit, seed=self.seed, mask=mask,
        )  # fmt: skip
        self.forwards += 3 * found.n
        return found

    def start(self) -> Point:
        """The unpruned model, measured: the first point of the curve."""
        return self.curve[0] if self.curve else self.measure(self.mask())

    def measure(self, mask: Mask, *, train: bool = True) -> Point:
        """Put a mask onto the view, run validation (and train) examples, and add the point to the curve."""
        apply(self.view, mask, self.svds)
        validation = evaluate(self.view, self.task, "validation")
        seen = evaluate(self.view, self.task, "train", limit=self.limit) if train else None
        self.forwards += validation.n + (seen.n if seen else 0)
        self.curve.append(Point(mask, seen, validation))
        self.check()
        return self.curve[-1]

    def mask(self, removed: Iterable[Removed] = ()) -> Mask:
        """A mask of this problem's model and mode."""
        return empty_mask(self.view.model, self.mode).with_removed(removed)

    def check(self) -> None:
        """Raise OutOfTime once the time budget is used up; lets the progress callback raise `Stopped`."""
        if self.progress is not None:
            self.progress(min(len(self.curve), 999), 1000)
        if self.budget.seconds is not None and self.seconds > self.budget.seconds:
            raise OutOfTime


Search = Callable[[Problem], None]


def solve(problem: Problem, strategy: Search) -> Found:
    """Run a strategy until it ends, time is up, or it is stopped; the best mask is kept.

    Ctrl-C stops it, and a progress callback that raises `Stopped`. The unpruned model is measured first and counts as a
    result; stopped before that, there is none, and the exception goes on.
    """
    stopped = ""
    try:
        problem.start()
        strategy(problem)
    except OutOfTime:
        stopped = "time"
    except (Stopped, KeyboardInterrupt):
        if not problem.curve:
            raise
        stopped = "stopped"
    finally:
        apply(problem.view, problem.mask(), problem.svds)
    allowed = [point for point in problem.curve if point.removed <= problem.budget.removed]
    best = min(allowed, key=lambda point: (point.validation.mean_loss.value, point.removed))
    return Found(best, tuple(problem.curve), stopped)
