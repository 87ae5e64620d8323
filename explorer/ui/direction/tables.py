"""What a direction's card lists: tokens, similar directions, flips, effects on other tasks, masks that hold it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from explorer.core.keys import MatrixKey
from explorer.experiments.direction import DirectionEffects, DirectionFlips, LibraryPlace
from explorer.measure.readout import Readout, Token
from explorer.spectra.similar import SimilarDirections
from explorer.ui.bench import labels, opening
from explorer.ui.components import words
from explorer.ui.direction.parts import Looked
from explorer.ui.jobs import work
from explorer.ui.session import Bench, Widget, guide
from explorer.ui.shell import tasks_at_hand
from explorer.ui.shell.task_reading import Reading
from explorer.ui.streamlit_internals.elements import DeltaGenerator

TOKENS = 8
_OTHERS: Widget[list[str]] = Widget("direction-tasks")
_NUMBER = st.column_config.NumberColumn
_MEANING = {
    "reads alike": "read the stream along the same direction",
    "writes alike": "write to the stream along the same direction",
    "written before": "earlier O and OUT that write what it reads",
    "read after": "later Q, K, V, IN and GATE that read what it writes",
    "meets in the head": "the other side of its head",
}


def draw(
    looked: Looked, effects: DirectionEffects | None, flips: DirectionFlips | None, *, status: DeltaGenerator
) -> None:
    """The lists, two beside each other."""
    with status:
        found = work.decomposition(looked.bench, looked.key)
        told = None if found is None else work.readout(looked.bench, looked.key, found, index=looked.index, k=TOKENS)
        similar = looked.similar()
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("Tokens", divider="gray", anchor=False)
        for one in told or ():
            _tokens(one)
        st.subheader("On other tasks", divider="gray", anchor=False)
        _choose_others(looked.bench)
        if effects is not None and len(effects.tasks) > 1:
            _elsewhere(effects)
        st.subheader("Without it", divider="gray", anchor=False)
        if flips is not None:
            _flips(flips)
        st.subheader("In the library", divider="gray", anchor=False)
        _library(looked.library())
    with right:
        st.subheader("Similar directions", divider="gray", anchor=False)
        if similar:
            _similar(looked, similar)


def chosen_others(bench: Bench) -> list[Reading]:
    """The other tasks on which the exact effect is measured, before the box is drawn in which they are chosen."""
    offered = tasks_at_hand.readings(without=bench.task.name)
    return [offered[name] for name in _OTHERS.value or () if name in offered]


def _choose_others(bench: Bench) -> None:
    offered = list(tasks_at_hand.readings(without=bench.task.name))
    _OTHERS.put([name for name in _OTHERS.value or () if name in offered])
    st.multiselect(
        "Exact effect on other tasks", offered, key=_OTHERS.key, persist_state="session", placeholder="Choose tasks",
        label_visibility="collapsed", help=tasks_at_hand.HELP,
    )  # fmt: skip


def _tokens(one: Readout) -> None:
    st.markdown(f"**{one.vector} {one.side}** ({one.kind})")
    plus, minus = st.columns(2)
    for box, name, tokens in ((plus, "most positive", one.plus), (minus, "most negative", one.minus)):
        box.dataframe(_token_table(name, tokens), hide_index=True, column_config={"value": _NUMBER(format="%+.3g")})


def _token_table(name: str, tokens: Sequence[Token]) -> pd.DataFrame:
    return pd.DataFrame({name: [repr(token.text) for token in tokens], "value": [token.value for token in tokens]})


def _elsewhere(effects: DirectionEffects) -> None:
    rows = [{"task": one.task, "exact": one.exact, "±": one.stderr, "n": one.n} for one in effects.tasks]
    columns = {"exact": _NUMBER("exact effect", format="%+.4f", help="nats per example, this task's frozen mean")}
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=columns, key="direction-effects")


def _flips(flips: DirectionFlips) -> None:
    spread = f"{flips.loss_change:+.4f} ± {flips.loss_stderr:.4f}"
    st.caption(
        f"{flips.n:,} {flips.split} examples: accuracy {words.percent(flips.accuracy_before)} to "
        f"{words.percent(flips.accuracy_after)}, loss {spread} nats; {words.count(len(flips.examples), 'example')} "
        f"{'flips' if len(flips.examples) == 1 else 'flip'}."
    )
    rows = [
        {
            "": "repaired" if one.repaired else "broken",
            "prompt": words.one_line(one.prompt),
            "answer": words.one_line(one.answer),
            "before": words.one_line(one.before),
            "without it": words.one_line(one.after),
        }
        for one in flips.examples
    ]
    if rows:
        st.dataframe(
            pd.DataFrame(rows), hide_index=True, height=240 if len(rows) > 6 else "content", key="direction-flips"
        )


def _library(found: LibraryPlace) -> None:
    if not found.masks:
        st.caption("There is no mask of this model in the library.")
        return
    st.caption(f"{len(found.holding):,} of {words.count(found.masks, 'mask')} of this model hold it.")
    rows = [
        {"mask": one.name, "values": one.removed, "gain": one.gain, "chosen by": one.strategy or "", "id": one.id}
        for one in found.holding
    ]
    if rows:
        columns = {"gain": _NUMBER(format="percent", help="share of it that stays")}
        st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=columns, key="direction-masks")


def _similar(looked: Looked, found: tuple[SimilarDirections, ...]) -> None:
    """The directions of one relation; a selected row opens that direction's card."""
    relations = {one.relation: one for one in found}
    widget: Widget[str] = Widget("direction-relation")
    if widget.value not in relations:
        widget.put(next(iter(relations)))
    shown = st.segmented_control(
        "Relation", list(relations), required=True, key=widget.key, persist_state="session",
        label_visibility="collapsed",
    )  # fmt: skip
    one = found[0] if shown is None else relations[shown]
    st.caption(
        f"{_MEANING[one.relation]}; of {one.compared:,} directions. By chance the largest |cosine| is {one.chance:.3f}."
    )
    texts = labels.texts(looked.bench)
    rows = [
        {
            "matrix": each.matrix,
            "i": each.index,
            "cosine": each.cosine,
            **({"label": texts.get(each.matrix, {}).get(each.index, "")} if texts else {}),
        }
        for each in one.nearest
    ]
    event = st.dataframe(
        pd.DataFrame(rows), hide_index=True, on_select="rerun", selection_mode="single-row",
        column_config={"cosine": _NUMBER(format="%+.3f"), "i": _NUMBER(width=48)},
        key=f"similar-{one.relation}-{looked.key}-{looked.index}",
    )  # fmt: skip
    chosen = [row for row in event.selection.rows if row < len(one.nearest)]
    each = one.nearest[chosen[0]] if chosen else None
    st.button(
        "Open its card" if each is None else f"Open {each.matrix} value {each.index}", key="open-similar",
        icon=":material/arrow_outward:", disabled=each is None, on_click=opening.want_card,
        args=() if each is None else (MatrixKey.parse(each.matrix), each.index),
    )  # fmt: skip
    guide.explain(
        "Select a row to open its card. Signs are of the directions as they are written, the largest entry of each u_i "
        "positive."
    )
