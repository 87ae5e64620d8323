"""The Streamlit side of a plot with its menu."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer import plots
from explorer.plot_data import csv
from explorer.ui.spectrum_chart import LOAD_PLOTLY, ensure_plotly_js

_HERE = Path(__file__).parent
_IMAGES = st.components.v2.component(
    "eigenprune_figure_images",
    html='<button type="button" data-format="png">PNG</button><button type="button" data-format="svg">SVG</button>',
    js=f"{LOAD_PLOTLY}\n{(_HERE / 'images.js').read_text(encoding='utf-8')}",
    css=(_HERE / "images.css").read_text(encoding="utf-8"),
)


def style() -> None:
    """Put the menus into the corners of their plots; app.py calls it on every run."""
    st.html(_HERE / "menu.css")


def draw(
    figure: Any,
    key: str,
    *,
    box: DeltaGenerator | None = None,
    config: Mapping[str, object] = plots.CONFIG,
    **options: Any,
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
    name = _class_name(key)
    with st.container(horizontal=True, gap="small"):
        _IMAGES(key=f"images-{key}", data={"plotly": ensure_plotly_js(), "plot": name, "name": name}, width="content")
        st.download_button(
            "CSV", data=lambda: csv(figure), file_name=f"{name}.csv", mime="text/csv", on_click="ignore",
            key=f"csv-{key}",
        )  # fmt: skip


def _class_name(key: str) -> str:
    """A key as Streamlit writes it into the class of its element, after `st-key-`."""
    return re.sub(r"[^a-zA-Z0-9_-]", "-", key.strip())
