"""The Masks page's library: save, import, the table, what was deleted, and what cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from explorer.core.errors import ExplorerError, MaskError
from explorer.masks.library import MAX_NAME, Entry, Library, Listing, id_of
from explorer.masks.mask import Mask, parse_mask
from explorer.models import full_name
from explorer.ui.components.words import literal
from explorer.ui.session import Bench, Widget, session, state
from explorer.ui.session.history import History
from explorer.ui.shell import mask_panel

_COLUMNS = {
    "name": st.column_config.TextColumn("name", width=172),
    "values": st.column_config.NumberColumn("values", help="how many it removes, or scales", width=56),
    "gain": st.column_config.NumberColumn("gain", format="percent", help="share of them that stays", width=48),
    "mode": st.column_config.TextColumn("mode", width=56),
    "model": st.column_config.TextColumn("model", width=84),
    "task": st.column_config.TextColumn("task", help="what it was scored on, where that is known", width=84),
    "when": st.column_config.DatetimeColumn("when (UTC)", format="YYYY-MM-DD HH:mm", width=122),
    "notes": st.column_config.TextColumn("notes", width=104),
    "from": st.column_config.TextColumn("made from", help="the saved mask before it", width=110),
    "id": st.column_config.TextColumn("id", help="the mask's id in links and file names", width="small"),
}


@dataclass(frozen=True)
class _Problems:
    """What went wrong with the library last."""

    sentences: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Deleted:
    """The masks that were deleted last, to be had back."""

    ids: tuple[str, ...]
    names: str


def attempt(change: Callable[[], object]) -> bool:
    """Do something to the library; what goes wrong is shown on the page, once."""
    try:
        change()
    except ExplorerError as error:
        state.put(_Problems((str(error),)))
        return False
    state.take(_Problems)
    return True


def save_current(bench: Bench, library: Library, known: Listing) -> None:
    """A name and a button that add the current mask, and places for imports and the trash."""
    mask = bench.mask
    there = next((one for one in known.entries if one.id == id_of(mask)), None)
    typed: Widget[str] = Widget("save-name")

    def save() -> None:
        line = session.lines(bench.model).line
        name = typed.text or _proposed(bench)
        if attempt(lambda: library.save(mask, name, fork_of=_origin(line.history, known))):
            typed.put("")
            st.toast(literal(f"{name} saved."), icon=":material/check:")

    with st.container(horizontal=True, vertical_alignment="bottom", key="library-bar"):
        st.text_input(
            "Save the current mask as", placeholder=_proposed(bench), key=typed.key, max_chars=MAX_NAME, width=320
        )
        st.button("Save", key="save", type="primary", on_click=save, disabled=not len(mask) or there is not None)
        _importer(library)
        _trash(library)
    if there is not None:
        st.caption(f"The current mask is in the library as **{literal(there.name)}**.")
    elif not len(mask):
        st.caption("Nothing is removed now: there is no mask to save.")


def _origin(history: History, known: Listing) -> str | None:
    """The saved mask that the current one was made from: the last one before it in its line."""
    saved = {entry.id for entry in known.entries}
    earlier = (id_of(mask) for mask in reversed(history.masks[: history.position]))
    return next((id for id in earlier if id in saved), None)


def _proposed(bench: Bench) -> str:
    task = bench.mask.provenance.task or bench.task.name
    return f"{task}, {len(bench.mask):,} {bench.mask.state}"[:MAX_NAME]


def _importer(library: Library) -> None:
    uploads = state.Uploads[Any]("import")

    def take() -> None:
        if (files := uploads.take()) is None:
            return
        problems = []
        for file in files:
            name = file.name.removesuffix(".json").removesuffix(".mask")[:MAX_NAME] or "imported"
            try:
                mask = parse_mask(file.getvalue(), name=file.name)
                library.save(mask, name)
                mask_panel.take_labels(mask)
            except MaskError as error:
                problems.append(str(error) if file.name in str(error) else f"{file.name}: {error}")
        state.put(_Problems(tuple(problems)))
        if done := len(files) - len(problems):
            st.toast(f"{done:,} imported.", icon=":material/check:")

    about = "Mask files, from here or from a colleague; each becomes an entry."
    with st.popover("Import", icon=":material/upload:", key="import-popover", help=about), st.container(key="import"):
        st.file_uploader(
            "Mask files", type=["json"], accept_multiple_files=True, key=uploads.widget.key, on_change=take
        )


def _trash(library: Library) -> None:
    gone = library.trashed().entries

    def restore(id: str) -> None:
        attempt(lambda: library.restore([id]))

    with st.popover(
        "Deleted", icon=":material/delete:", key="trash-popover", disabled=not gone, help="Masks to restore."
    ):
        for entry in gone:
            st.button(
                literal(f"Restore {entry.name} ({len(entry.mask):,} {entry.mask.state})"),
                key=f"restore-{entry.id}",
                on_click=restore,
                args=(entry.id,),
            )


def delete(library: Library, entries: tuple[Entry, ...]) -> None:
    """Delete entries; the page offers to undo it."""

    def work() -> None:
        ids = library.delete([one.id for one in entries])
        state.put(_Deleted(tuple(ids), ", ".join(one.name for one in entries)))

    attempt(work)


def messages(library: Library, known: Listing) -> None:
    """What went wrong, what was deleted last, and files that cannot be used."""
    for sentence in state.of(_Problems).sentences:
        st.error(literal(sentence), icon=":material/error:")
    deleted = state.find(_Deleted)
    if deleted is not None:

        def undo() -> None:
            attempt(lambda: library.restore(deleted.ids))
            state.take(_Deleted)

        with st.container(horizontal=True, vertical_alignment="center"):
            st.info(literal(f"Deleted: {deleted.names}."), icon=":material/delete:")
            st.button("Undo", key="undo-delete", on_click=undo)
    for broken in known.broken:
        st.warning(literal(broken.sentence), icon=":material/warning:")


def table(bench: Bench, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The entries, newest first; those whose rows are selected."""
    names = {one.id: one.name for one in entries}
    rows = [
        {
            "name": ("● " if one.id == id_of(bench.mask) else "") + one.name,
            "values": len(one.mask),
            "gain": one.mask.gain,
            "mode": one.mask.mode,
            "model": _model(one.mask),
            "task": one.mask.provenance.task or "",
            "when": pd.Timestamp(one.about.created),
            "notes": one.about.notes,
            "from": names.get(one.about.fork_of or "", one.about.fork_of or ""),
            "id": one.id,
        }
        for one in entries
    ]
    key = f"library-{abs(hash(tuple(names))) % 10**10}"  # other rows need another selection
    event = st.dataframe(
        pd.DataFrame(rows),
        key=key,
        on_select="rerun",
        selection_mode="multi-row",
        hide_index=True,
        height=330 if len(rows) > 8 else "content",
        column_config=_COLUMNS,
    )
    return tuple(entries[row] for row in event.selection.rows if row < len(entries))


def _model(mask: Mask) -> str:
    basis = "" if mask.model.basis == "raw" else f" ({mask.model.basis})"
    return full_name(mask.model.source).rstrip("/").split("/")[-1] + basis
