"""What one browser session works on: its name, its bench, its masks with their steps, and their autosave."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import streamlit as st

from explorer.core.config import settings
from explorer.core.errors import ExplorerError, MaskError
from explorer.core.keys import Kind
from explorer.masks.apply import empty_mask
from explorer.masks.belonging import identity, names
from explorer.masks.mask import Mask, Mode
from explorer.models import Model, ViewPool
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from explorer.ui.session import autosave, state
from explorer.ui.session.history import History, Lines
from explorer.ui.session.notices import notices
from explorer.ui.streamlit_internals import runs

T = TypeVar("T")
SAVED_SESSIONS = 100
HELD_MODELS = 5  # of a session, whose masks are in memory
_TOKEN = re.compile(r"[0-9a-f]{12}")
_OF_BEFORE = (
    "The autosaved masks identify the model's weights alone: they were made with this model if neither its "
    "configuration nor its tokenizer has changed since."
)
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

    @property
    def total(self) -> int:
        """Number of examples in the split, of which `eval_limit` are measured at most."""
        return len(self.task.split(self.split))

    def agrees(self, other: Bench) -> bool:
        """Whether the same would be shown of both."""
        return self._contents() == other._contents()

    def _contents(self) -> tuple[Hashable, ...]:
        scoring = (self.kinds, self.per_head, self.scorer, self.score_limit)
        return self.model.as_loaded, self.task.digest, self.mask.digest, *scoring, self.split, self.eval_limit


def current() -> Bench:
    """The bench of this run, which app.py made before it ran the page."""
    bench = state.find(Bench)
    assert bench is not None, "a page is drawn only where there is a bench"
    return bench


def work_on(bench: Bench | None) -> None:
    """Make this the bench of the run; None where something is missing."""
    if bench is None:
        state.take(Bench)
    else:
        state.put(bench)


@dataclass
class Masks:
    """The session's lines of masks by the model's digest."""

    of: dict[str, Lines] = field(default_factory=dict)


@dataclass(frozen=True)
class Offered:
    """A mask from elsewhere, to be checked and then made the session's as a step called `label`."""

    name: str
    mask: Mask
    label: str


@dataclass(frozen=True)
class _Problem:
    sentence: str


@dataclass(frozen=True)
class _Name:
    """What the session is called in the URL, and what another one is called that it parted from."""

    token: str
    parted: str | None = None


@dataclass
class Url:
    """The query parameters that the session wrote."""

    parameters: dict[str, str] = field(default_factory=dict)


def lines(model: Model) -> Lines:
    """This session's lines of masks for a model; the first time, those autosaved under the URL's session, or one."""
    known = state.of(Masks).of
    if model.digest not in known:
        known[model.digest] = _saved(model) or Lines.start(History.start(empty_mask(model)))
        for other in list(known)[:-HELD_MODELS]:  # those are autosaved
            del known[other]
    return known[model.digest]


def history(model: Model) -> History:
    """The current line's masks for a model."""
    return lines(model).history


def remember(model: Model, changed: Lines) -> None:
    """Make `changed` the session's lines for a model, and autosave them.

    A newer event from the browser interrupts a callback at any access to session state or URL. All of them come before
    the change, so that it happens in full or not at all.
    """
    known, path = state.of(Masks).of, _autosave_path(model)
    state.take(_Problem)
    known[model.digest] = changed
    _autosave(path, changed)


def change_lines(model: Model, change: Callable[[Lines], Lines]) -> bool:
    """Go on with `change` of the lines as they are now; for callbacks, where now matters.

    An ExplorerError leaves everything as it is and becomes the session's `problem`; False then.
    """
    with _CHANGING:
        before = lines(model)
        try:
            remember(model, change(before))
        except ExplorerError as error:
            complain(str(error))
            return False
    return True


def change_mask(model: Model, change: Callable[[Mask], Mask], label: str | None = None) -> bool:
    """Go on with `change` of the mask as it is now, as a step of the history; otherwise as `change_lines`.

    Args:
        model: whose mask.
        change: from the mask to the next one.
        label: what the history calls the step; by default what it changed, such as `+3 L2.Q.H1`.
    """
    return change_lines(model, lambda now: now.changed(now.history.push(change(now.mask), label)))


@dataclass
class _Steps:
    """How often a button that goes along a line has been pressed."""

    taken: int = 0


def steps_taken() -> int:
    """How often `step` has been called in this session."""
    return state.of(_Steps).taken


def step(model: Model, way: Callable[[History], History]) -> None:
    """Go along the current line, such as by `History.undo`."""
    state.of(_Steps).taken += 1
    change_lines(model, lambda now: now.changed(way(now.history)))


def go_to(model: Model, mask: Mask, label: str) -> None:
    """Be at `mask`: at its step if the current line has it, on the line that is at it, or with a new step."""

    def change(now: Lines) -> Lines:
        if (at := now.history.nearest(mask.digest)) is not None:
            return now.changed(now.history.jump(at))
        for line in now.lines:
            if line.history.mask.digest == mask.digest:
                return now.switch(line.name)
        return now.changed(now.history.push(mask, label))

    change_lines(model, change)


def in_mode(mask: Mask, mode: Mode) -> Mask:
    """`mask` with another removal mode; made anew, since a copy would keep the old digest."""
    return Mask(
        model=mask.model,
        mode=mode,
        gain=mask.gain,
        removed=mask.removed,
        provenance=mask.provenance,
        metrics=dict(mask.metrics),
    )


def moved(key: str, shown: T, act: Callable[[T], object]) -> Callable[[], None]:
    """A callback for a widget that shows something of the mask: `act` on its value, if it is not the one `shown`.

    Streamlit also calls callbacks of widgets that were away for a while and come back with what they showed then, as
    when another task is chosen. Nothing but the user's own move is to change a mask.
    """

    def change() -> None:
        value = state.Widget[T](key).value
        if value is not None and value != shown:
            act(value)

    return change


def complain(sentence: str) -> None:
    """Show why a change was refused, until the mask changes."""
    state.put(_Problem(f"{sentence} Your mask is as it was."))


def problem() -> str | None:
    """Why the last change was refused, if it was."""
    found = state.find(_Problem)
    return None if found is None else found.sentence


def token() -> str:
    """The session's name in the URL: a reload of the page finds its autosaved mask by it."""
    known = state.find(_Name)
    given = str(st.query_params.get("session", ""))
    if known is None:
        known = _Name(given if _TOKEN.fullmatch(given) else secrets.token_hex(6))
        state.put(known)
    if known.token != given:
        # The browser drops all of them when another page opens: written together they make no entry in its history.
        st.query_params.update({"session": known.token, **state.of(Url).parameters})
    return known.token


def name() -> str | None:
    """The session's name where there is a session that has one already; None elsewhere, as in worker threads."""
    found = state.find(_Name) if runs.inside() else None
    return None if found is None else found.token


def part() -> None:
    """Go on under a name of one's own: another tab shows this session. It begins with the masks autosaved there."""
    state.put(_Name(secrets.token_hex(6), parted=token()))
    token()


def _autosave_path(model: Model, name: str | None = None, digest: str | None = None) -> Path:
    """The file of a session's masks: this one's, and under the model's identity, unless others are given."""
    file = f"{name or token()}-{(digest or model.digest).removeprefix('sha256:')[:12]}.json"
    return settings().workspace_dir / "autosave" / file


def _autosave(path: Path, changed: Lines) -> None:
    try:
        autosave.save(path, changed)
        for old in sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)[:-SAVED_SESSIONS]:
            old.unlink(missing_ok=True)
    except OSError:
        notices().append_once(f"Masks cannot be autosaved in {path.parent}: download yours before you reload the page.")


def _saved(model: Model) -> Lines | None:
    own, named = token(), state.find(_Name)
    sessions = [own, *([named.parted] if named is not None and named.parted is not None else [])]
    digests = (model.digest, *sorted(names(model) - {model.digest}), model.parts.weights)  # as files were named before
    paths = (_autosave_path(model, name, digest) for name in sessions for digest in digests)
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    try:
        found = autosave.load(path)
        for line in found.lines:
            for step in line.history.steps:
                if step.mask.model.digest not in names(model):
                    step.mask.check_model(identity(model))
        if any(step.mask.model.digest != model.digest for line in found.lines for step in line.history.steps):
            if any(step.mask.model.weights is None for line in found.lines for step in line.history.steps):
                notices().append_once(_OF_BEFORE)
            found = found.of_model(identity(model))
    except MaskError as error:
        notices().append(f"The autosaved mask could not be restored: {error}")
        return None
    return found
