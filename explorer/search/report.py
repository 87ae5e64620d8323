"""A search with everything that makes its result believable: held-out figures, controls, cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from explorer.attribution import score
from explorer.edit import apply
from explorer.evaluate import Evaluation, evaluate
from explorer.masks import Mask
from explorer.progress import Progress, part, track
from explorer.search.controls import CONTROLS, beaten, draws
from explorer.search.problem import Found, Point, Problem, Search, solve
from explorer.search.provenance import provenance
from explorer.tasks import Task

DRAWS = 20


@dataclass(frozen=True)
class ControlRuns:
    """One control of a mask, measured on the same examples.

    Attributes:
        runs: one evaluation per draw.
        accuracy_percentile, loss_percentile: percent of the draws that the mask beats, ties counted half.
    """

    runs: tuple[Evaluation, ...]
    accuracy_percentile: float
    loss_percentile: float

    def as_dict(self) -> dict[str, Any]:
        """Draws, accuracies, losses and the mask's percentiles."""
        return {
            "draws": len(self.runs),
            "accuracy": [run.accuracy for run in self.runs],
            "loss": [run.mean_loss.value for run in self.runs],
            "percentile": {"accuracy": self.accuracy_percentile, "loss": self.loss_percentile},
        }


@dataclass(frozen=True)
class Report:
    """The outcome of one search.

    Attributes:
        mask: the best mask on validation, with its provenance.
        found: the whole way there.
        train, validation, test: evaluations of the mask; the test split was used for this and the controls only.
        baseline: the unpruned model on the test split.
        controls: by name, on the test split; empty for a mask that removes nothing.
        forwards: forward passes of one example that the search took (a backward pass counts as two).
    """

    strategy: str
    task: str
    seed: int
    mask: Mask
    found: Found
    train: Evaluation
    validation: Evaluation
    test: Evaluation
    baseline: Evaluation
    controls: Mapping[str, ControlRuns]
    forwards: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        made = self.mask.provenance
        return {
            "strategy": self.strategy,
            "task": self.task,
            "seed": self.seed,
            "mode": self.mask.mode,
            "removed": len(self.mask),
            "mask_digest": self.mask.digest,
            "train": self.train.as_dict(),
            "validation": self.validation.as_dict(),
            "test": self.test.as_dict(),
            "baseline": self.baseline.as_dict(),
            "controls": {name: one.as_dict() for name, one in self.controls.items()},
            "curve": [_point(point) for point in self.found.curve],
            "stopped": self.found.stopped,
            "forwards": self.forwards,
            "seconds": self.seconds,
            "versions": dict(made.versions),
        }


def search(
    problem: Problem,
    task: Task,
    name: str,
    strategy: Search,
    *,
    control_draws: int = DRAWS,
    progress: Progress | None = None,
) -> Report:
    """Run a strategy, then measure its best mask, the unpruned model and the controls once on the test split.

    The view is left unpruned.

    Args:
        problem: what may be removed for which task; its own task has no test split.
        task: the whole task.
        name: of the strategy.
        strategy: what chooses the mask.
        control_draws: draws of each random control; 0 for no controls.
        progress: told (done, total) of what follows the search.
    """
    found = solve(problem, strategy)
    forwards, seconds = problem.forwards, problem.seconds
    made = provenance(
        task=task.name, split="train", examples=len(problem.examples), seed=problem.seed, scorer=problem.scorer
    )
    mask = found.best.mask.model_copy(update={"provenance": made})
    view, svds = problem.view, problem.svds
    try:
        baseline = _measure(problem, problem.mask(), task, "test")
        train = _measure(problem, mask, task, "train", problem.limit)
        test = _measure(problem, mask, task, "test")
        controls = _controls(problem, mask, task, test, control_draws, part(progress, 0.1, 1.0))
    finally:
        apply(view, problem.mask(), svds)
    return Report(
        strategy=name, task=task.name, seed=problem.seed, mask=mask, found=found, train=train,
        validation=found.best.validation, test=test, baseline=baseline, controls=controls,
        forwards=forwards, seconds=seconds,
    )  # fmt: skip


def _measure(problem: Problem, mask: Mask, task: Task, split: str, limit: int | None = None) -> Evaluation:
    apply(problem.view, mask, problem.svds)
    return evaluate(problem.view, task, split, limit=limit)


def _controls(
    problem: Problem, mask: Mask, task: Task, test: Evaluation, count: int, progress: Progress | None
) -> dict[str, ControlRuns]:
    if not len(mask) or count < 1:
        return {}
    keys = tuple(mask.by_matrix)
    scores = score(
        problem.view, problem.task, problem.svds, keys, scorer="random", mode=problem.mode, limit=problem.limit
    )
    masks = [
        (name, drawn)
        for name in CONTROLS
        for drawn in draws(scores, mask, name, range(problem.seed, problem.seed + count))
    ]
    runs: dict[str, list[Evaluation]] = {name: [] for name in CONTROLS}
    for name, drawn in track(masks, progress):
        runs[name].append(_measure(problem, drawn, task, "test"))
    return {name: _against(test, tuple(evaluations)) for name, evaluations in runs.items()}


def _against(test: Evaluation, runs: tuple[Evaluation, ...]) -> ControlRuns:
    return ControlRuns(
        runs=runs,
        accuracy_percentile=beaten(test.accuracy, [run.accuracy for run in runs]),
        loss_percentile=beaten(-test.mean_loss.value, [-run.mean_loss.value for run in runs]),
    )


def _point(point: Point) -> dict[str, Any]:
    return {
        "removed": point.removed,
        "train": None if point.train is None else point.train.as_dict(),
        "validation": point.validation.as_dict(),
    }
