"""What controls do on the same examples as the mask, and how many of them it beats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.measure.evaluate import Evaluation
from explorer.search.controls import beaten


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

    def as_dict(self) -> dict[str, Any]:
        """Draws, accuracies, losses and the mask's percentiles."""
        return {
            "draws": len(self.runs),
            "accuracy": [run.accuracy for run in self.runs],
            "loss": [run.mean_loss.value for run in self.runs],
            "percentile": {"accuracy": self.accuracy_percentile, "loss": self.loss_percentile},
        }
