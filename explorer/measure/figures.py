"""The figures of measurements, as reports and cells hold them: accuracies are shares, losses nats per example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field

from explorer.core.written import Count, JsonRecord, Number, Share
from explorer.measure.evaluate import Comparison, Evaluation
from explorer.measure.metrics import Mean, wilson_interval
from explorer.measure.paired import McNemar
from explorer.measure.perplexity import Perplexity
from explorer.tasks import SeenExamples
from explorer.tasks.metric import RULES, Metric, Rule, accuracy_name

Interval = tuple[Number, Number]


def _possible(test: McNemar) -> McNemar:
    if min(test.repaired, test.broken) < 0 or not 0 <= test.p <= 1:
        raise ValueError("Input should be a McNemar test: counts from 0 and a p from 0 to 1")
    return test


Flips = Annotated[McNemar, AfterValidator(_possible)]


@dataclass(frozen=True, kw_only=True)
class ShareFigures(JsonRecord):
    """A share of examples with its 95 % Wilson interval."""

    n: Annotated[int, Field(ge=1)]
    accuracy: Share
    accuracy_interval: tuple[Share, Share]

    @classmethod
    def of(cls, hits: Sequence[bool]) -> ShareFigures:
        """The share of examples that are hits."""
        n, found = len(hits), sum(hits)
        return cls(n=n, accuracy=found / n, accuracy_interval=wilson_interval(found, n))


@dataclass(frozen=True, kw_only=True)
class Figures(JsonRecord):
    """One evaluation.

    Attributes:
        metric: what `accuracy` counts. Files of earlier versions have none: theirs is exact match.
        exact, choice: the accuracy by every metric, `choice` by rule (`sum`, `mean`); missing in files of earlier
            versions, as is what follows.
        guessing: the accuracy of guessing blindly among the choices.
        majority: that of always giving the most frequent answer; it, `choice` and `guessing` are None without choices.
        not_finite: examples whose loss is not finite; with any, the mean loss is not a number. Not written if none are.
    """

    n: Annotated[int, Field(ge=1)]
    metric: Metric = "exact"
    accuracy: Share
    accuracy_interval: tuple[Share, Share]
    loss: Number
    loss_stderr: Number
    exact: ShareFigures | None = None
    choice: Mapping[Rule, ShareFigures] | None = None
    guessing: Share | None = None
    majority: Share | None = None
    not_finite: Count = 0

    @classmethod
    def of(cls, evaluation: Evaluation) -> Self:
        """Those of an evaluation."""
        choice = {rule: ShareFigures.of(hits) for rule in RULES if (hits := evaluation.hits(rule))}
        return cls(
            n=evaluation.n, metric=evaluation.metric, accuracy=evaluation.accuracy,
            accuracy_interval=evaluation.accuracy_interval, loss=evaluation.mean_loss.value,
            loss_stderr=evaluation.mean_loss.stderr, exact=ShareFigures.of(evaluation.exact), choice=choice or None,
            guessing=evaluation.guessing, majority=evaluation.majority, not_finite=len(evaluation.not_finite),
        )  # fmt: skip

    @property
    def accuracy_name(self) -> str:
        """`accuracy`, with what it counts where there are choices."""
        return accuracy_name(self.metric, choices=self.choice is not None)

    def as_dict(self) -> dict[str, Any]:
        """The fields by name."""
        found = super().as_dict()
        return found if self.not_finite else {name: one for name, one in found.items() if name != "not_finite"}


@dataclass(frozen=True, kw_only=True)
class LeadFigures(JsonRecord):
    """How far the answer leads the distractor, nats, over the `n` examples that have one, and how often it is ahead."""

    n: Count
    value: Number
    stderr: Number
    ahead: ShareFigures


@dataclass(frozen=True, kw_only=True)
class TaskFigures(Figures):
    """Figures of a task that may have distractors."""

    lead: LeadFigures | None


@dataclass(frozen=True, kw_only=True)
class ChangeFigures(JsonRecord):
    """A paired change of a mean, with its 95 % bootstrap interval."""

    value: Number
    stderr: Number
    interval: Interval

    @classmethod
    def of(cls, change: Mean, interval: tuple[float, float]) -> ChangeFigures:
        """A change that was measured."""
        return cls(value=change.value, stderr=change.stderr, interval=interval)


@dataclass(frozen=True, kw_only=True)
class ComparisonFigures(JsonRecord):
    """A mask beside the unpruned model on the same examples."""

    accuracy_test: Flips
    loss_change: ChangeFigures

    @classmethod
    def of(cls, comparison: Comparison) -> ComparisonFigures:
        """McNemar's test of the accuracy, and the change of the loss."""
        change = ChangeFigures.of(comparison.loss_change, comparison.loss_interval())
        return cls(accuracy_test=comparison.accuracy_test, loss_change=change)


@dataclass(frozen=True, kw_only=True)
class UnseenFigures(JsonRecord):
    """A mask beside the unpruned model on the examples that were not seen in search."""

    masked: Figures
    baseline: Figures
    comparison: ComparisonFigures

    @classmethod
    def of(cls, comparison: Comparison, places: Sequence[int]) -> UnseenFigures | None:
        """Those of the examples at some places; None where there are none."""
        if not places:
            return None
        some = Comparison(comparison.masked.only(places), comparison.baseline.only(places))
        return cls(
            masked=Figures.of(some.masked), baseline=Figures.of(some.baseline), comparison=ComparisonFigures.of(some)
        )


@dataclass(frozen=True, kw_only=True)
class SeenFigures(JsonRecord):
    """How many of `n` test examples the search has seen, and the figures without them.

    Attributes:
        prompts: it read the same case, in whatever wording.
        twins: it read another case that shares the answer by symmetry.
        answers: it read another case with the same answer; not counted where there are choices.
        new_cases: figures of the examples of which it read neither the case nor a twin; None without any.
        new_answers: of those of them whose answer it did not read, either; None without any.
    """

    n: Count
    prompts: Count
    twins: Count
    answers: Count
    new_cases: UnseenFigures | None
    new_answers: UnseenFigures | None

    @classmethod
    def of(cls, seen: SeenExamples, comparison: Comparison) -> SeenFigures:
        """Those of a comparison on the examples that `seen` is about."""
        return cls(
            n=comparison.masked.n, prompts=sum(seen.prompts), twins=sum(seen.twins), answers=sum(seen.answers),
            new_cases=UnseenFigures.of(comparison, seen.new_cases),
            new_answers=UnseenFigures.of(comparison, seen.new_answers),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TextFigures(JsonRecord):
    """Perplexity of plain text; see `explorer.measure.perplexity.Perplexity`."""

    perplexity: Number
    loss: Number
    loss_stderr: Number
    tokens: Count
    windows: Count
    window: Count
    stride: Count

    @classmethod
    def of(cls, measured: Perplexity) -> TextFigures:
        """Those of a measurement."""
        return cls(
            perplexity=measured.value, loss=measured.loss, loss_stderr=measured.stderr, tokens=measured.tokens,
            windows=len(measured.nll), window=measured.window, stride=measured.stride,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GrowthFigures(JsonRecord):
    """Growth of the perplexity (0.1 = up by 10 %) with its paired 95 % bootstrap interval."""

    value: Number
    interval: Interval
