"""Plots with one small menu each: PNG, SVG, and the data as CSV.

Plotly's own bar holds one image button and no data. So every plot of the pages is drawn by `draw`, which lays a menu
over its corner: the CSV is made by Python when it is asked for, the images by plotly.js in the browser, from what is
on the screen.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import streamlit as st

from explorer.plots.data import csv
from explorer.plots.style import CONFIG
from explorer.ui.components.spectrum_chart import LOAD_PLOTLY, SAVE_TEXT, ensure_plotly_js
from explorer.ui.streamlit_internals.elements import DeltaGenerator, class_name

_HERE = Path(__file__).parent
_FILES = st.components.v2.component(
    "eigenprune_figure_files",
    html="".join(f'<button type="button" data-format="{one.lower()}">{one}</button>' for one in ("PNG", "SVG", "CSV")),
    js="\n".join([LOAD_PLOTLY, SAVE_TEXT, (_HERE / "files.js").read_text(encoding="utf-8")]),
    css=(_HERE / "files.css").read_text(encoding="utf-8"),
)


def style() -> None:
    """Put the menus into the corners of their plots; app.py calls it on every run."""
    st.html(_HERE / "menu.css")


def draw(
    figure: Any, key: str, *, box: DeltaGenerator | None = None, config: Mapping[str, object] = CONFIG, **options: Any
) -> Any:
    """`st.plotly_chart` with the menu, whose content is made when it is open; gives what the plot gives.

    Args:
        figure: a plotly figure.
        key: Streamlit key of the plot, and what its files are called.
        box: where to draw, if not here.
        config: plotly's configuration.
        options: of `st.plotly_chart`.
    """
    with box or nullcontext(), st.container(key=f"figure-{key}", gap=None):
        event = st.plotly_chart(figure, key=key, config=dict(config), **options)
        with (
            st.container(key=f"menu-{key}", width="content"),
            st.popover(
                "",
                icon=":material/download:",
                type="tertiary",
                key=f"files-{key}",
                help="PNG, SVG, CSV",
                on_change="rerun",
            ) as menu,
        ):
            if menu.open:
                _files(figure, key)
    return event


def _files(figure: Any, key: str) -> None:
    # The table goes along: a `st.download_button` that is clicked while the page runs anew may find no file.
    name = class_name(key)
    data = {"plotly": ensure_plotly_js(), "name": name, "csv": csv(figure)}
    _FILES(key=f"formats-{key}", data=data, width="content")


def selected_ids(event: Any) -> tuple[str, ...]:
    """The ids of the selected points; empty if nothing is selected, or something else was sent."""
    points = event.get("selection", {}).get("points", []) if isinstance(event, dict) else []
    names = (point.get("id") for point in points if isinstance(point, dict))
    return tuple(name for name in names if isinstance(name, str))


def selected_id(event: Any) -> str | None:
    """The id of the first selected point; None if there is none."""
    return next(iter(selected_ids(event)), None)
