"""Random gestures on all pages, with several models and tasks: nothing raises, and no mask is lost."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from explorer.masks.mask import Mask
from explorer.ui.jobs import cached
from explorer.ui.prune.removing import GAINS
from explorer.ui.session.session import Masks
from explorer.ui.session.state import name_of
from explorer.ui.shell.sidebar import MODES
from explorer.ui.shell.task_choice import UPLOADED
from tests import tiny
from tests.pages.app import APP, PAGES, SECONDS, held

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

GESTURES, SEEDS = 125, 4
RUNS = 8  # reruns that a page gets to finish what a gesture began
# What may change the mask; everything else must not. `mode` and `gain` keep its values.
EDITS = (
    "remove-lowest", "restore-all", "undo", "redo", "k-slider", "gain", "mode", "whole-", "search-open", "entry-open",
    "history-step", "fork", "tour-2", "remove-selected", "restore-selected", "combine-", "switch-direction",
    "transfer-", "why-remove", "why-restore", "keep-best",
)  # fmt: skip
# The hub, other machines' files, and what takes minutes.
LEFT_OUT = ("fetch", "superglue", "against", "transfer-model", "search-seconds", "search-most", "measure-count")
TEXTS = ("3 x 4 =", "Two lines:\n3 x 4 =", "", "![x](http://e.example/x.png)")


def lines(count: int) -> bytes:
    rows = [
        {"prompt": f"What is\n{a} x {b}?\nAnswer:", "answer": f" {a * b}", "choices": [f" {a * b}", f" {a + b + 90}"]}
        for a in range(2, 2 + count)
        for b in range(2, 6)
    ]
    return "\n".join(map(json.dumps, rows)).encode()


CSV = b"prompt,answer\n" + b"".join(b'"%d + %d ="," %d"\n' % (a, b, a + b) for a in range(9) for b in range(4))
FILES = {"lines.jsonl": lines(8), "sums.csv": CSV, "broken.jsonl": b'{"prompt": 3}\n'}
TASKS = ("int-mult", "int-sum", "ioi", UPLOADED)  # ioi's names are no tokens of the bundled model


@dataclass(frozen=True)
class Gesture:
    """Something that a user can do: what it is called, whether it may change the mask, and doing it."""

    name: str
    act: Callable[[], AppTest]

    @property
    def edits(self) -> bool:
        return self.name.startswith(EDITS)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tiny.save_letters(tmp_path_factory.mktemp("monkey") / "llama", "llama")
    return ("bundled", str(folder))


@pytest.fixture(autouse=True)
def _own_jobs(empty_library: None) -> Iterator[None]:
    cached.runner.clear()
    yield
    cached.runner().close(60)  # a search that still runs would outlast the process
    cached.runner.clear()


def finished(app: AppTest) -> AppTest:
    """Give the page a few runs to finish what is under way."""
    for _ in range(RUNS):
        if app.exception or not app.get("progress"):
            break
        app.run()
    return app


def masks(app: AppTest) -> dict[str, tuple[Mask, set[str]]]:
    """By model: the mask, and the digests of all masks that can be gone back to."""
    found = {}
    for model, lines in held(app, Masks).of.items() if name_of(Masks) in app.session_state else ():
        reachable = {step.mask.digest for line in lines.lines for step in line.history.steps}
        if lines.closed is not None:
            reachable |= {step.mask.digest for step in lines.closed.history.steps}
        found[model] = (lines.mask, reachable)
    return found


class Monkey:
    """Plays with one session."""

    def __init__(self, app: AppTest, seed: int, models: tuple[str, ...]) -> None:
        self.app, self.random, self.models = app, random.Random(seed), models
        self.log: list[str] = []

    def play(self, count: int) -> None:
        for _ in range(count):
            before = masks(self.app)
            gesture = self.choose()
            self.log.append(gesture.name)
            finished(gesture.act())
            self.check(gesture, before)

    def check(self, gesture: Gesture, before: dict[str, tuple[Mask, set[str]]]) -> None:
        app, told = self.app, f"after {self.log[-12:]}"
        assert not app.exception, (told, [one.value for one in app.exception])
        assert not [one.value for one in app.error if "unexpectedly" in one.value], told
        after = masks(app)
        for model, (mask, _) in before.items():
            now, reachable = after[model]
            assert mask.digest in reachable, f"a mask was lost {told}"
            if not gesture.edits:
                assert now.digest == mask.digest, f"{len(mask)} removed became {len(now)} {told}"
            elif gesture.name in ("gain", "mode"):
                assert [(one.matrix, one.index) for one in now.removed] == [
                    (one.matrix, one.index) for one in mask.removed
                ], told
            elif gesture.name == "restore-all":
                assert not len(now) or now.digest == mask.digest, told

    def choose(self) -> Gesture:
        sort = self.random.choices([self.page, self.task, self.model, self.button, self.value], [12, 8, 3, 40, 40])[0]
        return sort() or self.page()

    def page(self) -> Gesture:
        title = self.random.choice(list(PAGES))
        return Gesture(f"page {title}", lambda: self.app.switch_page(PAGES[title]).run())

    def model(self) -> Gesture:
        name = self.random.choice(self.models)
        return Gesture(f"model {Path(name).name}", lambda: choose_quietly(self.app, "model", name))

    def task(self) -> Gesture | None:
        uploaders = [one for one in self.app.file_uploader if one.label == "Task file"]
        if uploaders and self.random.random() < 0.8:
            name = self.random.choice(list(FILES))
            return Gesture(f"give {name}", lambda: uploaders[0].upload(name, FILES[name], "text/plain").run())
        offered = self.app.selectbox(key="task").options
        name = self.random.choice([one for one in offered if one in TASKS or one in FILES])
        return Gesture(f"task {name}", lambda: choose_quietly(self.app, "task", name))

    def button(self) -> Gesture | None:
        found = [one for one in self.app.button if one.key and not one.disabled and not one.key.startswith(LEFT_OUT)]
        if not found:
            return None
        button = self.random.choice(found)
        return Gesture(str(button.key), lambda: button.click().run())

    def value(self) -> Gesture | None:
        app = self.app
        sorts: list[Any] = [
            *app.toggle, *app.selectbox, *app.multiselect, *app.select_slider, *app.number_input, *app.text_area,
            *app.text_input, *app.radio, *app.segmented_control,
        ]  # fmt: skip
        found = [
            one for one in sorts
            if one.key and not one.disabled and one.key not in ("model", "task") and not one.key.startswith(LEFT_OUT)
        ]  # fmt: skip
        if not found:
            return None
        widget = self.random.choice(found)
        if type(widget).__name__ == "Selectbox":  # by its text, as a browser does
            if not widget.options:
                return None
            text = self.random.choice(widget.options)
            return Gesture(str(widget.key), lambda: choose_quietly(app, str(widget.key), text))
        return Gesture(str(widget.key), lambda: widget.set_value(self.wanted(widget)).run())

    def wanted(self, widget: Any) -> Any:
        """Another value for a widget, of those that a browser can send."""
        sort = type(widget).__name__
        if sort == "Toggle":
            return not widget.value
        if sort == "NumberInput":
            least, most = (0 if end is None else end for end in (widget.min, widget.max))
            value = self.random.randint(int(least), max(int(least), min(int(most), int(least) + 20)))
            return float(value) if isinstance(widget.value, float) else value
        if sort in ("TextArea", "TextInput"):
            return self.random.choice(TEXTS)[: widget.max_chars or None]
        if sort == "Multiselect":
            return self.random.sample(widget.options, self.random.randint(0, min(3, len(widget.options))))
        if widget.key == "mode":
            return self.random.choice(list(MODES))
        if widget.key == "gain":
            return self.random.choice(GAINS)
        if sort == "Radio":  # the steps of the history
            return self.random.randrange(len(widget.options))
        return self.random.choice(widget.options)


def choose_quietly(app: AppTest, key: str, text: str) -> AppTest:
    """`choose` without waiting for its work."""
    box = app.selectbox(key=key).proto.id
    states = app._tree.get_widget_states()
    for state in states.widgets:
        if state.id == box:
            state.string_value = text
            return app._run(states)
    raise AssertionError(f"{key} has no state")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_gestures_raise_nothing_and_lose_no_mask(seed: int, models: tuple[str, ...]) -> None:
    app = AppTest.from_file(APP, default_timeout=SECONDS)
    for name, value in {"score_limit": "16", "eval_limit": "16", "kinds": "Q_V"}.items():
        app.query_params[name] = value
    monkey = Monkey(finished(app.run()), seed, models)
    monkey.play(GESTURES)
