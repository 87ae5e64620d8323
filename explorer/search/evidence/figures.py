"""The evidence for a mask, as reports hold it: accuracies are shares, losses nats per example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Literal

from pydantic import Field

from explorer.core.written import Count, JsonRecord, Number, Share
from explorer.masks.damage import TextDamageFigures
from explorer.measure.clustered import clustered_interval, clustered_mean, equal_interval, first_column
from explorer.measure.figures import ComparisonFigures, Figures, Interval

OF_ACCURACY, OF_CHANGE = (0.0, 1.0), (-1.0, 1.0)  # bounds


@dataclass(frozen=True, kw_only=True)
class ClusteredFigures(JsonRecord):
    """A mean over `n` examples in so many clusters, with its clustered standard error and 95 % bootstrap interval."""

    n: Count
    clusters: Count
    value: Number
    stderr: Number
    interval: Interval

    @classmethod
    def of(
        cls, values: Sequence[float], clusters: Sequence[str], bounds: tuple[float, float] | None = None
    ) -> ClusteredFigures:
        """Those of values, one per example, and which cluster each is of; `bounds` are those of any value."""
        found, count = clustered_mean(values, clusters), len(set(clusters))
        if bounds is not None and len(set(values)) == 1:
            interval = equal_interval(found.value, count, bounds)
        else:
            interval = clustered_interval([values], clusters, first_column)
        return cls(n=found.n, clusters=count, value=found.value, stderr=found.stderr, interval=interval)

    @property
    def above(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.interval[0] > 0

    @property
    def below(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.interval[1] < 0


@dataclass(frozen=True, kw_only=True)
class OwnTaskFigures(JsonRecord):
    """What a search on another task came to on that task's validation split, which it read: no held-out figures."""

    baseline: Figures
    masked: Figures


@dataclass(frozen=True, kw_only=True)
class RivalFigures(JsonRecord):
    """A null or a baseline on the test examples that the mask was measured on.

    Attributes:
        role: `null`: what a search or its means do without what is claimed. `baseline`: another way to the same end.
        accuracy, loss: one per draw.
        hits: for each test example, the share of draws that are right.
        growth: of the perplexity of plain text, 0.1 for 10 %; None where the weights stay as they are, or without text.
        numbers: how many were trained or chosen; None where there are none.
        change: Frobenius norm of what a searched mask takes from the weights; None for all others.
        steps: of training; None without it.
        masked: accuracy of the mask where the prompts are other ones; one per draw.
        own: what a search on another task came to there.
        lead: accuracy of the mask less that of the rival, on the same new examples.
        why: why it could not be measured, in a sentence; all else is empty then.
        note: how it was made, as far as that is not the same every time.
    """

    role: Literal["null", "baseline"]
    accuracy: tuple[Share, ...] = ()
    loss: tuple[Number, ...] = ()
    hits: tuple[Share, ...] = ()
    growth: Number | None = None
    numbers: Count | None = None
    change: Number | None = None
    steps: Count | None = None
    masked: tuple[Share, ...] = ()
    own: OwnTaskFigures | None = None
    lead: ClusteredFigures | None = None
    why: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if len(self.accuracy) != len(self.loss):
            raise ValueError(f"{len(self.accuracy)} accuracies and {len(self.loss)} losses are not of the same draws")

    @property
    def median(self) -> float:
        """Median accuracy over the draws."""
        return median(self.accuracy)


@dataclass(frozen=True, kw_only=True)
class AbilityFigures(JsonRecord):
    """How much of what the unpruned model can do with shots the mask lets out without: on new examples.

    Attributes:
        n, clusters: the new examples.
        zero, masked, shots: accuracy without shots unpruned, with the mask, and unpruned with the better of 3 and 5.
        gap: shots less zero, with its interval.
        recovered: (masked - zero) / gap; None where the interval of the gap holds 0, so that there is nothing to share.
        interval: 95 % bootstrap interval of it, over clusters; None likewise.
    """

    n: Count
    clusters: Count
    zero: Share
    masked: Share
    shots: Share
    gap: ClusteredFigures
    recovered: Number | None
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class WordingFigures(JsonRecord):
    """The test cases in a wording that no search uses."""

    template: str
    masked: Figures
    baseline: Figures
    comparison: ComparisonFigures
    change: ClusteredFigures


@dataclass(frozen=True, kw_only=True)
class MemberFigures(JsonRecord):
    """What restoring one member of a mask does, the others staying removed.

    Attributes:
        loss: change of the loss, nats per example; positive: the mask is worse without it.
        accuracy: change of the accuracy.
        necessary: whether the loss rises beyond chance, with Holm's correction for all members that were measured.
    """

    matrix: str
    index: Count
    loss: ClusteredFigures
    accuracy: Number
    necessary: bool


@dataclass(frozen=True, kw_only=True)
class MinimalityFigures(JsonRecord):
    """Leave-one-out restoring.

    Attributes:
        members: of the mask; `measured` of them were restored, `n` examples each.
    """

    members: Count
    n: Count
    measured: tuple[MemberFigures, ...]

    @property
    def necessary(self) -> tuple[MemberFigures, ...]:
        """The members without which the mask is worse beyond chance."""
        return tuple(one for one in self.measured if one.necessary)


@dataclass(frozen=True, kw_only=True)
class SubsetFigures(JsonRecord):
    """Masks of `kept` members of the mask, drawn at random: one accuracy and loss per draw, on `n` examples."""

    kept: Count
    n: Count
    accuracy: tuple[Share, ...]
    loss: tuple[Number, ...]


@dataclass(frozen=True, kw_only=True)
class ChosenValue(JsonRecord):
    """A singular value that some of several searches removed."""

    matrix: str
    index: Count
    times: Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class StabilityFigures(JsonRecord):
    """Searches that differ in their seed and in how their examples fall into train and validation.

    Attributes:
        removed: how many values each search removed, this one first.
        chosen: every value that a search removed, the most frequent ones first.
        overlap: mean over pairs of searches of shared values by all values of both (Jaccard).
        core: how many values all of them removed; `core_test`: these alone on test, None for none.
        majority: how many at least half of them removed; `majority_test` likewise.
        accuracy: test accuracy of each search's mask.
    """

    removed: tuple[Count, ...]
    chosen: tuple[ChosenValue, ...]
    overlap: Number
    accuracy: tuple[Share, ...]
    core: Count
    core_test: Figures | None
    majority: Count
    majority_test: Figures | None

    @property
    def repeats(self) -> int:
        """How many searches."""
        return len(self.removed)


@dataclass(frozen=True, kw_only=True)
class EvidenceFigures(JsonRecord):
    """Everything that was measured of a mask beyond its test figures and controls.

    Attributes:
        new: how many test examples are new: neither they nor a twin of theirs was read in search.
        masked, baseline, change: accuracy on the new examples, twins as one cluster.
        loss_change: of the loss on them.
        rivals: nulls and baselines, by name.
        ability: None without shots among the baselines.
        code: damage on program text; None where the model does not read it.
        draws: how often random controls were drawn, and why not more.
        sentence: what all of this licenses.
    """

    new: Count
    masked: ClusteredFigures
    baseline: ClusteredFigures
    change: ClusteredFigures
    loss_change: ClusteredFigures
    rivals: Mapping[str, RivalFigures]
    ability: AbilityFigures | None = None
    wordings: tuple[WordingFigures, ...] = ()
    code: TextDamageFigures | None = None
    members: MinimalityFigures | None = None
    subsets: tuple[SubsetFigures, ...] = ()
    stability: StabilityFigures | None = None
    draws: str = ""
    sentence: str = ""
