"""The sidebar's last part: the state of the mask, its steps and forks, what to share, download, upload."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Literal

import streamlit as st

from explorer.core.errors import ExplorerError, MaskError
from explorer.core.files import safe_name
from explorer.export import EXPORTS, Export
from explorer.masks.belonging import identity, may_belong
from explorer.masks.library import keep_labels, labelled
from explorer.masks.mask import Mask, parse_mask
from explorer.models import Model, ViewPool
from explorer.ui.components import words
from explorer.ui.jobs import work
from explorer.ui.session import Bench, session, state
from explorer.ui.session.history import History
from explorer.ui.session.notices import notices
from explorer.ui.session.session import Offered
from explorer.ui.shell import lines_panel, share

PLACES = 8
Width = Literal["content", "stretch"]


def draw(model: Model, bench: Bench | None) -> None:
    """Draw the panel; without a bench there is no task, and nothing to share."""
    st.subheader("Mask", divider="gray", anchor=False)
    mask = session.history(model).mask
    lines_panel.choose_line(model)
    _state(mask)
    if bench is None:  # no page has a heading
        toolbar(model)
    with st.container(horizontal=True, gap="small"):
        lines_panel.steps(model)
        lines_panel.forks(model)
    if bench is not None:
        share.draw(bench)
    _uploader(model)


def toolbar(model: Model) -> None:
    """Undo, redo, and the mask as a file."""
    with st.container(horizontal=True, horizontal_alignment="right", gap="small", key="toolbar"):
        _steps(model)
        downloads("Download", model.source.name, session.history(model).mask, key="download")


def take_upload(model: Model, views: ViewPool) -> None:
    """Make a mask that was uploaded the session's, once its values have been checked against the model's."""
    offered = state.find(Offered)
    if offered is None:
        return
    name, mask = offered.name, offered.mask
    if not may_belong(mask, model):
        state.take(Offered)
        return
    checked = work.checked(views, mask, name)
    if checked is None:
        return
    state.take(Offered)
    if isinstance(checked, str):
        session.complain(checked)
    else:
        session.change_mask(model, lambda _: checked, offered.label)
        take_labels(checked)
        st.toast(words.literal(f"{name}: {words.chosen(mask)}."), icon=":material/check:")


def take_labels(mask: Mask) -> None:
    """Take over the labels of a mask from elsewhere, and say which stay as they are here."""
    try:
        left = keep_labels(mask)
    except MaskError as error:
        notices().append_once(f"The labels of the mask are left out: {error}")
        return
    if left:
        first = f"{left[0].matrix} value {left[0].index}"
        more = f" and {len(left) - 1:,} more" if len(left) > 1 else ""
        notices().append(f"Your own labels stay where the mask has others: {first}{more}.")


def _state(mask: Mask) -> None:
    places = ", ".join(f"{key} ({len(removed)})" for key, removed in list(mask.by_matrix.items())[:PLACES])
    more = len(mask.by_matrix) - PLACES
    count = len(mask.by_matrix)
    with st.container(key="mask-state"):
        where = f" in {words.count(count, 'matrix', 'matrices')}" if count else ""
        st.markdown(f"**{len(mask):,} {mask.state}**{where}")
        st.caption(
            (places + (f" and {more:,} more" if more > 0 else ""))
            or f"Nothing is {words.past(mask)}: the model is as loaded."
        )
    if sentence := session.problem():
        st.error(words.literal(sentence), icon=":material/error:")


def _steps(model: Model) -> None:
    history = session.history(model)
    for label, way, enabled, letter in (
        ("Undo", History.undo, history.can_undo, "Z"),
        ("Redo", History.redo, history.can_redo, "Y"),
    ):
        st.button(
            label,
            disabled=not enabled,
            on_click=session.step,
            args=(model, way),
            key=label.lower(),
            shortcut=f"Ctrl+{letter}",
        )


def downloads(verb: str, name: str, mask: Mask, *, key: str, width: Width = "content") -> None:
    """A button for each format in which a mask leaves; `name` is the model's or the mask's."""
    for sort, export in EXPORTS.items():
        st.download_button(
            f"{verb} {export.label}",
            data=partial(_encoded, export, mask),  # made when asked for: a file per rerun would be gone too soon
            file_name=file_name(name, mask, export.suffix),
            mime=export.mime,
            icon=":material/download:",
            on_click="ignore",
            width=width,
            key=key if sort == "mask" else f"{key}-{sort}",
            help=export.about,
        )


def _encoded(export: Export, mask: Mask) -> bytes:
    """A mask with the labels of its values; without them where these cannot be read."""
    try:
        return export.encode(labelled(mask))
    except MaskError:
        return export.encode(mask)


def file_name(model: str, mask: Mask, suffix: str) -> str:
    """What a downloaded mask is called, with the last part of the model's name.

    `bundled-4-removed.mask.json`, or `bundled-4-scaled-0.5.mask.json`.
    """
    last = re.split(r"[/\\]", model.strip().rstrip("/\\"))[-1].removesuffix(".gguf")
    mode = "" if mask.mode == "freeze" else f"-{mask.mode}"
    state = f"scaled-{mask.gain!r}" if mask.gain else "removed"
    return f"{safe_name(last, 'model')}-{len(mask)}-{state}{mode}{suffix}"


def _uploader(model: Model) -> None:
    # Each file gets an uploader of its own, so that it is taken once and the next one finds an empty place.
    uploads = state.Uploads[Any]("upload")

    def take() -> None:
        if (file := uploads.take()) is None:
            return
        try:
            mask = parse_mask(file.getvalue(), name=file.name)
            if not may_belong(mask, model):
                mask.check_model(identity(model))
        except ExplorerError as error:
            session.complain(str(error))
        else:
            state.put(Offered(file.name, mask, f"uploaded {file.name}"))

    with st.container(key="upload"):
        st.file_uploader(
            "Upload a mask", type=["json"], key=uploads.widget.key, on_change=take,
            help="A mask file for this model; it becomes a step of the history.",
        )  # fmt: skip
