"""What one browser session has chosen: typed access to `st.session_state`, and the autosaved mask."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import streamlit as st

from explorer.config import settings
from explorer.edit import empty_mask
from explorer.errors import ExplorerError, MaskError
from explorer.keys import Kind
from explorer.masks import Mask, Mode, load_mask
from explorer.models import Model, ViewPool
from explorer.svd_cache import SvdCache
from explorer.tasks import Task
from explorer.ui.cached import notices
from explorer.ui.history import History
from explorer.ui.jobs import Key

SAVED_SESSIONS = 100
_TOKEN = re.compile(r"[0-9a-f]{12}")
_CHANGING = threading.RLock()  # a rerun's thread starts while the last one's, with its callbacks, still ends


@dataclass(frozen=True)
class Bench:
    """Everything that a page works with in one run: the loaded model, the task, the mask, the settings.

    Attributes:
        views: views of the model to borrow.
        kinds, per_head: the set M of scored matrices.
        scorer: what scores them: one of SCORERS that predicts nats.
        score_limit: number of train examples to score on, None for all.
        split, eval_limit: where accuracy and loss are measured, and on how many examples.
    """

    model: Model
    views: ViewPool
    svds: SvdCache
    task: Task
    mask: Mask
    kinds: tuple[Kind, ...]
    per_head: bool
    scorer: str
    score_limit: int | None
    split: str
    eval_limit: int | None

    @property
    def mode(self) -> Mode:
        """Removal mode: the mask's."""
        return self.mask.mode


def current() -> Bench:
    """The bench of this run, which app.py made before it ran the page."""
    return cast("Bench", st.session_state["bench"])


def history(model: Model) -> History:
    """This session's masks for a model; the first time, the mask autosaved under the URL's session, or an empty one."""
    histories = cast("dict[str, History]", st.session_state.setdefault("histories", {}))
    if model.digest not in histories:
        start = History((empty_mask(model),))
        saved = _saved(model)
        histories[model.digest] = start if saved is None else start.push(saved)
    return histories[model.digest]


def remember(model: Model, changed: History) -> None:
    """Make `changed` the session's history for a model, and autosave its mask.

    A newer event from the browser interrupts a callback at any access to session state or URL. All of them come before
    the change, so that it happens in full or not at all.
    """
    histories, path = st.session_state["histories"], _autosave_path(model)
    st.session_state["problem"] = None
    histories[model.digest] = changed
    _autosave(path, changed.mask)


def change_mask(model: Model, change: Callable[[Mask], Mask]) -> bool:
    """Go on with `change` of the mask as it is now, as a step that can be undone; for callbacks, where now matters.

    An ExplorerError leaves the mask as it is and becomes the session's `problem`; False then.
    """
    with _CHANGING:
        before = history(model)
        try:
            remember(model, before.push(change(before.mask)))
        except ExplorerError as error:
            complain(str(error))
            return False
    return True


def undo(model: Model) -> None:
    """Step back to the mask before."""
    with _CHANGING:
        remember(model, history(model).undo())


def redo(model: Model) -> None:
    """Step forward to the mask that was undone."""
    with _CHANGING:
        remember(model, history(model).redo())


def in_mode(mask: Mask, mode: Mode) -> Mask:
    """`mask` with another removal mode; made anew, since a copy would keep the old digest."""
    return Mask(
        model=mask.model, mode=mode, removed=mask.removed, provenance=mask.provenance, metrics=dict(mask.metrics)
    )


def complain(sentence: str) -> None:
    """Show why a change was refused, until the mask changes."""
    st.session_state["problem"] = f"{sentence} Your mask is as it was."


def problem() -> str | None:
    """Why the last change was refused, if it was."""
    return cast("str | None", st.session_state.get("problem"))


def replaced_job(key: Key) -> Key | None:
    """Note `key` as the session's measurement under way; gives the one that it replaces, if it is another."""
    before = cast("Key | None", st.session_state.get("measuring"))
    st.session_state["measuring"] = key
    return before if before != key else None


def token() -> str:
    """The session's name in the URL: a reload of the page finds its autosaved mask by it."""
    given = str(st.query_params.get("session", ""))
    if not _TOKEN.fullmatch(given):
        given = st.session_state.get("session") or secrets.token_hex(6)
        st.query_params["session"] = given
    st.session_state["session"] = given
    return given


def _autosave_path(model: Model) -> Path:
    name = f"{token()}-{model.digest.removeprefix('sha256:')[:12]}.json"
    return settings().workspace_dir / "autosave" / name


def _autosave(path: Path, mask: Mask) -> None:
    try:
        mask.save(path)
        for old in sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)[:-SAVED_SESSIONS]:
            old.unlink(missing_ok=True)
    except (MaskError, OSError):
        notices().append_once(f"Masks cannot be autosaved in {path.parent}: download yours before you reload the page.")


def _saved(model: Model) -> Mask | None:
    path = _autosave_path(model)
    if not path.is_file():
        return None
    try:
        mask = load_mask(path)
        mask.check_model(empty_mask(model).model)
    except MaskError as error:
        notices().append(f"The autosaved mask could not be restored: {error}")
        return None
    return mask
