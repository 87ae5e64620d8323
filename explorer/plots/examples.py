"""Examples as points: the loss with a mask over the loss before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go

from explorer.plots.style import AFTER, BEFORE, ORANGE, SKY

PALETTE = (BEFORE, SKY, AFTER, ORANGE)


@dataclass(frozen=True)
class ExamplePoint:
    """One example.

    Attributes:
        id: what a click on it sends.
        text: what it shows.
        before, after: its loss, nats.
        group: what its colour says.
    """

    id: str
    text: str
    before: float
    after: float
    group: str


def losses(points: Sequence[ExamplePoint], groups: Sequence[str]) -> go.Figure:
    """Loss with the mask over loss before, where both are finite; below the diagonal the mask helps.

    Args:
        points: the examples.
        groups: all groups that there may be, up to four, so that each keeps its colour.
    """
    shown = [one for one in points if math.isfinite(one.before) and math.isfinite(one.after)]
    figure = go.Figure()
    for group, colour in zip(groups, PALETTE, strict=False):
        mine = [one for one in shown if one.group == group]
        if not mine:
            continue
        figure.add_scatter(
            x=[one.before for one in mine], y=[one.after for one in mine], ids=[one.id for one in mine],
            customdata=[[escape(one.text)] for one in mine], mode="markers", name=group,
            marker={"color": colour, "size": 8, "opacity": 0.75},
            hovertemplate="%{customdata[0]}<br>%{x:.3f} nats before, %{y:.3f} with the mask<extra></extra>",
        )  # fmt: skip
    most = max((max(one.before, one.after) for one in shown), default=1.0)
    figure.add_shape(type="line", x0=0, y0=0, x1=most, y1=most, line={"color": BEFORE, "width": 1, "dash": "dash"})
    figure.update_layout(
        height=380,
        showlegend=True,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "y": -0.2},
        xaxis={"title": "loss before, nats", "automargin": True, "rangemode": "tozero"},
        yaxis={"title": "loss with the mask, nats", "automargin": True, "rangemode": "tozero"},
        clickmode="event+select",
    )
    return figure
