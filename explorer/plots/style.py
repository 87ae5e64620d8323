"""Results to plotly figures. Pure: no state, no screen; text from users goes in as data, escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.colors import sample_colorscale

# Okabe-Ito: told apart by colour-blind readers, and by dash or marker besides. Each means one thing everywhere.
HARMFUL, NEEDED, BEFORE, AFTER = "#D55E00", "#0072B2", "#7f7f7f", "#009E73"
DIFFERENCE = "#CC79A7"  # of two models
ORANGE, SKY = "#E69F00", "#3A8DCB"  # series and marks that are none of these
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
MORE_OR_LESS = [(0.0, "#762A83"), (0.5, "#F5F5F5"), (1.0, "#1B7837")]  # than unpruned
CONFIG = {"displaylogo": False, "showSendToCloud": False, "toImageButtonOptions": {"format": "svg"}}
NOTHING = 1e-6
LABELLED_LAYERS = 12  # more would run into each other
MANY = 6  # curves that are told apart by hue
WEBGL_FROM = 3_000  # points that SVG would draw slowly
_MARGIN = {"l": 10, "r": 10, "t": 36, "b": 10}


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
        **_frame(showlegend=len(curves) > 1),
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


def attention(
    pattern: NDArray[np.float64], tokens: Sequence[str], title: str, *, difference: bool = False
) -> go.Figure:
    """One head's attention pattern [query, key], or the difference of two."""
    labels = position_labels(tokens)
    bound = _bound(pattern) if difference else 1.0
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
    figure.update_layout(title=escape(title), **_frame(height=340))
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
            zmax=_bound(change),
            colorscale="Cividis",
            colorbar={"thickness": 10, "len": 0.9, "tickformat": ".0%"},
            hovertemplate="%{y}, %{x}<br>changed by %{z:.2%} of its norm<extra></extra>",
        )
    )
    figure.update_layout(title="Residual stream: change relative to its norm", **_frame(height=340))
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
        **{**_frame(height=320), "margin": {**_MARGIN, "t": 60}},  # the legend has a line of its own
    )
    figure.update_xaxes(type="category")
    return figure


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
        xaxis={"title": "accuracy", "tickformat": ".0%", "range": [-0.03, 1.03]}, **_frame(height=220, showlegend=False)
    )
    return figure


def position_labels(tokens: Sequence[str]) -> list[str]:
    """Axis labels of positions: the token with its spaces visible, made distinct by its position."""
    return [
        f"{position} {escape(token.replace(' ', '␣').replace(chr(10), '⏎'))}" for position, token in enumerate(tokens)
    ]


def layer_labels(count: int) -> list[str]:
    """Axis labels of the residual stream's entries: before the first block, then after each one."""
    return ["embed", *(f"L{layer}" for layer in range(count - 1))]


def _bound(values: NDArray[np.float64]) -> float:
    """End of a colour scale: the largest modulus, or 1 where nothing differs by more than rounding."""
    largest = float(np.abs(values).max())
    return largest if largest > NOTHING else 1.0


def _frame(height: int = 320, *, showlegend: bool = True) -> dict[str, object]:
    return {"height": height, "margin": _MARGIN, "showlegend": showlegend}
