"""What masks share, as plotly figures."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import plotly.graph_objects as go

from explorer.masks.sets import MaskOverlap
from explorer.plots.style import AFTER, BEFORE, ORANGE

MATRICES = 40
_BAR, _AROUND = 24, 110  # pixels


def shared_values(overlaps: Mapping[str, MaskOverlap], first: str, second: str) -> go.Figure:
    """Values in the first mask only, in both and in the second only, one bar per matrix.

    Args:
        overlaps: per matrix what the masks share; of more than `MATRICES`, those with the most values are drawn.
        first: what the first mask is called.
        second: what the second mask is called.
    """
    ordered = sorted(overlaps, key=lambda key: -sum(_parts(overlaps[key])))[:MATRICES]
    keys = [key for key in overlaps if key in ordered]
    figure = go.Figure(
        [
            go.Bar(
                y=keys,
                x=[_parts(overlaps[key])[place] for key in keys],
                name=escape(name),
                orientation="h",
                marker={"color": colour, "pattern": {"shape": pattern}},
                hovertemplate="%{y}: %{x} values<extra>" + escape(name) + "</extra>",
            )
            for place, (name, colour, pattern) in enumerate(
                ((f"only {first}", ORANGE, ""), ("both", BEFORE, "/"), (f"only {second}", AFTER, ""))
            )
        ]
    )
    most = max((sum(_parts(overlaps[key])) for key in keys), default=1)
    figure.update_layout(
        barmode="stack",
        height=_AROUND + _BAR * len(keys),
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"title": "values", "tickformat": ",d", "tick0": 0, "dtick": max(1, round(most / 5))},
        yaxis={"type": "category", "autorange": "reversed"},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "traceorder": "normal"},
    )
    return figure


def _parts(overlap: MaskOverlap) -> tuple[int, int, int]:
    return overlap.only_first, overlap.both, overlap.only_second
