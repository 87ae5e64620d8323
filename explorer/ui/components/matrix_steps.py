"""The previous and the next matrix, by button or by key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import streamlit as st

K = TypeVar("K")
PREVIOUS, NEXT = "P", "N"


def buttons(order: Sequence[K], now: Callable[[], K | None], go: Callable[[K], None], *, what: str) -> None:
    """Two buttons that go along `order`.

    Args:
        order: the matrices.
        now: the matrix that is looked at when a button is pressed: fast presses come before the page has run again.
        go: look at another one.
        what: what the order is, for the help.
    """
    with st.container(horizontal=True, gap="small", width="content"):
        for label, letter, way in (("Previous", PREVIOUS, -1), ("Next", NEXT, 1)):
            st.button(
                label,
                key=f"{label.lower()}-matrix",
                shortcut=letter,
                help=f"{label} matrix {what}",
                disabled=step(order, now(), way) is None,
                on_click=lambda way=way: _go(order, now(), way, go=go),
            )


def step(order: Sequence[K], now: K | None, way: int) -> K | None:
    """The entry `way` places on from `now`; the first where `now` is none of them; None beyond the ends."""
    if now not in order:
        return order[0] if order else None
    place = order.index(now) + way
    return order[place] if 0 <= place < len(order) else None


def _go(order: Sequence[K], now: K | None, way: int, go: Callable[[K], None]) -> None:
    wanted = step(order, now, way)
    if wanted is not None:
        go(wanted)
