"""Drive the app through AppTest: open pages, read what they say, upload; and the engine to compare with."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any, TypeVar

from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest

from explorer.attribution import Scores, score
from explorer.core.keys import Kind
from explorer.masks.apply import apply
from explorer.masks.mask import Mask, Mode
from explorer.measure.evaluate import Comparison, evaluate
from explorer.models import View
from explorer.models.matrices import matrices
from explorer.search import lowest, mask_of
from explorer.spectra.cache import SvdCache
from explorer.tasks import TASKS, Task, load_task
from explorer.ui.bench.workbench import Editing
from explorer.ui.session.session import Masks
from explorer.ui.session.state import name_of
from explorer.ui.shell.task_choice import UPLOADED
from explorer.ui.table import PAGES as TABLE

APP = str(Path(__file__).resolve().parents[2] / "app.py")
SECONDS = 120.0
PAGES = {page.title: page.script for page in TABLE}


T = TypeVar("T")


def held(app: AppTest, kind: type[T]) -> T:
    """The session's object of a class."""
    value: T = app.session_state[name_of(kind)]
    return value


def open_page(title: str = "Overview", **query: str) -> AppTest:
    """A new session on a page, entered as a user enters it; fails on a traceback."""
    app = AppTest.from_file(APP, default_timeout=SECONDS)
    for name, value in query.items():
        app.query_params[name] = value
    return go(settled(app.run()), title)


def go(app: AppTest, title: str) -> AppTest:
    """Another page of the same session."""
    return settled(app.switch_page(PAGES[title]).run())


def settled(app: AppTest) -> AppTest:
    """Run until no progress bar is left; fails on a traceback, or when one run's patience is over."""
    deadline = monotonic() + SECONDS
    while monotonic() < deadline:
        assert not app.exception, [one.value for one in app.exception]
        if not app.get("progress"):
            return app
        sleep(0.05)  # the job needs the interpreter more than the page does
        app.run()
    raise AssertionError(f"still under way: {[bar.proto.text for bar in app.get('progress')]}")


def click(app: AppTest, key: str) -> AppTest:
    """Click a button."""
    return settled(app.button(key=key).click().run())


def look(app: AppTest, section: str) -> AppTest:
    """Open a tab of the Prune page."""
    app.session_state["section"] = section
    return settled(app.run())


@dataclass(frozen=True)
class Copied:
    """What the popover beside an action holds: commands and Python, one after the other."""

    commands: list[str]
    python: list[str]


def copied(app: AppTest, name: str) -> Copied:
    """What the popover beside an action holds."""
    return every_copied(app, name)[name]


def every_copied(app: AppTest, *names: str) -> dict[str, Copied]:
    """What the popovers beside the actions of a page hold, by their names; by default of all of them."""
    opened = {f"copy-{name}": name for name in names or _popovers(app)}
    for key in opened:
        app.session_state[key] = True
    settled(app.run())
    found = {}
    for name, popover in _popovers(app).items():
        blocks = [(one.language, one.value) for one in popover.get("code")]
        found[name] = Copied(*([text for language, text in blocks if language == kind] for kind in ("bash", "python")))
    for key in opened:
        app.session_state[key] = False
    return {name: found[name] for name in opened.values()}


def _popovers(app: AppTest) -> dict[str, Any]:
    """The popovers beside actions, by the ends of their keys, which stand at the end of their ids."""
    ids = [(one, one.proto.id.split("-", 2)[-1]) for one in app.get("popover")]
    return {key.removeprefix("copy-"): one for one, key in ids if key.startswith("copy-")}


def figures(app: AppTest) -> dict[str, str]:
    """The metrics of the Prune page by label."""
    return {metric.label: metric.value for metric in app.metric}


def captions(app: AppTest) -> str:
    """All captions, one after the other."""
    return plain("\n".join(caption.value for caption in app.caption))


def sentences(app: AppTest) -> list[str]:
    """What the page complains about."""
    return [plain(error.value) for error in app.error]


def plain(text: str) -> str:
    """Text as Markdown shows it: without the backslashes before punctuation, and what keeps addresses from links."""
    return re.sub(r"\\([\W_])", r"\1", text.replace("\u2060", ""))


def removed_line(app: AppTest) -> str:
    """The sidebar's line on the mask."""
    (line,) = (text.value for text in app.sidebar.markdown if "removed**" in text.value)
    return line.replace("*", "")


def mask_in(app: AppTest) -> Mask:
    """The session's mask, of the one model that it has loaded."""
    (history,) = held(app, Masks).of.values()
    mask: Mask = history.mask
    return mask


def choose(app: AppTest, key: str, text: str) -> AppTest:
    """Choose or type an option of a selectbox by its text, as the browser sends it."""
    box = app.selectbox(key=key).proto.id
    states = app._tree.get_widget_states()
    for state in states.widgets:
        if state.id == box:
            state.string_value = text
            return settled(app._run(states))
    raise AssertionError(f"{key} has no state")


def token(app: AppTest) -> str:
    """The session's name in the URL."""
    value = app.query_params["session"]
    return value if isinstance(value, str) else value[-1]


def upload(app: AppTest, content: bytes, name: str = "mask.json") -> AppTest:
    """Upload a mask."""
    (uploader,) = (one for one in app.file_uploader if one.label == "Upload a mask")
    return settled(uploader.upload(name, content, "application/json").run())


def upload_task(app: AppTest, text: str | bytes, name: str = "task.jsonl") -> AppTest:
    """Choose a task file."""
    app.selectbox(key="task").set_value(UPLOADED).run()
    content = text.encode() if isinstance(text, str) else text
    (uploader,) = (one for one in app.file_uploader if one.label == "Task file")
    return settled(uploader.upload(name, content, "application/jsonl").run())


def prompt_box(app: AppTest) -> Any:
    """The prompt on the Activations page."""
    (box,) = (one for one in app.text_area if (one.key or "").startswith("prompt-"))
    return box


def edit_table(app: AppTest, checks: dict[int, bool]) -> AppTest:
    """Set checkboxes of the score table by row, on top of those that were set in it before.

    AppTest cannot edit a table, so this writes the state that the browser would send.
    """
    key = f"table-{held(app, Editing).number}"
    edits = {row: {"removed": check} for row, check in checks.items()}
    if key in app.session_state:
        edits = {**app.session_state[key]["edited_rows"], **edits}
    state = json.dumps({"edited_rows": edits, "added_rows": [], "deleted_rows": []})
    states = app._tree.get_widget_states()
    states.widgets.append(WidgetState(id=app.data_editor(key=key).proto.id, string_value=state))
    return settled(app._run(states))


@dataclass(frozen=True)
class Engine:
    """The engine without the app."""

    view: View
    svds: SvdCache

    def scores(
        self,
        task: Task | str = "int-mult",
        kinds: Sequence[Kind] = (Kind.Q, Kind.K),
        mode: Mode = "freeze",
        *,
        per_head: bool = True,
    ) -> Scores:
        """Gradient scores, as the app's default settings make them."""
        task = load_task(task) if isinstance(task, str) else task
        return score(self.view, task, self.svds, matrices(self.view, kinds, per_head=per_head), mode=mode)

    def lowest(self, scores: Scores, count: int) -> Mask:
        """The mask of the `count` lowest-scored values."""
        task = load_task(scores.task) if scores.task in TASKS else None
        return mask_of(self.view, scores, lowest(scores, count), task=task)

    def random(self, scores: Scores, mask: Mask, seed: int) -> Mask:
        """A random mask with as many values in each matrix as a mask has."""
        lots = Random(seed)
        drawn = {key: lots.sample(range(len(scores.matrices[key].s)), len(of)) for key, of in mask.by_matrix.items()}
        return mask_of(
            self.view, scores, [scores.removed(key, index) for key, indices in drawn.items() for index in indices]
        )

    def compare(self, mask: Mask, task: Task | str = "int-mult", split: str = "validation") -> Comparison:
        """The mask's evaluation beside the unpruned model's."""
        task = load_task(task) if isinstance(task, str) else task
        found = []
        for one in (mask, mask.without_all()):
            apply(self.view, one, self.svds)
            found.append(evaluate(self.view, task, split))
        apply(self.view, mask.without_all(), self.svds)
        return Comparison(*found)
