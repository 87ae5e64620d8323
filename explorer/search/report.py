"""A search with everything that makes its result believable: held-out figures, controls, damage elsewhere, cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from explorer.core.progress import Progress, part, track
from explorer.masks.apply import apply
from explorer.masks.damage import Damage, damage
from explorer.masks.mask import Mask
from explorer.measure.evaluate import Comparison, Evaluation, evaluate
from explorer.search.control_runs import ControlRuns
from explorer.search.controls import DRAWS, OF_THE_MASK, POOL, draws, means_of
from explorer.search.outcome import Found, Point
from explorer.search.problem import Problem, Search, solve
from explorer.search.provenance import provenance
from explorer.tasks import Task


@dataclass(frozen=True)
class Report:
    """The outcome of one search.

    Attributes:
        task: its name; `mask.provenance` says how it was asked.
        mask: the best mask on validation, with its provenance.
        found: the whole way there.
        train, validation, test: evaluations of the mask; the test split was used for this and the controls only.
        baseline: the unpruned model on the test split.
        controls: by name, on the test split; empty for a mask that removes nothing.
        damage: what the mask costs on other tasks and on plain text; None if that was not asked or nothing is removed.
        settings: what the search was told, as plain values.
        test_limit: how many test examples mask, baseline and controls were measured on at most; None for all.
        forwards: forward passes of one example that the search took in all its runs (a backward pass counts as two).
        seconds: of the search, in all its runs.
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
    damage: Damage | None
    settings: Mapping[str, Any]
    test_limit: int | None
    forwards: int
    seconds: float

    @property
    def comparison(self) -> Comparison:
        """The mask beside the unpruned model, on the same test examples."""
        return Comparison(self.test, self.baseline)

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
            "test_limit": self.test_limit,
            "baseline": self.baseline.as_dict(),
            "comparison": _compared(self.comparison),
            "controls": {name: one.as_dict() for name, one in self.controls.items()},
            "curve": [_point(point) for point in self.found.curve],
            "damage": None if self.damage is None else self.damage.as_dict(),
            "stopped": self.found.stopped,
            "settings": dict(self.settings),
            "forwards": self.forwards,
            "seconds": self.seconds,
            "versions": dict(made.versions),
        }

    def document(self) -> dict[str, Any]:
        """Everything that a report file holds (`explorer.search.report_file`): `as_dict`, the mask, what was asked."""
        made = self.mask.provenance
        return {
            "model": self.mask.model.source,
            "model_digest": self.mask.model.digest,
            "basis": self.mask.model.basis,
            "dtype": self.settings.get("dtype"),
            "task_digest": made.task_digest,
            "shots": made.shots,
            "template": made.template,
            "bos": made.bos,
            "chat": made.chat,
            "system": made.system,
            "metric": self.test.metric,
            **self.as_dict(),
            "mask": json.loads(self.mask.to_json()),
        }


def search(
    problem: Problem,
    task: Task,
    name: str,
    strategy: Search,
    *,
    options: Mapping[str, Any] | None = None,
    control_draws: int = DRAWS,
    control_names: Sequence[str] = OF_THE_MASK,
    test_limit: int | None = None,
    others: Sequence[Task] = (),
    text: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Run a strategy, then measure its best mask, the unpruned model and the controls once on the test split.

    The view is left unpruned.

    Args:
        problem: what may be removed for which task; its own task has no test split.
        task: the whole task.
        name: of the strategy.
        strategy: what chooses the mask.
        options: of the strategy that are not its defaults, as plain values for the report.
        control_draws: draws of each random control; 0 for no controls.
        control_names: which controls; `random-pool` draws from the problem's matrices.
        test_limit: measure mask, baseline and controls on the first so many test examples only.
        others: tasks to measure the damage on, on as many test examples.
        text: plain text to measure the damage on.
        progress: told (done, total) of what follows the search.

    Raises:
        TaskError: no test examples, or another task or a text that the model cannot take.
    """
    task.split("test", test_limit)
    found = solve(problem, strategy)
    forwards, seconds = problem.forwards, problem.seconds
    made = provenance(
        task=task, split="train", examples=len(problem.examples), seed=problem.seed, scorer=problem.scorer,
        strategy=name,
    )  # fmt: skip
    mask = found.best.mask.model_copy(update={"provenance": made})
    view, svds = problem.view, problem.svds
    try:
        baseline = _measure(problem, problem.mask(), task, "test", test_limit)
        train = _measure(problem, mask, task, "train", problem.limit)
        test = _measure(problem, mask, task, "test", test_limit)
        bar = part(progress, 0.1, 0.8)
        controls = _controls(problem, mask, task, test, control_names, control_draws, test_limit, bar)
        elsewhere = None
        if len(mask) and (others or text is not None):
            bar = part(progress, 0.8, 1.0)
            elsewhere = damage(view, mask, svds, others, text, limit=test_limit, progress=bar)
    finally:
        apply(view, problem.mask(), svds)
    return Report(
        strategy=name, task=task.name, seed=problem.seed, mask=mask, found=found, train=train,
        validation=found.best.validation, test=test, baseline=baseline, controls=controls, damage=elsewhere,
        settings=_settings(problem, options or {}, control_draws), test_limit=test_limit, forwards=forwards,
        seconds=seconds,
    )  # fmt: skip


def _settings(problem: Problem, options: Mapping[str, Any], control_draws: int) -> dict[str, Any]:
    """What a search was told, without what the mask says itself."""
    return {
        "options": dict(options),
        "scorer": problem.scorer,
        "matrices": [str(key) for key in problem.keys],
        "limit": problem.limit,
        "max_removed": problem.budget.removed,
        "max_seconds": problem.budget.seconds,
        "max_growth": problem.budget.growth,
        "text_blocks": len(problem.text),
        "control_draws": control_draws,
        "device": str(problem.view.device),
        "dtype": str(problem.view.bridge.original_model.dtype).removeprefix("torch."),
    }


def _measure(problem: Problem, mask: Mask, task: Task, split: str, limit: int | None = None) -> Evaluation:
    apply(problem.view, mask, problem.svds)
    return evaluate(problem.view, task, split, limit=limit)


def _controls(
    problem: Problem,
    mask: Mask,
    task: Task,
    test: Evaluation,
    names: Sequence[str],
    count: int,
    test_limit: int | None,
    progress: Progress | None,
) -> dict[str, ControlRuns]:
    if not len(mask) or count < 1:
        return {}
    pool = problem.keys if POOL in names else ()
    scores = means_of(problem.view, problem.task, problem.svds, mask, pool=pool)
    masks = [
        (name, drawn)
        for name in names
        for drawn in draws(scores, mask, name, range(problem.seed, problem.seed + count))
    ]
    runs: dict[str, list[Evaluation]] = {name: [] for name in names}
    for name, drawn in track(masks, progress):
        runs[name].append(_measure(problem, drawn, task, "test", test_limit))
    return {name: ControlRuns.against(test, tuple(evaluations)) for name, evaluations in runs.items()}


def _compared(comparison: Comparison) -> dict[str, Any]:
    """Paired figures: McNemar's test of the accuracy, bootstrap interval of the change of the loss."""
    change = comparison.loss_change
    return {
        "accuracy_test": vars(comparison.accuracy_test),
        "loss_change": {
            "value": change.value,
            "stderr": change.stderr,
            "interval": list(comparison.loss_interval()),
        },
    }


def _point(point: Point) -> dict[str, Any]:
    return {
        "removed": point.removed,
        "train": None if point.train is None else point.train.as_dict(),
        "validation": point.validation.as_dict(),
        "growth": point.growth,
    }
