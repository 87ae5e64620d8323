"""What can be done with the values that are selected in a table or plot: remove, restore, open the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from explorer.attribution import Scores
from explorer.attribution.exact import Value
from explorer.ui.bench import opening, workbench
from explorer.ui.components import words
from explorer.ui.jobs import work
from explorer.ui.session import Bench

CARDS = 4  # buttons at most


def draw(bench: Bench, chosen: Sequence[Value], *, name: str, none: str) -> None:
    """Buttons for the selected values; their frozen means are found as soon as something is selected.

    Args:
        bench: whose mask is changed.
        chosen: the values.
        name: what the keys of the buttons begin with; unique on the page.
        none: what is said where nothing is selected.
    """
    if not chosen:
        st.caption(none)
        return
    scores = work.scores(bench, tuple(sorted({key for key, _ in chosen})))
    gone = [value for value in chosen if value[1] in bench.mask.indices(value[0])]
    kept = [value for value in chosen if value not in gone]
    with st.container(horizontal=True, vertical_alignment="center", key=f"{name}-actions"):
        _switch(bench, scores, kept, name=f"{name}-remove", label=f"{words.verb(bench.mask)} {_named(kept)}", gone=True)
        _switch(bench, scores, gone, name=f"{name}-restore", label=f"Restore {_named(gone)}", gone=False)
        for key, index in chosen[:CARDS]:
            st.button(
                f"{key} {index}", key=f"{name}-card-{key}-{index}", icon=":material/arrow_outward:",
                on_click=opening.want_card, args=(key, index), help="Open its card.",
            )  # fmt: skip


def _named(values: Sequence[Value]) -> str:
    return f"{values[0][0]} {values[0][1]}" if len(values) == 1 else words.count(len(values), "value")


def _switch(bench: Bench, scores: Scores | None, values: Sequence[Value], *, name: str, label: str, gone: bool) -> None:
    def switch() -> None:
        if scores is not None:
            wanted: Mapping[Value, bool] = dict.fromkeys(values, gone)
            workbench.switch(bench, scores, wanted)

    if values:
        st.button(
            label, key=name, type="primary" if gone else "secondary", disabled=scores is None, on_click=switch,
            help="A step of the mask's history: Undo takes it back.",
        )  # fmt: skip
