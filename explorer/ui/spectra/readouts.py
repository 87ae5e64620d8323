"""The tokens that a singular value reads or writes, beside what removing it does."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import pandas as pd
import streamlit as st

from explorer.actions import ReadOut
from explorer.attribution import Scores
from explorer.core.keys import AnyKey, CircuitKey, MatrixKey
from explorer.masks.apply import empty_mask
from explorer.measure.readout import Readout, Token
from explorer.spectra.svd import Decomposition
from explorer.ui.bench import opening
from explorer.ui.components import words
from explorer.ui.jobs import work
from explorer.ui.session import Bench, Setting, Widget, guide, links, state
from explorer.ui.shell import share

TOKENS = 10
_VALUE = st.column_config.NumberColumn("value", format="%+.3g", width="small")
_PRODUCT = (
    "QK and OV are products of two matrices: to look at, not to remove. Biases, positions (rotary ones too), norms on "
    "queries and keys, and the scale 1 / √d_head are left out."
)
_MEANING = {
    "reads": "tokens whose embedding, through the layer's norm, gives most along this vector",
    "writes": "tokens whose logit rises or falls most if the stream points along this vector",
}


@dataclass
class _Asked:
    """The exact effects that this session asked for, each with what it is of."""

    effects: set[Hashable] = field(default_factory=set)


def choose_value(key: AnyKey, index: int | None) -> None:
    """Let the choice of a matrix's value begin at one; for before it is drawn."""
    if index is not None:
        Widget[int](_index_key(key)).put(index)


def _index_key(key: AnyKey) -> str:
    return f"readout-index-{key}"


def draw(bench: Bench, key: AnyKey, found: Decomposition, scores: Scores | None) -> None:
    """Choose one of a matrix's singular values, see its tokens, its score, and measure its exact effect."""
    st.subheader(f"Tokens of one singular value of {key}", anchor=False)
    choice, effect = st.columns([1, 4], vertical_alignment="bottom")
    linked = links.restore("value", 0, links.one_of(range(found.rank)), key=_index_key(key))
    about = "Index in the spectrum, 0 for the largest."
    index = linked.draw(choice.number_input, "Singular value", min_value=0, max_value=found.rank - 1, help=about)
    with effect:
        if isinstance(key, MatrixKey):
            _effect(bench, key, index, scores=scores)
        else:
            guide.explain(_PRODUCT)
    if float(found.s[index]) == 0:
        st.info("This value is zero: nothing is read or written along it.")
        return
    with st.container(horizontal=True):
        share.copy("readout", bench, lambda setting: [request(setting, key, index)])
        if isinstance(key, MatrixKey):
            st.button(
                "Open its card", key="card-readout", icon=":material/arrow_outward:", on_click=opening.want_card,
                args=(key, index), help="Where it is active, what it does to the loss, which directions are like it.",
            )  # fmt: skip
    told = work.readout(bench, key, found, index=index, k=TOKENS)
    if told is None:
        return
    for box, one in zip(st.columns(2), told, strict=False):
        with box:
            _end(one)
    guide.explain(
        "A label is not an effect: what a value does depends on everything between it and the answer. A vector and its "
        "negative belong to the same value, so both ends count."
    )


def request(setting: Setting, key: AnyKey, index: int) -> ReadOut:
    """The tokens that one singular value reads and writes, and its exact effect if it can be removed."""
    return ReadOut(
        model=setting.model, matrix=str(key), task=setting.task, index=(index,), tokens=TOKENS, mode=setting.bench.mode,
        limit=setting.train,
    )  # fmt: skip


def _effect(bench: Bench, key: MatrixKey, index: int, scores: Scores | None) -> None:
    """Score and exact effect of removing the value alone; the latter is measured when asked for."""
    matrix = scores.matrices.get(key) if scores is not None else None
    predicted = "" if matrix is None else f"Score (predicted): **{words.nats(float(matrix.score[index]))}**. "
    start = empty_mask(bench.model, bench.mode)
    known = work.known(bench, (key,), start)
    if known is None:
        return
    values = ((key, index),)
    asked = state.of(_Asked).effects
    effect = (work.place(bench, start), values)
    measured = known.get((key, index))
    if measured is None and not work.effects_asked(bench, values, start) and effect not in asked:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"{predicted}Exact effect: not measured yet.", width="content")
            st.button(
                "Measure exactly",
                key="measure-exactly",
                help="Removes this value alone from the unpruned model and measures the loss on the train examples.",
                on_click=asked.add,
                args=(effect,),
            )
        return
    if measured is None:
        found = work.effects(bench, values, start)
        measured = None if found is None else found[key, index]
    if measured is not None:
        meaning = "removing it helps" if measured.value < 0 else "the task needs it"
        st.markdown(
            f"{predicted}Exact effect of removing it alone: **{words.spread(measured, signed=True)} nats** ({meaning}; "
            f"{bench.mode}, {measured.n:,} train examples of {words.literal(bench.task.name)})."
        )


def _end(one: Readout) -> None:
    st.markdown(f"**{one.vector} {one.side}** ({one.kind}): {_MEANING[one.side]}")
    plus, minus = st.columns(2)
    for box, name, tokens in ((plus, "most positive", one.plus), (minus, "most negative", one.minus)):
        box.dataframe(_table(name, tokens), hide_index=True, column_config={"value": _VALUE})


def _table(name: str, tokens: Sequence[Token]) -> pd.DataFrame:
    """Tokens as the tokenizer has them; a data frame shows text as it is, so quotes make spaces visible."""
    return pd.DataFrame({name: [repr(token.text) for token in tokens], "value": [token.value for token in tokens]})


def product_note(keys: Sequence[AnyKey]) -> str | None:
    """What products leave out, if one is shown."""
    return _PRODUCT if any(isinstance(key, CircuitKey) for key in keys) else None
