"""What a mask does inside, as plotly figures: all heads at once, and what a removed value wrote. Pure, like `plots`."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from explorer.plots.style import AFTER, BEFORE, MORE_OR_LESS, ORANGE, position_labels

COLUMNS, PANEL = 4, 190  # panels in a row; pixels of height
TOP = 1e-6
_MARGIN = {"l": 10, "r": 10, "t": 48, "b": 10}


def every_head(
    patterns: NDArray[np.float64], tokens: Sequence[str], title: str, *, difference: bool = False
) -> go.Figure:
    """The patterns of a layer's heads [head, query, key] as small multiples, on one colour scale."""
    heads = len(patterns)
    columns = min(COLUMNS, heads)
    rows = ceil(heads / columns)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=[f"head {head}" for head in range(heads)],
        horizontal_spacing=0.03,
        vertical_spacing=min(0.5 / rows, 36 / (PANEL * rows)),
        shared_xaxes="all",
        shared_yaxes="all",
    )
    labels = position_labels(tokens)
    for head, pattern in enumerate(patterns):
        figure.add_heatmap(
            z=pattern,
            x=labels,
            y=labels,
            name=f"head {head}",
            coloraxis="coloraxis",
            hovertemplate=f"head {head}<br>from %{{y}}<br>to %{{x}}<br>%{{z:.3f}}<extra></extra>",
            row=head // columns + 1,
            col=head % columns + 1,
        )
    bound = max(float(np.abs(patterns).max()), TOP) if difference else 1.0
    figure.update_layout(
        title=escape(title),
        height=PANEL * rows + 70,
        margin=_MARGIN | {"t": 70},
        coloraxis={
            "cmin": -bound if difference else 0.0,
            "cmax": bound,
            "colorscale": MORE_OR_LESS if difference else "Cividis",
            "colorbar": {"thickness": 10, "len": 0.9},
        },
    )
    figure.update_annotations(font_size=12)
    figure.update_xaxes(type="category", showticklabels=False)
    figure.update_yaxes(type="category", showticklabels=False, autorange="reversed")
    return figure


def head_changes(change: NDArray[np.float64]) -> go.Figure:
    """How much attention each head moved [layer, head], 0 to 1; the head that moved most is marked."""
    layers, heads = change.shape
    figure = go.Figure(
        go.Heatmap(
            z=change,
            x=[f"H{head}" for head in range(heads)],
            y=[f"L{layer}" for layer in range(layers)],
            zmin=0.0,
            zmax=max(float(change.max()), TOP),
            colorscale="Cividis",
            colorbar={"thickness": 10, "len": 0.9, "tickformat": ".0%"},
            hovertemplate="%{y} head %{x}<br>%{z:.1%} of its attention moved<extra></extra>",
        )
    )
    if float(change.max()) > TOP:
        layer, head = np.unravel_index(int(change.argmax()), change.shape)
        figure.add_shape(
            type="rect", x0=head - 0.5, x1=head + 0.5, y0=layer - 0.5, y1=layer + 0.5,
            line={"color": ORANGE, "width": 3},
        )  # fmt: skip
    figure.update_layout(title="Attention moved, per head", height=340, margin=_MARGIN)
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category")
    return figure


def written(before: NDArray[np.float64], after: NDArray[np.float64], tokens: Sequence[str], title: str) -> go.Figure:
    """What one removed value wrote along its v at every token, and what stands there instead."""
    labels = position_labels(tokens)
    figure = go.Figure(
        [
            go.Bar(
                x=labels,
                y=before,
                name="unpruned",
                marker={"color": BEFORE},
                hovertemplate="%{x}: wrote %{y:.4g}<extra>unpruned</extra>",
            ),
            go.Scatter(
                x=labels,
                y=after,
                name="with the mask",
                mode="lines+markers",
                line={"color": AFTER, "width": 2},
                marker={"size": 5},
                hovertemplate="%{x}: %{y:.4g}<extra>with the mask</extra>",
            ),
        ]
    )
    figure.update_layout(
        title=escape(title),
        height=300,
        margin=_MARGIN,
        yaxis={"title": "s (x · u), along v"},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1.0, "xanchor": "right"},
    )
    figure.update_xaxes(type="category", tickangle=-45)
    return figure
