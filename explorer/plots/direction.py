"""What the card of a singular direction shows, as plotly figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from explorer.plots.style import BEFORE, ORANGE, SKY, WEBGL_FROM, frame

BINS = 48
_HEIGHT = 250


def spectrum(
    s: NDArray[np.float64],
    matrix: str,
    index: int,
    *,
    edge: float | None = None,
    labels: Mapping[int, str] | None = None,
) -> go.Figure:
    """The singular values of a matrix with one of them marked.

    Args:
        s: singular values.
        matrix: its key.
        index: which one is marked.
        edge: where the random bulk ends.
        labels: what some values are called, by index.
    """
    called = {i: escape(text) for i, text in (labels or {}).items() if s[i] > 0}
    positive = s > 0
    places = np.arange(len(s))[positive]
    line = go.Scatter if len(s) < WEBGL_FROM else go.Scattergl
    figure = go.Figure(
        [
            line(
                x=places,
                y=s[positive],
                ids=[f"{matrix}:{place}" for place in places],
                name="singular values",
                mode="markers",
                marker={"size": 6, "color": BEFORE},
                hovertemplate="%{x}: %{y:.4g}<extra></extra>",
            ),
            go.Scatter(
                x=[index],
                y=[s[index] if positive[index] else None],
                name="this one",
                mode="markers",
                marker={"size": 13, "color": ORANGE, "symbol": "diamond", "line": {"width": 1, "color": "#000000"}},
                hovertemplate="%{x}: %{y:.4g}<extra>this one</extra>",
            ),
        ]
    )
    sides = ["top right" if i < 0.7 * len(s) else "top left" for i in called]
    figure.add_scatter(
        x=list(called), y=[s[i] for i in called], text=list(called.values()), textposition=sides, name="labels",
        mode="text", textfont={"size": 11}, hoverinfo="skip", cliponaxis=False,
    )  # fmt: skip
    if edge is not None and edge > 0:
        figure.add_hline(y=edge, line={"width": 1, "dash": "dash", "color": BEFORE})
    figure.update_layout(title=f"Spectrum of {escape(matrix)}", **frame(_HEIGHT, showlegend=False))
    figure.update_xaxes(title="index")
    figure.update_yaxes(title="singular value", type="log", tickformat="~g", nticks=4)
    return figure


def gain_curve(gains: Sequence[float], changes: Sequence[float], errors: Sequence[float]) -> go.Figure:
    """The change of the loss along the gain of one value, with two standard errors on either side."""
    figure = go.Figure(
        go.Scatter(
            x=list(gains),
            y=list(changes),
            error_y={"type": "data", "array": [2 * one for one in errors], "color": BEFORE, "thickness": 1},
            mode="lines+markers",
            line={"color": SKY, "width": 2},
            marker={"size": 6},
            hovertemplate="gain %{x}: %{y:+.4g} nats<extra></extra>",
        )
    )
    figure.add_hline(y=0.0, line={"width": 1, "color": BEFORE})
    for gain, name in ((0.0, "removed"), (1.0, "as it is")):
        figure.add_vline(
            x=gain, line={"width": 1, "dash": "dot", "color": BEFORE}, annotation_text=name,
            annotation_position="top", annotation_font_size=11,
        )  # fmt: skip
    figure.update_layout(title="Gain curve", **frame(_HEIGHT, showlegend=False))
    figure.update_xaxes(title="gain", dtick=0.5)
    figure.update_yaxes(title="change of the loss, nats", tickformat="+.3~g")
    return figure


def activity(quantiles: Sequence[float], mean: float, corpus: str) -> go.Figure:
    """The histogram of x . u over all tokens of a corpus, from its quantiles at equal distances of probability."""
    edges, shares = histogram(np.asarray(quantiles, dtype=np.float64))
    middles = (edges[:-1] + edges[1:]) / 2
    figure = go.Figure(
        go.Bar(
            x=middles,
            y=shares,
            width=np.diff(edges),
            marker={"color": [ORANGE if one >= 0 else SKY for one in middles], "line": {"width": 0}},
            hovertemplate="x · u about %{x:.3g}: %{y:.1%} of the tokens<extra></extra>",
        )
    )
    figure.add_vline(
        x=mean, line={"width": 1, "dash": "dash", "color": BEFORE}, annotation_text="mean",
        annotation_position="top", annotation_font_size=11,
    )  # fmt: skip
    figure.update_layout(title=f"x · u in {escape(corpus)}", bargap=0, **frame(_HEIGHT, showlegend=False))
    figure.update_xaxes(title="x · u")
    figure.update_yaxes(title="share of tokens", tickformat=".0%")
    return figure


def histogram(quantiles: NDArray[np.float64], bins: int = BINS) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bins of equal width from the smallest to the largest value, and the share of values in each.

    Between two quantiles values are taken to be spread evenly; where several are equal their share lies at one point.
    """
    low, high = float(quantiles[0]), float(quantiles[-1])
    pad = 1e-9 * max(abs(low), abs(high), 1e-30)
    edges = np.linspace(low - pad, high + pad, bins + 1)
    shares = np.zeros(bins)
    each = 1.0 / (len(quantiles) - 1)
    for start, end in pairwise(quantiles.tolist()):
        overlap = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0.0, None)
        if end - start > pad and overlap.sum() > 0:
            shares += each * overlap / overlap.sum()
        else:
            shares[min(int(np.searchsorted(edges, start, side="right")) - 1, bins - 1)] += each
    return edges, shares
