"""Scores to plotly figures: the model as a map, and predicted against exact effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from explorer.plots.style import BEFORE, WEBGL_FROM

# Vermilion - grey - blue as in the plot of singular values, told apart in every common form of colour blindness.
SCALES = {
    False: [(0.0, "#a63603"), (0.25, "#e8703a"), (0.5, "#a3a3a3"), (0.75, "#4a9fd8"), (1.0, "#08519c")],
    True: [(0.0, "#ff7a33"), (0.25, "#d98a5f"), (0.5, "#80848c"), (0.75, "#5aa2dc"), (1.0, "#38b6ff")],
}
# Tol's "bright": safe for colour-blind eyes, seen on white and on black, and no colour that means something elsewhere.
KINDS = {
    "Q": ("#4477AA", "circle"),
    "K": ("#EE6677", "square"),
    "V": ("#228833", "diamond"),
    "O": ("#AA3377", "triangle-up"),
    "IN": ("#CCBB44", "cross"),
    "GATE": ("#66CCEE", "star"),
    "OUT": ("#999999", "x"),
}
POINTS = 20_000
GAP = 0.8  # columns between kinds
ROWS_HEIGHT, ROW, SMALLEST, LARGEST = (170, 720), 24, 6, 26  # pixels
_TICKS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)


@dataclass(frozen=True)
class Cell:
    """One place of the map.

    Attributes:
        matrix: the matrix that a click opens.
        layer, kind, head: where it stands; head is None without heads, or for all of a kind together.
        worst: the most harmful score in it, nats per example.
        harmful, values: how many of its values have negative scores, and how many it has.
        removed: how many the mask removes.
        index: which value of `matrix` has the most harmful score.
    """

    matrix: str
    layer: int
    kind: str
    head: int | None
    worst: float
    harmful: int
    values: int
    removed: int
    index: int = 0


def score_map(cells: Sequence[Cell], *, dark: bool = False) -> go.Figure:
    """Layers x matrices: colour = most harmful score, size = number of harmful values, ring = something is removed.

    Every point's `id` is the matrix that it opens.
    """
    places, starts = _columns(cells)
    layers = max(cell.layer for cell in cells) + 1
    height = min(max(ROW * layers, ROWS_HEIGHT[0]), ROWS_HEIGHT[1])
    largest = min(LARGEST, height / (layers + 0.2) - 3, 820 / (max(places.values()) + 2))
    figure = go.Figure(
        go.Scatter(
            x=[places[cell.kind, cell.head] for cell in cells],
            y=[cell.layer for cell in cells],
            ids=[cell.matrix for cell in cells],
            customdata=[
                (
                    cell.matrix,
                    cell.worst,
                    cell.harmful,
                    cell.values,
                    f"<br>{cell.removed:,} in the mask" * bool(cell.removed),
                )
                for cell in cells
            ],
            meta={"columns": ["matrix", "most harmful score (nats)", "harmful", "values", "removed"]},
            mode="markers",
            marker=_squares(cells, largest, dark=dark),
            hovertemplate="<b>%{customdata[0]}</b><br>most harmful score %{customdata[1]:+.3g} nats<br>"
            "%{customdata[2]:,} of %{customdata[3]:,} values harmful%{customdata[4]}<extra>click to open</extra>",
        )
    )
    figure.update_layout(
        height=height + 70, margin={"l": 34, "r": 10, "t": 26, "b": 44}, showlegend=False, hovermode="closest",
        clickmode="event+select", dragmode=False,
    )  # fmt: skip
    _label_axes(figure, places, layers)
    for kind, centre in starts.items():
        figure.add_annotation(
            x=centre, y=1, yref="paper", yanchor="bottom", yshift=4, text=f"<b>{kind}</b>", showarrow=False
        )
    return figure


def _squares(cells: Sequence[Cell], largest: float, *, dark: bool) -> dict[str, Any]:
    """Colour, size and ring of the cells; the largest square has `largest` pixels."""
    bound = _bound([cell.worst for cell in cells])
    most = max(max(cell.harmful for cell in cells), 1)
    return {
        "symbol": "square",
        "size": [_size(cell.harmful / most, largest) for cell in cells],
        "color": [cell.worst for cell in cells],
        "colorscale": SCALES[dark],
        "cmin": -bound,
        "cmax": bound,
        "opacity": 1,
        "line": {
            "color": "#ffffff" if dark else "#000000",
            "width": [2.5 if cell.removed else 0 for cell in cells],
        },
        "colorbar": {
            "title": {"text": "most harmful<br>score, nats", "font": {"size": 12}},
            "thickness": 10,
            "len": 1.15,
            "tickvals": [-bound, 0, bound],
            "ticktext": [f"{-bound:+.2g}", "0", f"{bound:+.2g}"],
            "tickfont": {"size": 11},
        },
    }


def _label_axes(figure: go.Figure, places: Mapping[tuple[str, int | None], float], layers: int) -> None:
    """Heads below, layers on the left, the first one on top."""
    names = {place: "" if head is None else str(head) for (_, head), place in places.items()}
    figure.update_xaxes(
        tickvals=list(names), ticktext=list(names.values()), tickfont={"size": 10}, tickangle=0, showgrid=False,
        zeroline=False, range=[-0.8, max(places.values()) + 0.8], title="head" if any(names.values()) else None,
    )  # fmt: skip
    shown = list(range(0, layers, max(1, round(layers / 15))))
    figure.update_yaxes(
        tickvals=shown, ticktext=[f"L{layer}" for layer in shown], range=[layers - 0.4, -0.6], zeroline=False
    )


def _columns(cells: Sequence[Cell]) -> tuple[dict[tuple[str, int | None], float], dict[str, float]]:
    """Where each (kind, head) stands, with a gap between kinds, and the middle of each kind."""
    order = {kind: position for position, kind in enumerate(KINDS)}
    columns = sorted(
        {(cell.kind, cell.head) for cell in cells},
        key=lambda one: (order[one[0]], -1 if one[1] is None else one[1]),
    )
    places: dict[tuple[str, int | None], float] = {}
    at, last = -1.0, None
    for kind, head in columns:
        at += 1.0 if kind == last or last is None else 1.0 + GAP
        places[kind, head] = at
        last = kind
    middles = {
        kind: float(np.mean([place for (one, _), place in places.items() if one == kind])) for kind, _ in columns
    }
    return places, middles


def _size(share: float, largest: float) -> float:
    """Side of a marker: its area grows with the share."""
    smallest = min(SMALLEST, largest)
    return float(smallest + (largest - smallest) * np.sqrt(share))


def _bound(scores: Sequence[float]) -> float:
    """End of the colour scale: one outlier must not grey the rest."""
    sizes = np.sort(np.abs(np.asarray(scores, dtype=float)))
    return float(sizes[int(0.99 * (len(sizes) - 1))] or sizes[-1] or 1.0)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Predicted and exact effects of the same values, nats per example.

    Attributes:
        names: such as `L0.Q.H3 17`, one per value.
        kinds: kind of each value's matrix.
        predicted, exact: the effects [n].
        predicted_stderr, exact_stderr: their standard errors [n]; NaN where there is none.
        called: what they are called [n], "" for nothing; empty where none is called anything.
    """

    names: Sequence[str]
    kinds: Sequence[str]
    predicted: NDArray[np.float64]
    exact: NDArray[np.float64]
    predicted_stderr: NDArray[np.float64]
    exact_stderr: NDArray[np.float64]
    called: Sequence[str] = ()

    def take(self, places: NDArray[np.intp]) -> Pairs:
        """Some of the values."""
        return Pairs(
            [self.names[i] for i in places], [self.kinds[i] for i in places], self.predicted[places],
            exact=self.exact[places], predicted_stderr=self.predicted_stderr[places],
            exact_stderr=self.exact_stderr[places], called=[self.called[i] for i in places] if self.called else (),
        )  # fmt: skip


def predicted_exact(pairs: Pairs, *, log: bool = True) -> go.Figure:
    """Exact effect over prediction, with standard errors and the line on which they agree.

    At most POINTS values, at even distances, are drawn. `log` stretches both axes around zero: asinh of effect over
    a thousandth of a nat, linear below that and logarithmic above.
    """
    if len(pairs.names) > POINTS:
        pairs = pairs.take(np.linspace(0, len(pairs.names) - 1, POINTS).astype(np.intp))
    ends = _ends(pairs, log)
    figure = go.Figure(
        go.Scatter(
            x=ends, y=ends, mode="lines", line={"color": BEFORE, "dash": "dash", "width": 1.5}, hoverinfo="skip",
            name="equal", showlegend=False,
        )
    )  # fmt: skip
    for kind in (kind for kind in KINDS if kind in pairs.kinds):
        one = pairs.take(np.flatnonzero(np.asarray(pairs.kinds) == kind))
        figure.add_trace(_kind_trace(kind, one, log=log, many=len(pairs.names) > WEBGL_FROM))
    axis = _axis(ends, log)
    figure.update_layout(
        height=420, margin={"l": 10, "r": 10, "t": 10, "b": 10}, hovermode="closest",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        xaxis={"title": "predicted change of the loss, nats", **axis},
        yaxis={"title": "exact change, nats", **axis},
    )  # fmt: skip
    return figure


def _kind_trace(kind: str, pairs: Pairs, *, log: bool, many: bool) -> go.Scatter | go.Scattergl:
    colour, symbol = KINDS[kind]
    make = go.Scattergl if many else go.Scatter
    return make(
        x=_scaled(pairs.predicted, log),
        y=_scaled(pairs.exact, log),
        error_x=_bars(pairs.predicted, pairs.predicted_stderr, log),
        error_y=_bars(pairs.exact, pairs.exact_stderr, log),
        ids=list(pairs.names),
        customdata=np.column_stack(
            [
                np.asarray(_titles(pairs), dtype=object),
                pairs.predicted,
                pairs.exact,
                pairs.predicted_stderr,
                pairs.exact_stderr,
            ]
        ),
        meta={"columns": ["value", "predicted (nats)", "exact (nats)", "predicted ±", "exact ±"]},
        mode="markers",
        name=kind,
        marker={"color": colour, "symbol": symbol, "size": 5 if many else 8, "opacity": 0.85},
        hovertemplate="<b>%{customdata[0]}</b><br>predicted %{customdata[1]:+.4g}<br>exact %{customdata[2]:+.4g}"
        "<extra></extra>",
    )


def _titles(pairs: Pairs) -> list[str]:
    """The names with what the values are called behind them."""
    called = pairs.called or [""] * len(pairs.names)
    return [f"{name} · {escape(text)}" if text else name for name, text in zip(pairs.names, called, strict=True)]


def _scaled(values: NDArray[np.float64], log: bool) -> NDArray[np.float64]:
    return np.arcsinh(values / _TICKS[0]) if log else values


def _bars(values: NDArray[np.float64], stderr: NDArray[np.float64], log: bool) -> dict[str, object]:
    """Error bars of one standard error, as long on the stretched axis as they are there; none where NaN."""
    known = np.nan_to_num(stderr)
    at = _scaled(values, log)
    return {
        "type": "data", "symmetric": False, "array": _scaled(values + known, log) - at,
        "arrayminus": at - _scaled(values - known, log), "thickness": 1, "width": 0, "visible": bool(known.any()),
    }  # fmt: skip


def _ends(pairs: Pairs, log: bool) -> tuple[float, float]:
    """Common ends of both axes, in their scale: everything with its error, zero too, and a margin."""
    low, high = 0.0, 0.0
    for values, stderr in ((pairs.predicted, pairs.predicted_stderr), (pairs.exact, pairs.exact_stderr)):
        known = np.nan_to_num(stderr)
        low = min(low, float(_scaled(values - known, log).min()))
        high = max(high, float(_scaled(values + known, log).max()))
    margin = 0.06 * max(high - low, _TICKS[0])
    return low - margin, high + margin


def _axis(ends: tuple[float, float], log: bool) -> dict[str, object]:
    """Range, and on a stretched axis ticks at powers of ten in nats."""
    axis: dict[str, object] = {"range": list(ends)}
    if log:
        ticks = np.asarray([-tick for tick in reversed(_TICKS)] + [0.0, *_TICKS])
        inside = ticks[(_scaled(ticks, log) >= ends[0]) & (_scaled(ticks, log) <= ends[1])]
        if np.abs(inside).max() > 0.01:  # those next to zero would run into it
            inside = inside[np.abs(inside) != _TICKS[0]]
        axis["tickvals"] = _scaled(inside, log).tolist()
        axis["ticktext"] = [f"{tick:+g}" if tick else "0" for tick in inside]
    return axis
