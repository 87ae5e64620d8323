"""What a mask costs elsewhere: other tasks and plain text, before and after, on the same examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from explorer.core.progress import Progress, part
from explorer.core.written import Count, JsonRecord
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask
from explorer.measure.choices import Alternatives, measure
from explorer.measure.evaluate import Comparison, Evaluation
from explorer.measure.figures import ComparisonFigures, Figures, Flips, GrowthFigures, TaskFigures, TextFigures
from explorer.measure.paired import McNemar
from explorer.measure.perplexity import TOKENS, Perplexity, growth, perplexity
from explorer.models import View
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from explorer.tasks.metric import RULES, Rule


@dataclass(frozen=True, kw_only=True)
class TaskDamageFigures(ComparisonFigures):
    """What a mask does to another task, as reports hold it; `choice_test` by rule, None without choices."""

    task: str
    task_digest: str
    shots: Count
    bos: str = "auto"
    chat: bool = False
    system: str | None = None
    split: str
    masked: TaskFigures
    baseline: TaskFigures
    choice_test: Mapping[Rule, Flips] | None


@dataclass(frozen=True, kw_only=True)
class TextDamageFigures(JsonRecord):
    """What a mask does to plain text, as reports hold it."""

    masked: TextFigures
    baseline: TextFigures
    growth: GrowthFigures


@dataclass(frozen=True, kw_only=True)
class DamageFigures(JsonRecord):
    """What a mask costs elsewhere, as reports hold it."""

    mask_digest: str
    removed: Count
    gain: float = 0.0
    tasks: tuple[TaskDamageFigures, ...]
    text: TextDamageFigures | None


@dataclass(frozen=True)
class TaskDamage:
    """One task with the mask and without it; leads where the task has distractors."""

    task: Task
    split: str
    comparison: Comparison
    masked: Alternatives | None
    baseline: Alternatives | None

    @property
    def accuracy_test(self) -> McNemar:
        """Exact McNemar test of the change of the accuracy, by the task's metric."""
        return self.comparison.accuracy_test

    def loss_interval(self, seed: int = 0) -> tuple[float, float]:
        """Paired 95 % bootstrap interval of the change of the mean loss, nats per example."""
        return self.comparison.loss_interval(seed)

    def choice_test(self, rule: Rule = "sum") -> McNemar | None:
        """Exact McNemar test of the change of choice accuracy; None without choices."""
        return self.comparison.choice_test(rule)

    @property
    def figures(self) -> TaskDamageFigures:
        """The figures for a report."""
        tests = {rule: test for rule in RULES if (test := self.choice_test(rule)) is not None}
        return TaskDamageFigures(
            task=self.task.name, task_digest=self.task.digest, shots=self.task.shots, **self.task.framing.as_dict(),
            split=self.split, masked=_figures(self.comparison.masked, self.masked),
            baseline=_figures(self.comparison.baseline, self.baseline), **vars(ComparisonFigures.of(self.comparison)),
            choice_test=tests or None,
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values."""
        return self.figures.as_dict()


@dataclass(frozen=True)
class TextDamage:
    """Perplexity of plain text with the mask and without it."""

    masked: Perplexity
    baseline: Perplexity

    @property
    def growth(self) -> tuple[float, tuple[float, float]]:
        """Growth of the perplexity (0.1 = up by 10 %) and its paired 95 % bootstrap interval."""
        return growth(self.masked, self.baseline)

    @property
    def figures(self) -> TextDamageFigures:
        """The figures for a report."""
        value, interval = self.growth
        return TextDamageFigures(
            masked=TextFigures.of(self.masked), baseline=TextFigures.of(self.baseline),
            growth=GrowthFigures(value=value, interval=interval),
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values."""
        return self.figures.as_dict()


@dataclass(frozen=True)
class Damage:
    """What a mask does to other tasks and to plain text."""

    mask: Mask
    tasks: tuple[TaskDamage, ...]
    text: TextDamage | None

    @property
    def figures(self) -> DamageFigures:
        """The figures for a report."""
        return DamageFigures(
            mask_digest=self.mask.digest, removed=len(self.mask), gain=self.mask.gain,
            tasks=tuple(one.figures for one in self.tasks), text=None if self.text is None else self.text.figures,
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values."""
        return self.figures.as_dict()


class HowMuch(TypedDict, total=False):
    """What a mask is measured on.

    Attributes:
        split: of the tasks; `test` if not given.
        limit: examples of each task; all if not given.
        tokens: of the text; None for all of it, `explorer.measure.perplexity.TOKENS` if not given.
    """

    split: str
    limit: int | None
    tokens: int | None


def damage(
    view: View,
    mask: Mask,
    svds: SvdCache,
    tasks: Sequence[Task] = (),
    text: str | None = None,
    *,
    progress: Progress | None = None,
    **how_much: Unpack[HowMuch],
) -> Damage:
    """Measure a mask on tasks that it was not made for, and on plain text, beside the unpruned model.

    `explorer.measure.perplexity.read_text()` is the text that comes with the explorer; None leaves it out. The view is
    left unpruned.

    Raises:
        MaskError: a mask of another model.
        TaskError: a task or a text that this model cannot take.
    """
    found = []
    try:
        for number, one in enumerate((mask, empty_mask(view.model))):
            apply(view, one, svds)
            stage = part(progress, number / 2, (number + 1) / 2)
            found.append(_measure(view, tasks, text, how_much=how_much, progress=stage))
    finally:
        apply(view, empty_mask(view.model), svds)
    (masked, masked_text), (baseline, baseline_text) = found
    pairs = zip(tasks, masked, baseline, strict=True)
    return Damage(
        mask,
        tuple(
            TaskDamage(
                task, how_much.get("split", "test"), Comparison(now[0], then[0]), masked=now[1], baseline=then[1]
            )
            for task, now, then in pairs
        ),
        None if masked_text is None or baseline_text is None else TextDamage(masked_text, baseline_text),
    )


_Measured = tuple[Evaluation, Alternatives | None]


def _measure(
    view: View,
    tasks: Sequence[Task],
    text: str | None,
    how_much: HowMuch,
    progress: Progress | None,
) -> tuple[list[_Measured], Perplexity | None]:
    """Everything once, with the view as it is; each task, and the text, takes an equal part of the progress."""
    split, limit = how_much.get("split", "test"), how_much.get("limit")
    parts = len(tasks) + (text is not None)
    found: list[_Measured] = []
    for number, task in enumerate(tasks):
        stage = part(progress, number / parts, (number + 1) / parts)
        found.append(measure(view, task, split, limit=limit, progress=stage))
    if text is None:
        return found, None
    return found, perplexity(
        view, text, tokens=how_much.get("tokens", TOKENS), progress=part(progress, len(tasks) / parts, 1.0)
    )


def _figures(evaluation: Evaluation, others: Alternatives | None) -> TaskFigures:
    return TaskFigures(**vars(Figures.of(evaluation)), lead=None if others is None else others.lead_figures)
