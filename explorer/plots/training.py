"""One matrix over training, as a plotly figure."""

from __future__ import annotations

from html import escape

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from explorer.plots.style import ORANGE, SKY
from explorer.spectra.training import Course

HEIGHT = 380
VALUES = 12  # that are drawn one by one
_MARGIN = {"l": 10, "r": 10, "t": 56, "b": 10}


def course(found: Course) -> go.Figure:
    """The leading singular values over checkpoints, and beside them how far their directions are those of other stages.

    Solid lines compare a checkpoint with the last one, dashed ones with the one before it, dotted ones with chance.
    """
    names = [escape(one.name.rstrip("/\\").replace("\\", "/").split("/")[-1][-28:]) for one in found.stages]
    places = list(range(len(names)))
    figure = make_subplots(
        rows=1, cols=2, subplot_titles=("singular values", f"overlap of the {found.k} leading directions"),
        horizontal_spacing=0.1,
    )  # fmt: skip
    _add_values(figure, found, places)
    _add_overlaps(figure, found, places)
    figure.update_xaxes(tickmode="array", tickvals=places, ticktext=names)
    figure.update_yaxes(title="singular value", exponentformat="power", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title="mean squared cosine", range=[-0.03, 1.05], row=1, col=2)
    figure.update_layout(
        title=f"{found.key} over training", height=HEIGHT, margin=_MARGIN, legend={"orientation": "h", "y": -0.25}
    )
    return figure


def _add_values(figure: go.Figure, found: Course, places: list[int]) -> None:
    """The largest singular values, one line each."""
    count = min(VALUES, len(found.stages[0].s))
    colours = sample_colorscale("Viridis", np.linspace(0, 0.9, count))
    for index in range(count):
        figure.add_scatter(
            x=places, y=[float(one.s[index]) for one in found.stages], mode="lines+markers", name=f"value {index}",
            line={"color": colours[index], "width": 1.5}, marker={"size": 5}, showlegend=False,
            hovertemplate=f"value {index}: %{{y:.4g}}<extra>%{{x}}</extra>", row=1, col=1,
        )  # fmt: skip


def _add_overlaps(figure: go.Figure, found: Course, places: list[int]) -> None:
    """Similarity with the last checkpoint, with the one before, and by chance: of inputs and of outputs."""
    for side, name, colour, symbol in (("left", "inputs, u", ORANGE, "circle"), ("right", "outputs, v", SKY, "square")):
        lines = (
            ([getattr(one, side) for one in found.with_last], f"{name}: with the last", "solid", "lines+markers"),
            (
                [None if one is None else getattr(one, side) for one in found.with_previous],
                f"{name}: with the one before", "dash", "lines+markers",
            ),
            ([found.chance[side == "right"]] * len(places), f"{name}: chance", "dot", "lines"),
        )  # fmt: skip
        for values, label, dash, mode in lines:
            figure.add_scatter(
                x=places, y=values, name=label, mode=mode, line={"color": colour, "dash": dash, "width": 1.5},
                marker={"symbol": symbol, "size": 7}, hovertemplate="%{y:.3f}<extra>" + label + "</extra>",
                row=1, col=2,
            )  # fmt: skip
