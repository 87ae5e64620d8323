"""What a direction is called, and a note on it: typed on its card, kept in the workspace."""

from __future__ import annotations

from dataclasses import dataclass, field

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.masks.labels import MAX_LABEL, MAX_NOTE, DirectionLabel, LabelBook, label_of
from explorer.ui.bench import labels
from explorer.ui.direction.parts import Looked
from explorer.ui.session import Widget, session, state


@dataclass
class _Shown:
    """The labels that the boxes hold, by the names of the boxes."""

    labels: dict[str, DirectionLabel | None] = field(default_factory=dict)


def draw(looked: Looked) -> None:
    """Two boxes; what is typed is kept at once, and both empty is no label."""
    place = (str(looked.key), looked.index)
    name = f"{looked.bench.model.digest[7:15]}-{looked.key}-{looked.index}"
    called, noted = Widget[str](f"label-{name}"), Widget[str](f"note-{name}")
    shown, now = state.of(_Shown).labels, labels.every(looked.bench).get(place)
    if not called.held or shown.get(name) != now:  # drawn for the first time, or changed elsewhere
        called.put(now.label if now else "")
        noted.put(now.note if now else "")
        shown[name] = now

    def keep() -> None:
        book = LabelBook.default(looked.bench.model.digest)
        try:
            if called.text or noted.text:
                book.put(label := label_of(*place, label=called.text, note=noted.text))
                shown[name] = label
            else:
                book.remove(place)
                shown[name] = None
        except ExplorerError as error:
            session.complain(str(error))

    left, right = st.columns([1, 2])
    left.text_input(
        "Label", key=called.key, max_chars=MAX_LABEL, on_change=keep, placeholder="a few words",
        help="Shown on every plot of singular values, and in mask files that you download.",
    )  # fmt: skip
    right.text_input("Note", key=noted.key, max_chars=MAX_NOTE, on_change=keep, placeholder="what you found out")
