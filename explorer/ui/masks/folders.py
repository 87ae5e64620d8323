"""A saved mask's way out: the pruned model, or its change, as a folder for other programs, made and checked."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from explorer.actions import ExportMask
from explorer.core.config import settings
from explorer.core.files import safe_name
from explorer.core.progress import Progress
from explorer.export import FORMATS
from explorer.export.base import Order
from explorer.export.run import Exported, export
from explorer.masks.belonging import adopted
from explorer.masks.library import Entry
from explorer.masks.mask import Mask
from explorer.models import View
from explorer.ui.components.words import literal
from explorer.ui.jobs.cached import runner
from explorer.ui.jobs.runner import Key
from explorer.ui.jobs.work import held, on_view
from explorer.ui.session import Bench, Setting, guide, requests, state
from explorer.ui.session.notices import notices
from explorer.ui.shell import share

DOWNLOADED = 64_000_000  # bytes up to which a folder is also offered as one file


@dataclass(frozen=True)
class _Wanted:
    """The folder that was last asked for."""

    mask: str
    format: str
    zero: bool


def draw(bench: Bench, entry: Entry) -> None:
    """Choose a format; on demand the folder, who reads it, and how it was checked."""
    st.subheader("Export", divider="gray", anchor=False)
    guide.explain(
        "The pruned model for programs that know nothing of masks. The folder appears in the workspace once its own "
        "program has read it again and says the same on the task's test prompts."
    )
    with st.container(horizontal=True, vertical_alignment="bottom", key="export-bar"):
        names = list(FORMATS)
        chosen = st.selectbox(
            "Format", names, format_func=lambda name: FORMATS[name].label, key="export-format", width=240,
            persist_state="session",
        )  # fmt: skip
        frozen = entry.mask.mode == "freeze"
        zero = frozen and st.toggle(
            "Without frozen means", key="export-zero", persist_state="session",
            help="Nothing in the place of the values: another edit, with figures of its own, that needs no biases.",
        )  # fmt: skip
        wanted = _Wanted(entry.id, chosen, zero=zero)
        out = Path(_name(entry, wanted))
        by_contents = request(requests.by_contents(bench), entry.mask, out, format=chosen, zero=zero)
        key = ("export", str(_place(entry, wanted)), by_contents)

        def ask() -> None:
            made = held(key)
            if made is not None and not made.folder.is_dir():
                runner().forget(key)
            state.put(wanted)

        st.button("Export folder", key="export-go", type="primary", on_click=ask, disabled=not len(entry.mask))
        share.copy(
            "export", bench, lambda setting: [request(setting, entry.mask, out, format=chosen, zero=zero)],
            disabled=not len(entry.mask),
        )  # fmt: skip
    st.caption(f"{FORMATS[chosen].about} Read again by {FORMATS[chosen].client}.")
    if state.find(_Wanted) == wanted:
        made = _made(bench, entry, wanted, key=key)
        if made is not None:
            _show(made)


def request(setting: Setting, mask: Mask, out: Path, *, format: str, zero: bool) -> ExportMask:
    """The export of a mask, measured as the page measures."""
    return ExportMask(
        mask=setting.file(mask), model=setting.model, format=format, out=out, tasks=setting.tasks, zero=zero,
        limit=setting.bench.eval_limit,
    )  # fmt: skip


def _name(entry: Entry, wanted: _Wanted) -> str:
    """Name of the folder: the mask's, what of it is exported, and the format."""
    return f"{safe_name(entry.name, 'mask')}-{entry.id}{'-zero' if wanted.zero else ''}-{wanted.format}"


def _place(entry: Entry, wanted: _Wanted) -> Path:
    return settings().workspace_dir / "exports" / _name(entry, wanted)


def _made(bench: Bench, entry: Entry, wanted: _Wanted, key: Key) -> Exported | None:
    """The folder; None while it is being made, or if that failed, which is shown in its place."""
    order = Order(
        wanted.format, _place(entry, wanted), (bench.task,), force=True, limit=bench.eval_limit, zero=wanted.zero
    )

    def work(view: View, progress: Progress) -> Exported:
        mask = adopted(view, entry.mask, bench.svds, notify=notices().append_once)
        return export(view, mask, bench.svds, order=order, forms=FORMATS, progress=progress)

    return on_view(bench, key, work, label=f"Exporting {entry.name} as {FORMATS[wanted.format].label}")


def _show(made: Exported) -> None:
    checked = made.checked
    st.success(
        f"Read again by {checked.client}: log-probabilities differ by at most {checked.difference:.1e} nats at "
        f"{checked.positions:,} answer tokens of {checked.prompts:,} prompts ({checked.limit:.0e} allowed in "
        f"{checked.dtype}).",
        icon=":material/verified:",
    )
    st.markdown(f"**For** {literal(made.readers)}")
    for note in made.notes:
        st.caption(literal(note))
    st.code(str(made.folder), language=None, wrap_lines=True)
    st.caption(literal(f"{made.size / 1e6:,.1f} MB: {', '.join(made.files)}"))
    if made.size <= DOWNLOADED and made.folder.is_dir():
        st.download_button(
            "Download as zip",
            data=lambda: _zipped(made.folder),
            file_name=f"{made.folder.name}.zip",
            mime="application/zip",
            icon=":material/download:",
            on_click="ignore",
            key="export-zip",
        )


def _zipped(folder: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{folder.name}/{path.name}")
    return stream.getvalue()
