"""Which direction the page Direction shows: a matrix, and one of its singular values."""

from __future__ import annotations

import re
from collections.abc import Sequence

import streamlit as st

from explorer.core.errors import MatrixError
from explorer.core.keys import MatrixKey
from explorer.models.matrices import shape
from explorer.ui.bench import opening
from explorer.ui.components import matrix_steps
from explorer.ui.session import Bench, Widget, links, state

NAME = "direction"  # of the parameter of links, such as ?direction=L0.K.H3:5
_MATRIX: Widget[str] = Widget("direction-matrix")
_INDEX: Widget[int] = Widget("direction-index")
_TEXT = re.compile(r"([^:]{1,40}):(\d{1,7})", re.ASCII)


def text(key: MatrixKey, index: int) -> str:
    """A direction as links name it."""
    return f"{key}:{index}"


def parsed(written: str) -> tuple[MatrixKey, int] | None:
    """A direction from a link's text; None for a text that is none."""
    found = _TEXT.fullmatch(written)
    try:
        return None if found is None else (MatrixKey.parse(found[1]), int(found[2]))
    except MatrixError:
        return None


def show(key: MatrixKey, index: int) -> None:
    """Let the page show a direction; for callbacks, and before the widgets are drawn."""
    _MATRIX.put(str(key))
    _INDEX.put(index)


def take_asked(bench: Bench, keys: Sequence[MatrixKey]) -> None:
    """Show what another page or the URL asks for."""
    if (wanted := state.take(opening.WantedCard)) is not None:
        links.asked(NAME)  # the URL that the page was opened with is older
        show(wanted.key, wanted.index)
        return
    asked = links.asked(NAME)
    if not asked:
        return
    found = parsed(asked)
    if found is None or found[0] not in keys or found[1] >= rank(bench, found[0]):
        links.refuse(NAME, asked)
    else:
        show(*found)


def chosen(keys: Sequence[MatrixKey]) -> bool:
    """Whether the widgets hold a direction of these matrices."""
    return _MATRIX.value in set(map(str, keys))


def draw(bench: Bench, keys: Sequence[MatrixKey]) -> tuple[MatrixKey, int]:
    """The widgets; what they hold is in the URL."""
    names = [str(key) for key in keys]
    if _MATRIX.value not in names:
        show(keys[0], 0)
    name = st.selectbox(
        "Matrix", names, key=_MATRIX.key, persist_state="session", width=160,
        help="Type to search, such as L3.K.H1.",
    )  # fmt: skip
    key = MatrixKey.parse(name)
    most = rank(bench, key) - 1
    _INDEX.put(min(_INDEX.value or 0, most))
    index = st.number_input(
        "Singular value", min_value=0, max_value=most, key=_INDEX.key, persist_state="session", width=140,
        help=f"Index in the spectrum, 0 for the largest, {most:,} for the smallest.",
    )  # fmt: skip
    matrix_steps.buttons(keys, lambda: _now(keys), lambda one: _MATRIX.put(str(one)), what="of the model")
    links.keep(NAME, text(key, int(index)), "")
    return key, int(index)


def rank(bench: Bench, key: MatrixKey) -> int:
    """How many singular values a matrix has."""
    with bench.views.borrow() as view:
        return min(shape(view, key))


def _now(keys: Sequence[MatrixKey]) -> MatrixKey | None:
    return next((key for key in keys if str(key) == _MATRIX.value), None)
