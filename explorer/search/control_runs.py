"""What controls do on the same examples as the mask, and how many of them it beats."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any

from pydantic import Field

from explorer.core.written import JsonRecord, Number, Share
from explorer.measure.evaluate import Evaluation
from explorer.search.controls import beaten

Percent = Annotated[float, Field(ge=0, le=100)]


@dataclass(frozen=True, kw_only=True)
class Percentile(JsonRecord):
    """Percent of the draws that the mask beats, ties counted half."""

    accuracy: Percent
    loss: Percent


@dataclass(frozen=True, kw_only=True)
class ControlFigures(JsonRecord):
    """One control of a mask, as reports and cells hold it: one accuracy and one loss per draw."""

    draws: Annotated[int, Field(ge=1)]
    accuracy: tuple[Share, ...]
    loss: tuple[Number, ...]
    percentile: Percentile

    def __post_init__(self) -> None:
        if not self.draws == len(self.accuracy) == len(self.loss):
            raise ValueError(f"{self.draws} draws have {len(self.accuracy)} accuracies and {len(self.loss)} losses")

    @property
    def median(self) -> float:
        """Median accuracy."""
        return median(self.accuracy)


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

    @classmethod
    def against(cls, masked: Evaluation, runs: tuple[Evaluation, ...]) -> ControlRuns:
        """The draws beside the mask."""
        return cls(
            runs=runs,
            accuracy_percentile=beaten(masked.accuracy, [run.accuracy for run in runs]),
            loss_percentile=beaten(-masked.mean_loss.value, [-run.mean_loss.value for run in runs]),
        )

    @property
    def figures(self) -> ControlFigures:
        """Draws, accuracies, losses and the mask's percentiles."""
        return ControlFigures(
            draws=len(self.runs), accuracy=tuple(run.accuracy for run in self.runs),
            loss=tuple(run.mean_loss.value for run in self.runs),
            percentile=Percentile(accuracy=self.accuracy_percentile, loss=self.loss_percentile),
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values."""
        return self.figures.as_dict()
