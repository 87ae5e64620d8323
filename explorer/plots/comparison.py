"""What changed in a matrix from one model to another, as plotly figures."""

from __future__ import annotations

import plotly.graph_objects as go
import torch

from explorer.plots.style import BEFORE, DIFFERENCE, ORANGE, SKY
from explorer.spectra.comparison import SpectrumDiff, SubspaceOverlap

HEIGHT = 300
_MARGIN = {"l": 10, "r": 10, "t": 36, "b": 10}
_LEGEND = {"orientation": "h", "y": -0.3}


def difference(found: SpectrumDiff) -> go.Figure:
    """Singular values of the difference beside the base's, on one logarithmic axis, down to the rounding of weights."""
    floor = torch.finfo(torch.float32).eps * float(max(found.base.s[0], found.difference[0]))
    figure = go.Figure(
        [
            go.Scatter(
                y=[value if value > floor else None for value in s.tolist()],
                x=list(range(len(s))),
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 1, "dash": dash},
                marker={"size": 5, "symbol": symbol},
                hovertemplate="%{x}: %{y:.4g}<extra>" + name + "</extra>",
            )
            for s, name, colour, dash, symbol in (
                (found.base.s, "W of the base", BEFORE, "dash", "circle-open"),
                (found.difference, "W' - W", DIFFERENCE, "solid", "diamond"),
            )
        ]
    )
    figure.update_layout(
        title="Spectrum of the difference", xaxis_title="index", height=HEIGHT, margin=_MARGIN, legend=_LEGEND
    )
    figure.update_yaxes(title="singular value", type="log", tickformat="~g", nticks=4)
    return figure


def changes(found: SpectrumDiff) -> go.Figure:
    """Relative change of each singular value."""
    values = found.relative_change.tolist()
    figure = go.Figure(
        go.Scatter(
            x=list(range(len(values))),
            y=values,
            mode="markers",
            marker={"size": 6, "color": DIFFERENCE},
            hovertemplate="%{x}: %{y:+.2%}<extra></extra>",
        )
    )
    figure.update_layout(
        title="Relative change of each singular value", xaxis_title="index", height=HEIGHT, margin=_MARGIN
    )
    figure.update_yaxes(title="(s' - s) / s", tickformat="+.2~%", zeroline=True)
    return figure


def overlaps(found: SubspaceOverlap) -> go.Figure:
    """Cosines of the principal angles between leading singular subspaces, beside those of random ones."""
    angles = list(range(1, found.k + 1))
    sides = ((found.left, "inputs, u", ORANGE, "circle"), (found.right, "outputs, v", SKY, "square"))
    figure = go.Figure()
    for side, name, colour, symbol in sides:
        for values, label, dash, mode in (
            (side.cosines, name, "solid", "lines+markers"),
            (side.chance, f"chance, {name[-1]}", "dot", "lines"),
        ):
            figure.add_scatter(
                x=angles,
                y=values.tolist(),
                name=label,
                mode=mode,
                line={"color": colour, "dash": dash, "width": 1.5},
                marker={"symbol": symbol, "size": 7},
                hovertemplate="angle %{x}: cosine %{y:.3f}<extra>" + label + "</extra>",
            )
    figure.update_layout(
        title=f"Overlap of the {found.k} leading directions",
        xaxis_title="principal angle, smallest first",
        yaxis={"title": "cosine", "range": [-0.03, 1.05]},
        height=HEIGHT,
        margin=_MARGIN,
        legend=_LEGEND,
    )
    return figure
