"""Where a direction is active: in the task, in the text that comes along or in the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from explorer.core.config import settings
from explorer.core.errors import ExplorerError, TaskError
from explorer.core.files import digest, replacing, safe_name
from explorer.measure.contexts import Context, DirectionContexts
from explorer.measure.perplexity import read_text
from explorer.plots import direction as direction_plots
from explorer.ui.components import coloured, figures
from explorer.ui.components.words import literal
from explorer.ui.direction.parts import Looked
from explorer.ui.session import guide, links, session, state
from explorer.ui.shell import plain_text
from explorer.ui.streamlit_internals.elements import DeltaGenerator

TASK, TEXT = "task", "text"


@dataclass(frozen=True)
class _OwnText:
    """The text that the session was given, as a file of the workspace."""

    path: Path
    name: str


def own_text() -> Path | None:
    """The user's own text, which takes the place of the one that comes along; None without one."""
    found = state.find(_OwnText)
    return found.path if found is not None and found.path.is_file() else None


def draw(looked: Looked, text: Path | None, plot: DeltaGenerator, *, status: DeltaGenerator) -> None:
    """The contexts, with the choice of what they are looked for in; the histogram goes to its own place."""
    st.subheader("Where it is active", divider="gray", anchor=False)
    offered = [TASK] + ([TEXT] if text is not None or plain_text.reads(looked.bench.model) else [])
    own = state.find(_OwnText)
    names = {TASK: f"train examples of {looked.bench.task.name}", TEXT: "plain text" if own is None else own.name}
    with st.container(horizontal=True, vertical_alignment="center"):
        linked = links.restore("corpus", TASK, links.one_of(offered), key="direction-corpus")
        where = linked.draw(
            st.segmented_control, "In", offered, required=True, format_func=lambda one: names[one],
            label_visibility="collapsed",
        ) if len(offered) > 1 else TASK  # fmt: skip
        if len(offered) == 1:
            st.caption(
                literal(f"In the {names[TASK]}; the model does not know the words of the text that comes along.")
            )
        _uploader()
    with status:
        found = looked.contexts(text if where == TEXT else None, task=where == TASK)
    if found is None:
        return
    with plot:
        figures.draw(
            direction_plots.activity(found.quantiles, found.mean, names[where]), "activity",
            alt="Histogram of x · u over all tokens",
        )  # fmt: skip
    _tables(found)
    guide.explain(
        f"{found.tokens:,} tokens in {found.sequences:,} sequences; mean {found.mean:.4g}, deviation "
        f"{found.deviation:.4g}. Framed: the token that the row is of. Colour: x · u at each token, orange above zero, "
        "blue below. Written: (x · u) s along v. Tokens with the same tokens before them are one context."
    )


def _tables(found: DirectionContexts) -> None:
    scale = max((abs(one) for one in (found.quantiles[0], found.quantiles[-1])), default=0.0)
    left, right = st.columns(2)
    with left:
        _table("Largest x · u", found.largest, scale)
    with right:
        _table("Smallest x · u", found.smallest, scale)
    _table("At random", found.random, scale)


def _table(title: str, contexts: Sequence[Context], scale: float) -> None:
    st.markdown(f"**{title}**")
    rows = [
        (
            (f"{one.value:+.3g}", f"{one.written:+.3g}"),
            coloured.line(one.tokens, one.values, at=one.at, scale=scale, cut=not one.begins),
        )
        for one in contexts
    ]
    st.html(coloured.table(("x · u", "written", "context"), rows, title))


def _uploader() -> None:
    uploads = state.Uploads[Any]("direction-text")

    def take() -> None:
        if (file := uploads.take()) is None:
            return
        try:
            state.put(_OwnText(_kept(file.name, file.getvalue()), file.name))
        except ExplorerError as error:
            session.complain(str(error))

    with st.popover(
        "Own text", icon=":material/upload_file:", key="own-text", help="Look for contexts in a text of yours."
    ):
        st.file_uploader(
            "Text file", type=["txt", "md"], key=uploads.widget.key, on_change=take,
            help="UTF-8, in words that the model knows; it stays in your workspace.",
        )  # fmt: skip
        if state.find(_OwnText) is not None:
            st.button(
                "Back to the text that comes along", key="direction-text-drop", on_click=state.take, args=(_OwnText,)
            )


def _kept(name: str, content: bytes) -> Path:
    """A text in the workspace, by its name and content; raises TaskError for one that is none."""
    stem = safe_name(Path(name).stem, "text")
    path = settings().workspace_dir / "texts" / f"{stem}-{digest([content]).removeprefix('sha256:')[:8]}.txt"
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise TaskError(f"{path} cannot be written ({error.strerror}): check the workspace folder.") from None
    try:
        read_text(path)
    except TaskError as error:
        path.unlink(missing_ok=True)
        raise TaskError(str(error).replace(str(path), name)) from None
    return path
