"""The model as a map, layers x matrices: each cell has its most harmful score, and opens its matrix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import streamlit as st

from explorer.attribution import SCORERS, Scores
from explorer.core.errors import MatrixError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.mask import Mask
from explorer.models.matrices import kinds
from explorer.plots import scores as score_plots
from explorer.plots import style
from explorer.plots.scores import Cell
from explorer.ui.bench import opening
from explorer.ui.components import figures
from explorer.ui.jobs import work
from explorer.ui.session import Bench, guide, links, requests
from explorer.ui.shell import share

MATRIX, CARD = "A click opens the matrix", "A click opens the card of its worst value"
COLUMNS = 96  # more heads than that are too thin to be told apart or clicked


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
        opens = links.restore("map-opens", MATRIX, links.one_of([CARD])).draw(
            st.selectbox, "A click opens", [MATRIX, CARD], label_visibility="collapsed", width=240,
            help="What a click on a cell opens.",
        )  # fmt: skip
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
        "Click a cell to see its singular values, or the card of the most harmful one."
        + " Each cell is all heads of its kind."
        * merged
    )
    if (key := clicked(event, {cell.matrix for cell in found})) is not None:
        if opens == CARD:
            opening.want_card(key, next(cell.index for cell in found if cell.matrix == str(key)))
        else:
            opening.want(key)
        opening.follow()


def clicked(event: Any, known: set[str]) -> MatrixKey | None:
    """The matrix that was clicked, if it is one of those shown: what comes from the browser is checked."""
    name = figures.selected_id(event)
    try:
        return MatrixKey.parse(name) if name in known else None
    except MatrixError:
        return None


def cells(scores: Scores, mask: Mask) -> tuple[Cell, ...]:
    """The map's cells, layer by layer: heads side by side, or one cell per kind if there are too many heads.

    A cell of several heads has the most harmful score of any of them, and opens the head that it is of.
    """
    columns = {(key.kind, key.head) for key in scores.matrices}
    merged = len(columns) > COLUMNS
    groups: dict[tuple[int, Kind, int | None], list[MatrixKey]] = {}
    for key in sorted(scores.matrices):
        groups.setdefault((key.layer, key.kind, None if merged else key.head), []).append(key)
    return tuple(_cell(scores, mask, head, keys=keys) for (_, _, head), keys in groups.items())


def _cell(scores: Scores, mask: Mask, head: int | None, keys: Iterable[MatrixKey]) -> Cell:
    found = {key: scores.matrices[key].score for key in keys}
    worst, key = min((float(score.min()), key) for key, score in found.items())
    index = int(found[key].argmin())
    return Cell(
        matrix=str(key),
        layer=key.layer,
        kind=str(key.kind),
        head=head,
        worst=worst,
        index=index,
        harmful=sum(int((score < 0).sum()) for score in found.values()),
        values=sum(len(score) for score in found.values()),
        removed=sum(len(mask.indices(one)) for one in found),
    )
