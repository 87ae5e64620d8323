"""What a mask does inside, as plotly figures: all heads at once, and what a removed value wrote."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from explorer.plots.style import (
    AFTER,
    BEFORE,
    LABELLED_LAYERS,
    MORE_OR_LESS,
    ORANGE,
    frame,
    layer_labels,
    position_labels,
    scale_end,
)

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


def attention(
    pattern: NDArray[np.float64], tokens: Sequence[str], title: str, *, difference: bool = False
) -> go.Figure:
    """One head's attention pattern [query, key], or the difference of two."""
    labels = position_labels(tokens)
    bound = scale_end(pattern) if difference else 1.0
    figure = go.Figure(
        go.Heatmap(
            z=pattern,
            x=labels,
            y=labels,
            zmin=-bound if difference else 0.0,
            zmax=bound,
            colorscale=MORE_OR_LESS if difference else "Cividis",
            colorbar={"thickness": 10, "len": 0.9},
            hovertemplate="from %{y}<br>to %{x}<br>%{z:.3f}<extra></extra>",
        )
    )
    figure.update_layout(title=escape(title), **frame(height=340))
    figure.update_xaxes(type="category", tickangle=-45)
    figure.update_yaxes(type="category", autorange="reversed")
    return figure


def residual_change(change: NDArray[np.float64], tokens: Sequence[str], first: int | None = None) -> go.Figure:
    """Relative change of the residual stream [layer + 1, position]; row 0 is what the first block reads.

    `first` is the first layer whose output differs, to be marked.
    """
    figure = go.Figure(
        go.Heatmap(
            z=change,
            x=position_labels(tokens),
            y=layer_labels(change.shape[0]),
            zmin=0.0,
            zmax=scale_end(change),
            colorscale="Cividis",
            colorbar={"thickness": 10, "len": 0.9, "tickformat": ".0%"},
            hovertemplate="%{y}, %{x}<br>changed by %{z:.2%} of its norm<extra></extra>",
        )
    )
    figure.update_layout(title="Residual stream: change relative to its norm", **frame(height=340))
    figure.update_xaxes(type="category", tickangle=-45)
    labels = layer_labels(change.shape[0])
    row = None if first is None else first + 1  # places on the category axes
    step = -(-len(labels) // LABELLED_LAYERS)
    labelled = [
        place for place in range(len(labels)) if place % step == 0 and (row is None or abs(place - row) >= step)
    ]
    labelled += [] if row is None else [row]
    figure.update_yaxes(
        type="category",
        tickmode="array",
        tickvals=[labels[place] for place in labelled],
        ticktext=[f"<b>▶ {labels[place]}</b>" if place == row else labels[place] for place in labelled],
    )
    if row is not None:
        figure.add_shape(
            type="rect", x0=-0.5, x1=len(tokens) - 0.5, y0=row - 0.5, y1=row + 0.5, line={"color": ORANGE, "width": 3}
        )
    return figure


def lens(before: Sequence[float], after: Sequence[float], token: str) -> go.Figure:
    """Logit lens of one token per layer: its probability before and after the mask."""
    labels = layer_labels(len(before))
    figure = go.Figure(
        [
            go.Scatter(
                x=labels,
                y=np.exp(values),
                name=name,
                mode="lines+markers",
                line={"color": colour, "dash": dash},
                hovertemplate="%{x}: %{y:.2%}<extra>" + name + "</extra>",
            )
            for name, values, colour, dash in (
                ("unpruned", before, BEFORE, "dash"),
                ("with the mask", after, AFTER, "solid"),
            )
        ]
    )
    figure.update_layout(
        title=f"Logit lens: probability of {escape(repr(token))}",
        yaxis={"tickformat": ".0%", "range": [-0.02, 1.02]},
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        **{**frame(height=320), "margin": {**_MARGIN, "t": 60}},  # the legend has a line of its own
    )
    figure.update_xaxes(type="category")
    return figure
