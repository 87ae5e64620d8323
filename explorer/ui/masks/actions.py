"""What can be done with the selected masks: open, rename, note, export, delete, combine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from explorer.actions import IntersectMasks, Request, SubtractMasks, UniteMasks, VoteMasks
from explorer.masks.library import MAX_NAME, MAX_NOTES, Entry, Library, id_of
from explorer.masks.mask import Mask
from explorer.masks.sets import vote
from explorer.ui.components.words import literal
from explorer.ui.masks.saved import attempt, delete
from explorer.ui.session import Bench, Widget, state
from explorer.ui.session.session import Offered
from explorer.ui.shell import mask_panel, share

Combine = Callable[[tuple[Mask, ...]], Mask]
_TWO: dict[str, Combine] = {
    "union": lambda masks: vote(masks, 1),
    "intersection": lambda masks: vote(masks, len(masks)),
    "first without second": lambda masks: masks[0].difference(masks[1]),
    "second without first": lambda masks: masks[1].difference(masks[0]),
}
_MORE: dict[str, Combine] = {
    "union": _TWO["union"],
    "intersection": _TWO["intersection"],
    "majority": lambda masks: vote(masks, len(masks) // 2 + 1),
}


def one(bench: Bench, library: Library, entry: Entry) -> None:
    """Actions on a single mask, and its name and notes to be changed."""
    opened = Offered(entry.name, entry.mask, f"opened {entry.name}")
    with st.container(horizontal=True, vertical_alignment="center", key="entry-actions"):
        st.button(
            "Open in the workbench",
            key="entry-open",
            type="primary",
            icon=":material/content_cut:",
            disabled=id_of(bench.mask) == entry.id,
            on_click=lambda: state.put(opened),
            help="Makes it the current mask; undo brings the other one back.",
        )
        mask_panel.downloads("Export", entry.name, entry.mask, key="entry-export")
        st.button("Delete", key="entry-delete", icon=":material/delete:", on_click=delete, args=(library, (entry,)))
    _describe(library, entry)


def _describe(library: Library, entry: Entry) -> None:
    called, noted = Widget[str](f"name-{entry.id}"), Widget[str](f"notes-{entry.id}")

    def rename() -> None:
        if not attempt(lambda: library.change(entry.id, name=called.value or "")):
            called.put(entry.name)

    def note() -> None:
        attempt(lambda: library.change(entry.id, notes=noted.value or ""))

    left, right = st.columns([1, 2])
    left.text_input("Name", entry.name, key=called.key, max_chars=MAX_NAME, on_change=rename)
    right.text_area("Notes", entry.about.notes, key=noted.key, max_chars=MAX_NOTES, on_change=note, height=68)


def several(bench: Bench, library: Library, entries: tuple[Entry, ...]) -> None:
    """Combine masks of one model into a new entry, or delete them."""
    ways = _TWO if len(entries) == 2 else _MORE
    way, typed = Widget[str](f"combine-{min(len(entries), 3)}"), Widget[str]("combine-name")

    def combine() -> None:
        how = way.text
        name = typed.text or _proposed(how, entries)
        if attempt(lambda: library.save(ways[how](tuple(entry.mask for entry in entries)), name)):
            typed.put("")
            st.toast(literal(f"{name} saved."), icon=":material/check:")

    with st.container(horizontal=True, vertical_alignment="bottom", key="combine"):
        how = st.selectbox(
            "Combine into a new mask", list(ways), key=way.key, width=220,
            help="Union: values that any of them removes. Intersection: that all remove. Majority: more than half.",
        )  # fmt: skip
        st.text_input("Name", placeholder=_proposed(how, entries), key=typed.key, max_chars=MAX_NAME, width=320)
        st.button("Combine", key="combine-go", type="primary", on_click=combine)
        share.copy("combine", bench, lambda setting: [request(how, [setting.file(entry.mask) for entry in entries])])
        st.button(
            f"Delete {len(entries):,}", key="delete-many", icon=":material/delete:", on_click=delete,
            args=(library, entries),
        )  # fmt: skip


def request(how: str, files: Sequence[Path]) -> Request:
    """Masks combined in one of the page's ways."""
    every, out = tuple(files), Path("combined.mask.json")
    if how == "union":
        return UniteMasks(files=every, out=out)
    if how == "intersection":
        return IntersectMasks(files=every, out=out)
    if how == "majority":
        return VoteMasks(files=every, at_least=len(every) // 2 + 1, out=out)
    first, second = every if how == "first without second" else every[::-1]
    return SubtractMasks(first=first, second=second, out=out)


def _proposed(how: str, entries: tuple[Entry, ...]) -> str:
    names = [entry.name for entry in entries]
    if how in ("first without second", "second without first"):
        first, second = names if how.startswith("first") else reversed(names)
        return f"{first} without {second}"[:MAX_NAME]
    return f"{how} of {', '.join(names)}"[:MAX_NAME]
