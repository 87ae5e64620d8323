"""The spectra of matrices, as plotly figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.colors import sample_colorscale

from explorer.plots.style import BEFORE, DASHES, MANY, WEBGL_FROM, frame


def energy(curves: Mapping[str, NDArray[np.float64]], quantiles: Sequence[float] = ()) -> go.Figure:
    """Cumulative energy of one or more matrices over the number of singular values.

    Args:
        curves: per matrix the share of energy in its first i + 1 values.
        quantiles: shares to mark where each curve first reaches them, with the number of values it takes; not marked
            on more than `MANY` curves, whose colours follow their order.
    """
    many = len(curves) > MANY
    colours = sample_colorscale("Viridis", np.linspace(0, 0.9, len(curves))) if many else [None] * len(curves)
    line = go.Scatter if sum(map(len, curves.values())) < WEBGL_FROM else go.Scattergl
    figure = go.Figure(
        [
            line(
                x=np.arange(1, len(values) + 1),
                y=values,
                name=escape(name),
                mode="lines",
                line={"dash": DASHES[position % len(DASHES)], "color": colours[position]},
                hovertemplate="%{x} values: %{y:.2%}<extra>" + escape(name) + "</extra>",
            )
            for position, (name, values) in enumerate(curves.items())
        ]
    )
    if quantiles and not many:
        _mark(figure, curves, quantiles)
    figure.update_layout(
        title="Cumulative energy",
        xaxis_title="singular values kept (largest first)",
        yaxis={"title": "share of squared norm", "tickformat": ".0%", "range": [0, 1.02]},
        legend={"orientation": "h", "y": -0.28, "maxheight": 60},
        **frame(showlegend=len(curves) > 1),
    )
    return figure


def _mark(figure: go.Figure, curves: Mapping[str, NDArray[np.float64]], quantiles: Sequence[float]) -> None:
    """Mark on each curve where it first reaches each share, with the number of values; a line across for each share."""
    for position, (name, values) in enumerate(curves.items()):
        counts = [1 + int(np.argmax(values >= share * (1 - 1e-12))) for share in quantiles]
        figure.add_scatter(
            x=counts,
            y=[values[count - 1] for count in counts],
            text=[str(count) for count in counts],
            customdata=list(quantiles),
            name=escape(name),
            mode="markers+text" if len(curves) == 1 else "markers",
            textposition="bottom right",
            marker={"size": 8, "symbol": position, "color": BEFORE},
            showlegend=False,
            hovertemplate="%{customdata:.0%} in %{x} values<extra>" + escape(name) + "</extra>",
        )
    for share in quantiles:
        figure.add_hline(y=share, line={"width": 1, "dash": "dot", "color": BEFORE})
