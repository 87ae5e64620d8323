"""A head's score, or what it moves, as a heat map of pairs of directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from explorer.masks.head_split import Split, TermSide
from explorer.plots.style import MORE_OR_LESS, frame, scale_end

MOST = 12  # rows and columns; the others are added up
OTHERS = "all others"


def pair_map(
    split: Split,
    title: str,
    *,
    apart: bool,
    called: tuple[Mapping[int, str], Mapping[int, str]] = ({}, {}),
    most: int = MOST,
) -> go.Figure:
    """The largest rows and columns of a split, and the sum of the others, so that all cells add up to all pairs.

    Args:
        split: what is drawn.
        title: of the figure.
        apart: what each pair adds here beyond the mean of the other keys, instead of what it adds here.
        called: what the directions of either side are called, by index.
        most: rows, and columns.
    """
    here, elsewhere = split.here.numpy(), split.elsewhere.numpy()
    values = here - elsewhere if apart else here
    size = np.abs(values)
    rows, columns = (_largest(size.max(axis=axis), most) for axis in (1, 0))
    cells = [_gathered(_gathered(one, rows, 0), columns, 1) for one in (values, here, elsewhere)]
    names = [
        [_name(side, place, texts) for place in places] + [OTHERS] * (len(places) < len(side.terms))
        for side, places, texts in ((split.first, rows, called[0]), (split.second, columns, called[1]))
    ]
    bound = scale_end(cells[0])
    figure = go.Figure(
        go.Heatmap(
            z=cells[0],
            x=names[1],
            y=names[0],
            customdata=np.stack(cells[1:], axis=-1),
            zmin=-bound,
            zmax=bound,
            colorscale=MORE_OR_LESS,
            colorbar={"thickness": 10, "len": 0.9},
            hovertemplate=(
                "%{y} × %{x}<br>adds %{customdata[0]:+.4f}<br>%{customdata[1]:+.4f} at other keys<extra></extra>"
            ),
        )
    )
    figure.update_layout(title=escape(title), **frame(height=380))
    figure.update_xaxes(type="category", title=escape(split.second.matrix), tickangle=-45)
    figure.update_yaxes(type="category", title=escape(split.first.matrix), autorange="reversed")
    return figure


def _largest(size: NDArray[np.float64], most: int) -> list[int]:
    """The places of the largest, ascending."""
    return sorted(np.argsort(-size, kind="stable")[:most].tolist())


def _gathered(values: NDArray[np.float64], places: Sequence[int], axis: int) -> NDArray[np.float64]:
    """Some rows or columns, and the sum of the others behind them, if there are others."""
    kept = values.take(places, axis=axis)
    if len(places) == values.shape[axis]:
        return kept
    rest = np.delete(values, places, axis=axis).sum(axis=axis, keepdims=True)
    return np.concatenate([kept, rest], axis=axis)


def _name(side: TermSide, place: int, called: Mapping[int, str]) -> str:
    text = called.get(place, "") if place < side.count else ""
    return escape(f"{side.terms[place]} {text}".rstrip())
