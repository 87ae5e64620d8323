"""A mask beside random ones, as a plotly figure."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from explorer.plots.style import AFTER, BEFORE, frame


def controls(draws: Sequence[float], masked: float, baseline: float, name: str = "random masks") -> go.Figure:
    """Accuracies of the masks of a control, `name`, as points on a line, beside the mask's and the unpruned model's."""
    figure = go.Figure(
        [
            go.Scatter(
                x=list(draws),
                y=[name] * len(draws),
                mode="markers",
                marker={"color": BEFORE, "opacity": 0.5, "size": 11},
                name="random",
            ),
            go.Scatter(
                x=[masked],
                y=["this mask"],
                mode="markers",
                marker={"color": AFTER, "symbol": "diamond", "size": 13},
                name="mask",
            ),
            go.Scatter(
                x=[baseline],
                y=["unpruned"],
                mode="markers",
                marker={"color": BEFORE, "symbol": "x", "size": 11},
                name="unpruned",
            ),
        ]
    )
    figure.update_traces(hovertemplate="%{y}: %{x:.1%}<extra></extra>")
    figure.update_layout(
        xaxis={"title": "accuracy", "tickformat": ".0%", "range": [-0.03, 1.03]}, **frame(height=220, showlegend=False)
    )
    return figure
