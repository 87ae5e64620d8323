"""The sidebar's task is read once, in a job: while it is read, when it cannot be had, and when its files change."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from explorer import tasks
from explorer.ui.jobs import cached
from explorer.ui.session.session import Bench
from explorer.ui.shell import task_reading
from explorer.ui.shell.task_choice import READING_HINT
from tests.pages.app import SECONDS, captions, held, open_page, plain, sentences, settled, upload_task

LINES = [json.dumps({"prompt": f"{i} x {j} =", "answer": f" {i * j}"}) for i in range(2, 8) for j in range(2, 8)]
SIZES = {"train": 10, "validation": 4}  # of SuperGLUE's splits; a fifth of the train split is for validation
TOLD = "8 train, 2 validation, 4 test"


@pytest.fixture(autouse=True)
def _own_jobs() -> Iterator[None]:
    """No job of an earlier test, and none for a later one."""
    cached.runner.clear()
    yield
    cached.runner.clear()
    tasks._made.cache_clear()


class Counted:
    """A function that counts its calls."""

    def __init__(self, original: Callable[..., Any]) -> None:
        self.original, self.calls = original, 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        return self.original(*args, **options)


def rows(split: str, count: int) -> list[dict[str, Any]]:
    """Lines of RTE."""
    return [{"premise": f"{split} {i}", "hypothesis": "w2", "label": 0} for i in range(count)]


def write(folder: Path, sizes: dict[str, int]) -> None:
    """RTE's files."""
    (folder / "rte").mkdir(exist_ok=True)
    for split, count in sizes.items():
        (folder / "rte" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows(split, count))))


def hub(repository: str, name: str) -> dict[str, list[dict[str, Any]]]:
    """What the hub gives."""
    return {split: rows(split, n) for split, n in SIZES.items()}


def refuse_hub(repository: str, name: str) -> Any:
    raise ConnectionError("no route: ![x](http://e.example/x.png)\nand a long story")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, str], Any]], None]:
    """Put a function in the place of the hub's data sets."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def put(load_dataset: Callable[[str, str], Any]) -> None:
        monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))

    return put


REFUSED = (
    "rte could not be had from the hub's aps/super_glue (no route: ![x](http://e.example/x.png)): give the folder of "
    "SuperGLUE's JSON lines (--data DIR with rte/train.jsonl and rte/validation.jsonl)."
)


def app_on_rte() -> AppTest:
    app = open_page("Overview")
    return app.selectbox(key="task").set_value("rte").run()


def shots(app: AppTest) -> Any:
    (box,) = (one for one in app.number_input if one.label == "Shots")
    return box


def test_a_task_file_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = Counted(task_reading.parse)
    monkeypatch.setattr(task_reading, "parse", parse)
    app = upload_task(open_page("Overview"), "\n".join(LINES), name="once.jsonl")
    assert parse.calls == 1
    told = captions(app)
    app = settled(app.run())
    assert captions(app) == told
    shots(app).set_value(2)
    app = settled(app.run())
    assert held(app, Bench).task.shots == 2
    asked = parse.calls
    shots(app).set_value(0)
    app = settled(app.run())
    assert (held(app, Bench).task.shots, parse.calls) == (0, asked)


def test_a_superglue_folder_is_read_again_when_its_files_change(
    tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    original = Path.read_text

    def counted(path: Path, *args: Any, **options: Any) -> str:
        if path.is_relative_to(tmp_path):
            read.append(path)
        return original(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", counted)
    serve(refuse_hub)
    write(tmp_path, SIZES)
    app = settled(app_on_rte().text_input(key="superglue").set_value(str(tmp_path)).run())
    assert TOLD in captions(app)
    assert sorted(path.name for path in read) == ["train.jsonl", "validation.jsonl"]
    app = settled(settled(app.run()).run())
    assert len(read) == 2
    write(tmp_path, {"train": 20, "validation": 4})
    assert "16 train, 4 validation, 4 test" in captions(settled(app.run()))


def test_the_hub_fails_with_a_sentence_and_can_be_asked_again(serve: Any) -> None:
    asked = Counted(refuse_hub)
    serve(asked)
    app = settled(app_on_rte())
    assert sentences(app) == [REFUSED]
    assert "![x](" not in app.error[0].value
    assert any("Give a folder of SuperGLUE's JSON lines" in info.value for info in app.info)
    app = settled(app.run())
    assert asked.calls == 1, "no rerun asks the hub again"
    serve(hub)
    (again,) = (button for button in app.button if button.label == "Start again")
    app = settled(again.click().run())
    assert not any("could not be had" in sentence for sentence in sentences(app))
    assert TOLD in captions(app)


@pytest.mark.parametrize("end", ["done", "stopped"])
def test_while_the_hub_is_asked_the_page_says_so_and_other_tasks_can_be_chosen(end: str, serve: Any) -> None:
    gate = threading.Event()

    def slow(repository: str, name: str) -> Any:
        assert gate.wait(SECONDS)
        return hub(repository, name)

    serve(slow)
    app = app_on_rte()
    assert [bar.proto.text for bar in app.sidebar.get("progress")] == ["Reading rte from the hub (running)"]
    assert [info.value for info in app.info] == [READING_HINT]
    app = settled(app.selectbox(key="task").set_value("int-sum").run())
    assert held(app, Bench).task.name == "int-sum"
    app.selectbox(key="task").set_value("rte").run()
    if end == "stopped":
        (stop,) = (button for button in app.sidebar.button if button.label == "Stop")
        stop.click().run()
    gate.set()
    app = settled(app.run())
    if end == "done":
        assert TOLD in captions(app)
    else:
        assert "Reading rte from the hub: stopped." in [plain(info.value) for info in app.info]
        (again,) = (button for button in app.button if button.label == "Start again")
        assert TOLD in captions(settled(again.click().run()))


@pytest.mark.parametrize("typed", ["x" * 400, "a\0b", "/no/such/folder"])
def test_a_folder_that_cannot_be_is_a_sentence(typed: str, serve: Any) -> None:
    serve(refuse_hub)
    app = settled(app_on_rte().text_input(key="superglue").set_value(typed).run())
    (sentence,) = sentences(app)
    assert "has no rte/train.jsonl: give the folder of SuperGLUE's JSON lines" in sentence


def test_what_is_wrong_with_a_file_is_not_started_again() -> None:
    app = upload_task(open_page("Overview"), "what\n")
    assert len(sentences(app)) == 1
    assert "Start again" not in [button.label for button in app.button]
