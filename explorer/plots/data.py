"""The data of a figure as a table, to be downloaded: one row per point, under the names that the figure gives them.

| column | what |
|---|---|
| series | name of the trace, if the figure has several |
| the title of an axis, or `x` and `y` | where the point is |
| title + ` ±` | half-length of its error bar |
| title of the colour bar, or `value` | of a cell in a heatmap |
| label | text or id of the point |

Axes that are stretched for the eye, or positions that mean nothing, do not belong into a table: such a trace names the
columns of its `customdata` in `meta={"columns": [...]}`, and these are its row. Decoration (`hoverinfo="skip"`) and
traces without points have none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape
from typing import Any

import numpy as np
import pandas as pd

_TAG = re.compile(r"<(?:br|/?b|/?i|/?sub|/?sup)\s*/?>")


def table(figure: Any) -> pd.DataFrame:
    """What a plotly figure shows, row by row in the order of its traces."""
    frames = [_trace(figure, trace) for trace in figure.data if getattr(trace, "hoverinfo", None) != "skip"]
    named = [frame for frame in frames if len(frame)]
    return pd.concat(named, ignore_index=True).dropna(axis="columns", how="all") if named else pd.DataFrame()


def csv(figure: Any) -> str:
    """`table` as CSV."""
    return table(figure).to_csv(index=False)


def _trace(figure: Any, trace: Any) -> pd.DataFrame:
    declared = trace.meta.get("columns") if isinstance(trace.meta, dict) else None
    if declared:
        rows = [[_text(cell) for cell in row] for row in trace.customdata]
        columns = dict(zip(declared, zip(*rows, strict=True), strict=False)) if rows else {}
    elif trace.type == "heatmap":
        columns = _cells(figure, trace)
    else:
        columns = _points(figure, trace)
    frame = pd.DataFrame(columns)
    if sum(one.name is not None for one in figure.data) > 1 or len(figure.data) > 1:
        frame.insert(0, "series", _text(trace.name or ""))
    return frame


def _points(figure: Any, trace: Any) -> dict[str, Any]:
    """Scatter and bars."""
    x, y = (_title(figure, trace, axis) for axis in ("x", "y"))
    n = max((len(one) for one in (trace.x, trace.y) if one is not None), default=0)
    ours = range(n)
    columns: dict[str, Any] = {}
    for title, values, bars in ((x, trace.x, trace.error_x), (y, trace.y, trace.error_y)):
        columns[title] = list(ours) if values is None else [_text(one) for one in values]
        if bars.array is not None:
            columns[f"{title} ±"] = list(bars.array)
    label = next((one for one in (trace.text, trace.ids) if isinstance(one, Sequence | np.ndarray)), None)
    if label is not None and not isinstance(label, str) and len(label) == n:
        columns["label"] = [_text(one) for one in label]
    shown = [i for i in ours if not (columns[x][i] is None or columns[y][i] is None)]  # None breaks a line
    return {name: [values[i] for i in shown] for name, values in columns.items()}


def _cells(figure: Any, trace: Any) -> dict[str, Any]:
    """Heatmaps: row by row."""
    z = np.asarray(trace.z)
    rows, columns = z.shape
    x = list(range(columns)) if trace.x is None else [_text(one) for one in trace.x]
    y = list(range(rows)) if trace.y is None else [_text(one) for one in trace.y]
    title = trace.colorbar.title.text
    return {
        _title(figure, trace, "y"): np.repeat(np.asarray(y, dtype=object), columns),
        _title(figure, trace, "x"): np.tile(np.asarray(x, dtype=object), rows),
        _text(title) if title else "value": z.ravel(),
    }


def _title(figure: Any, trace: Any, axis: str) -> str:
    """The title of the axis that a trace is drawn on, or the axis' letter."""
    name = getattr(trace, f"{axis}axis", None) or axis
    found = figure.layout[f"{axis}axis{name[1:]}"].title.text
    return str(_text(found)) if found else axis


def _text(value: Any) -> Any:
    """Text as it was before it was escaped for plotly; anything else as it is."""
    return unescape(_TAG.sub(" ", value)).strip() if isinstance(value, str) else value
