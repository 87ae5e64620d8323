"""The curve that the Prune page's slider moves along, as a plotly figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from explorer.measure.metrics import Mean
from explorer.plots.style import AFTER, BEFORE, ORANGE


@dataclass(frozen=True)
class CurvePoint:
    """What removing the k lowest-scored values does.

    Attributes:
        count: k.
        accuracy: share of examples answered exactly.
        loss_change: measured, paired, nats per example.
        predicted: the sum of the scores, nats per example.
    """

    count: int
    accuracy: float
    loss_change: Mean
    predicted: float


def lowest_curve(points: Sequence[CurvePoint], accuracy: float, count: int | None, state: str = "removed") -> go.Figure:
    """Measured and predicted change of the loss, and the accuracy, over the number of lowest-scored values removed.

    Args:
        points: in order of their counts, all above 0.
        accuracy: the unpruned model's.
        count: where the slider stands.
        state: what the values are, such as `scaled to 50 %`.
    """
    x = [point.count for point in points]
    figure = go.Figure(
        [
            go.Scatter(
                x=x,
                y=[point.loss_change.value for point in points],
                error_y={"array": [point.loss_change.stderr for point in points], "width": 2},
                name="loss, measured",
                line={"color": AFTER},
                hovertemplate=f"%{{x}} {state}: %{{y:+.3f}} nats<extra>measured</extra>",
            ),
            go.Scatter(
                x=x,
                y=[point.predicted for point in points],
                name="loss, predicted",
                line={"color": AFTER, "dash": "dot"},
                hovertemplate=f"%{{x}} {state}: %{{y:+.3f}} nats<extra>predicted</extra>",
            ),
            go.Scatter(
                x=x,
                y=[point.accuracy for point in points],
                name="accuracy",
                yaxis="y2",
                line={"color": ORANGE, "dash": "dash"},
                hovertemplate=f"%{{x}} {state}: %{{y:.1%}}<extra>accuracy</extra>",
            ),
        ]
    )
    figure.add_hline(y=accuracy, yref="y2", line={"color": BEFORE, "width": 1, "dash": "dash"})
    if count:
        figure.add_vline(x=count, line={"color": BEFORE, "width": 2})
    measured = [point.loss_change.value for point in points]
    room = 0.1 * (max(measured) - min(measured)) or 1.0
    figure.update_layout(
        height=260,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "y": -0.35},
        xaxis={"title": f"lowest-scored values {state}", "type": "log", "automargin": True},
        # Predictions for many values leave the measured range by far: it stays readable.
        yaxis={"title": "loss change, nats", "range": [min(0.0, *measured) - room, max(0.0, *measured) + room]},
        yaxis2={
            "title": "accuracy",
            "tickformat": ".0%",
            "tickvals": [0, 0.25, 0.5, 0.75, 1],
            "overlaying": "y",
            "side": "right",
            "range": [0, 1.03],
            "showgrid": False,
        },
    )
    return figure
