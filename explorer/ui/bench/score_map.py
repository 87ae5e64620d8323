"""The Overview's map: layers x matrices, clickable."""

from __future__ import annotations

from typing import Any

import streamlit as st

from explorer.attribution import SCORERS
from explorer.core.errors import MatrixError
from explorer.core.keys import MatrixKey
from explorer.models.matrices import kinds
from explorer.plots import scores as score_plots
from explorer.plots import style
from explorer.ui.bench import opening
from explorer.ui.bench.score_cells import cells
from explorer.ui.components import figures
from explorer.ui.components.selection import selected_id
from explorer.ui.jobs import work
from explorer.ui.session import Bench, guide, links, requests
from explorer.ui.shell import share


def choose_every(bench: Bench) -> bool:
    """Whether all kinds are to be scored, where the bench's are not all; a choice that holds on every page."""
    with bench.views.borrow() as view:
        left = [str(kind) for kind in kinds(view) if kind not in bench.kinds]
    if not left:
        return True
    linked = links.restore("every-kind", False, links.one_of([True]))
    return linked.draw(
        st.toggle, f"All kinds: {', '.join(left)} too",
        help=f"Now {', '.join(bench.kinds)}, as chosen in the settings. All of them cost {SCORERS[bench.scorer].cost}, "
        "and the decompositions of all matrices, once: seconds on a small model, minutes on a large one.",
    )  # fmt: skip


def draw(bench: Bench) -> None:
    """The map, with the choice of what it covers; a click on a cell opens its matrix."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Map", anchor=False, width="content")
        every = choose_every(bench)
        share.copy("map", bench, lambda setting: [requests.score(setting, every=every)])
    scores = work.ranked(bench, every=every)
    if scores is None:
        st.caption("Scoring." if work.scores_failure(bench) is None else "There are no scores.")
        return
    found = cells(scores, bench.mask)
    event = figures.draw(
        score_plots.score_map(found, dark=st.context.theme.type == "dark"),
        "score-map",
        config={**style.CONFIG, "displayModeBar": False},
        on_select="rerun",
        selection_mode="points",
        alt="Map of the model: rows are layers, columns are matrices",
    )
    merged = any(cell.head is None and MatrixKey.parse(cell.matrix).head is not None for cell in found)
    guide.explain(
        "Colour: the most harmful score. Size: how many values have negative scores. Ring: the mask has some. "
        "Click a cell to see its singular values." + " Each cell is all heads of its kind." * merged
    )
    if (key := clicked(event, {cell.matrix for cell in found})) is not None:
        opening.want(key)
        opening.follow()


def clicked(event: Any, known: set[str]) -> MatrixKey | None:
    """The matrix that was clicked, if it is one of those shown: what comes from the browser is checked."""
    name = selected_id(event)
    try:
        return MatrixKey.parse(name) if name in known else None
    except MatrixError:
        return None
