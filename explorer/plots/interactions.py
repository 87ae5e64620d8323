"""How the removals of some values act together, as figures: pairs beyond their sums, and the best order."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from explorer.attribution.interactions import Interactions, links
from explorer.plots.style import AFTER, BEFORE, MORE_OR_LESS, ORANGE, frame, scale_end

Shown = Literal["beyond the sum", "together", "sum"]


def in_clusters(found: Interactions) -> list[int]:
    """The values' places, those of one cluster side by side, the largest cluster first, then the rest in order."""
    linked = [place for cluster in sorted(found.clusters, key=len, reverse=True) for place in cluster]
    return linked + [place for place in range(len(found.values)) if place not in linked]


def pair_effects(found: Interactions, names: Sequence[str], shown: Shown = "beyond the sum") -> go.Figure:
    """A heat map of all pairs: what both do together, the sum of what each does alone, or the difference.

    Pairs that are linked (`explorer.attribution.interactions.links`) have a mark; clusters lie side by side. The
    diagonal holds single effects, where what is shown has some.

    Args:
        found: what was measured.
        names: of the values.
        shown: of each pair.
    """
    order, n = in_clusters(found), len(found.values)
    single = np.array([one.effect for one in found.values])
    sums = single[:, None] + single[None, :]
    together, beyond, sure = np.full((n, n), np.nan), np.full((n, n), np.nan), np.zeros((n, n), dtype=bool)
    for one in found.pairs:
        for i, j in ((one.first, one.second), (one.second, one.first)):
            together[i, j], beyond[i, j] = one.effect, one.interaction
    for one in links(found.pairs, single.tolist()):
        sure[one.first, one.second] = sure[one.second, one.first] = True
    np.fill_diagonal(sums, single)
    np.fill_diagonal(together, single)
    grid = np.ix_(order, order)
    cells = {"beyond the sum": beyond, "together": together, "sum": sums}[shown][grid]
    bound = scale_end(np.nan_to_num(cells))
    labels = [escape(names[place]) for place in order]
    figure = go.Figure(
        go.Heatmap(
            z=cells,
            x=labels,
            y=labels,
            zmin=-bound,
            zmax=bound,
            text=np.where(sure[grid], "•", ""),
            texttemplate="%{text}",
            customdata=np.stack([together[grid], sums[grid], beyond[grid]], axis=-1),
            colorscale=MORE_OR_LESS,
            colorbar={"thickness": 10, "len": 0.9, "title": "nats"},
            hovertemplate=(
                "%{y}, %{x}<br>together %{customdata[0]:+.4f}<br>sum of both %{customdata[1]:+.4f}<br>beyond the sum "
                "%{customdata[2]:+.4f}<extra></extra>"
            ),
        )
    )
    figure.update_layout(title=f"Pairs: {shown}", **frame(height=max(360, 18 * n + 160)))
    figure.update_xaxes(type="category", tickangle=-45, showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    return figure


def shortest(found: Interactions) -> int:
    """How many steps of the greedy order reach its lowest loss within that one's standard error."""
    best = min(found.greedy, key=lambda one: one.effect)
    enough = best.effect + (best.stderr if np.isfinite(best.stderr) else 0.0)
    return next(step for step, one in enumerate(found.greedy, start=1) if one.effect <= enough)


def orders(found: Interactions, names: Sequence[str]) -> go.Figure:
    """The effect of all values so far along the greedy order, beside what their single effects add up to."""
    steps = list(range(1, len(found.greedy) + 1))
    labels = [f"{step}. {escape(names[one.value])}" for step, one in zip(steps, found.greedy, strict=True)]
    added = np.cumsum([found.values[one.value].effect for one in found.greedy])
    best = shortest(found) - 1
    figure = go.Figure(
        [
            go.Scatter(
                x=labels, y=[one.effect for one in found.greedy], name="measured, all so far", mode="lines+markers",
                error_y={"array": [one.stderr for one in found.greedy], "width": 2}, line={"color": AFTER},
                hovertemplate="%{x}: %{y:+.4f} nats<extra>measured</extra>",
            ),
            go.Scatter(
                x=labels, y=added, name="sum of single effects", mode="lines+markers",
                line={"color": BEFORE, "dash": "dot"}, hovertemplate="%{x}: %{y:+.4f} nats<extra>sum</extra>",
            ),
        ]
    )  # fmt: skip
    figure.add_shape(
        type="rect", x0=best - 0.4, x1=best + 0.4, y0=0, y1=1, yref="paper", line={"color": ORANGE, "width": 2}
    )
    figure.update_layout(
        title="The order in which removing helps most",
        yaxis={"title": "change of the loss, nats"},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1.0, "xanchor": "right"},
        **{**frame(height=420), "margin": {"l": 10, "r": 10, "t": 70, "b": 10}},
    )
    figure.update_xaxes(type="category", tickangle=-45)
    return figure
