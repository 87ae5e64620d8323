"""Long work on a page: a progress bar, stopping, failing, and starting again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from explorer.core.errors import TaskError
from explorer.masks.library import Library
from explorer.ui.jobs import cached, work
from explorer.ui.masks import outcomes
from tests.pages.app import APP, SECONDS, Engine, click, figures, go, mask_in, open_page, sentences, settled
from tests.pages.slow import SOON, Slow
from tests.pages.test_masks import select


@pytest.fixture(autouse=True)
def _fresh_runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No results from earlier tests, and pages that show a progress bar soon."""
    cached.runner.clear()
    monkeypatch.setattr(cached, "USUAL", cached.Wait(0.3))
    yield
    cached.runner.clear()


def run_once(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    return app


def until_slow(app: AppTest, slow: Slow) -> AppTest:
    """Run until the slow work is what the page waits for."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        run_once(app)
        if slow.started.is_set():
            return run_once(app)
    raise AssertionError("the work was never started")


def again_buttons(app: AppTest) -> list[str]:
    return [button.key for button in app.button if button.key and button.key.startswith("again-")]


def stop_buttons(app: AppTest) -> list[str]:
    return [button.key for button in app.button if button.key and button.key.startswith("stop-")]


def test_slow_scoring_shows_progress_and_goes_on_when_done(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(work.score)
    monkeypatch.setattr(work, "score", slow)
    app = until_slow(go_unsettled("Prune"), slow)
    (bar,) = app.get("progress")
    assert "Scoring Q, K on int-mult" in bar.proto.text.replace("\\", "")
    assert bar.proto.value == 50
    assert figures(app)["Predicted loss change"] == "…"
    assert figures(app)["Accuracy, validation"].endswith("%")  # what can be had already is there
    slow.gate.set()
    app = settled(app)
    assert figures(app)["Predicted loss change"] == "+0.000 nats"
    assert slow.calls == 1


def go_unsettled(title: str) -> AppTest:
    app = AppTest.from_file(APP, default_timeout=SECONDS)
    run_once(app)
    app.switch_page(f"pages/{title.lower()}.py")
    return run_once(app)


def test_stopped_work_says_so_and_can_be_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(work.score)
    monkeypatch.setattr(work, "score", slow)
    app = until_slow(go_unsettled("Prune"), slow)
    (stop,) = stop_buttons(app)
    app = click(app, stop)
    assert [info.value.replace("\\", "") for info in app.info] == ["Scoring Q, K on int-mult: stopped."]
    slow.gate.set()
    (again,) = again_buttons(app)
    app = click(app, again)
    assert figures(app)["Predicted loss change"] == "+0.000 nats"
    assert not again_buttons(app)


@pytest.mark.parametrize("end", ["done", "stopped"])
def test_work_that_another_page_has_started_is_seen_and_stopped_from_here(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    slow = Slow(work.score)
    monkeypatch.setattr(work, "score", slow)
    app = until_slow(go_unsettled("Prune"), slow)
    assert not background(app)  # the page shows it itself
    app.switch_page("pages/masks.py")
    run_once(app)
    (line,) = background(app)
    assert line.startswith("Scoring Q, K on int-mult (running, 50 %")
    if end == "done":
        slow.gate.set()
    else:
        app.button(key="background-stop-0").click().run()
    deadline = time.monotonic() + SOON
    while background(run_once(app)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not background(app)
    slow.gate.set()
    app.switch_page("pages/prune.py")
    app = settled(run_once(app))
    assert bool(again_buttons(app)) is (end == "stopped")
    assert slow.calls == 1


def background(app: AppTest) -> list[str]:
    return [one.value.replace("\\", "") for one in app.caption if "on int-mult (" in one.value.replace("\\", "")]


@pytest.mark.parametrize("name", ["score", "evaluate_kept"])
def test_failed_work_is_its_sentence_and_can_be_started_again(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise TaskError("the example '1 *x* 2' has 99 tokens: shorten it.")

    with monkeypatch.context() as broken:
        broken.setattr(work, name, fail)
        app = open_page("Prune")
        assert sentences(app) == ["the example '1 *x* 2' has 99 tokens: shorten it."]
        assert len(app.metric) == 4  # the page stands
    (again,) = again_buttons(app)
    app = click(app, again)
    assert not sentences(app)
    assert figures(app)["Accuracy, validation"].endswith("%")


@pytest.mark.usefixtures("empty_library")
def test_what_failed_for_one_reason_starts_again_together(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (2, 3):
        Library.default().save(engine.lowest(engine.scores(), count), f"lowest {count}")

    def fail(*args: Any, **options: Any) -> Any:
        raise TaskError("the tokenizer does not know all of '1 x 2'.")

    with monkeypatch.context() as broken:
        broken.setattr(outcomes, "evaluate", fail)
        app = select(open_page("Masks"), 0, 1)
        assert sentences(app) == ["the tokenizer does not know all of '1 x 2'."]
    (again,) = again_buttons(app)
    app = click(app, again)
    assert not sentences(app)
    assert not again_buttons(app)
    (shown,) = (one.value for one in app.dataframe if "accuracy" in one.value.columns)
    assert sorted(shown["mask"]) == ["lowest 2", "lowest 3"]


def test_a_defect_is_a_sentence_and_the_page_stays_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise RuntimeError("![x](http://e.example/x.png)")

    with monkeypatch.context() as broken:
        broken.setattr(work, "read_prompt", fail)
        app = open_page("Activations")
        (sentence,) = sentences(app)
        assert (
            sentence
            == "Reading the prompt failed unexpectedly (![x](http://e.example/x.png)); the log has the details."
        )
        assert "![x](" not in app.error[0].value
    app = click(go(app, "Prune"), "remove-lowest")
    assert len(mask_in(app)) == 4


def test_a_changed_mask_stops_the_measurement_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("Prune")
    slow = Slow(work.evaluate_kept)
    monkeypatch.setattr(work, "evaluate_kept", slow)
    app.button(key="remove-lowest").click().run()
    assert slow.started.wait(SOON)
    run_once(app)
    (bar,) = app.get("progress")
    assert "Measuring 4 removed values" in bar.proto.text
    assert figures(app)["Accuracy, validation"] == "…"
    first = next(job for key, job in cached.runner()._jobs.items() if key[0] == "evaluation" and job.active)
    app.number_input(key="k").set_value(2).run()
    app.button(key="remove-lowest").click().run()
    assert first.wait(SOON)
    assert str(first.state) == "stopped"
    slow.gate.set()
    app = settled(app)
    assert len(mask_in(app)) == 2
    app = click(app, "undo")  # the measurement that was stopped begins anew, nobody has to ask for it
    assert len(mask_in(app)) == 4
    assert not again_buttons(app)
    assert figures(app)["Accuracy, validation"].endswith("%")


def test_an_upload_that_takes_long_to_check_is_applied_when_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    app = click(open_page("Prune"), "remove-lowest")
    content = mask_in(app).to_json().encode()
    app = click(app, "restore-all")
    entered, gate = threading.Event(), threading.Event()
    original = work.check_mask

    def slow(*args: Any, **named: Any) -> None:
        entered.set()
        assert gate.wait(SOON)
        original(*args, **named)

    monkeypatch.setattr(work, "check_mask", slow)
    cached.runner().drop(("check", mask_digest(content)))
    (uploader,) = (one for one in app.file_uploader if one.label == "Upload a mask")
    uploader.upload("mask.json", content, "application/json").run()
    assert entered.wait(SOON)
    assert any("Checking mask.json" in bar.proto.text.replace("\\", "") for bar in app.get("progress"))
    assert len(mask_in(app)) == 0
    gate.set()
    assert len(mask_in(settled(app))) == 4


def mask_digest(content: bytes) -> str:
    from explorer.masks.mask import parse_mask

    return parse_mask(content).digest


@pytest.mark.parametrize("title", ["Overview", "Scores"])
def test_pages_stand_while_scores_are_made_stopped_and_failed(monkeypatch: pytest.MonkeyPatch, title: str) -> None:
    original = work.score
    slow = Slow(original)
    monkeypatch.setattr(work, "score", slow)
    app = until_slow(go_unsettled(title), slow)
    assert "Scoring Q, K on int-mult" in app.get("progress")[0].proto.text.replace("\\", "")
    (stop,) = stop_buttons(app)
    app = click(app, stop)
    assert "Scoring Q, K on int-mult: stopped." in [info.value.replace("\\", "") for info in app.info]
    slow.gate.set()
    monkeypatch.setattr(work, "score", refuse)
    (again,) = again_buttons(app)
    app = click(app, again)
    assert REFUSED in sentences(app)
    assert app.title[0].value == ("Eigenpruning" if title == "Overview" else title)
    monkeypatch.setattr(work, "score", original)
    (again,) = again_buttons(app)
    app = click(app, again)
    assert not again_buttons(app)
    assert not sentences(app)


@pytest.mark.parametrize("name", ["score", "decomposed"])
def test_spectra_stands_when_its_work_fails(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(work, name, refuse)
        app = open_page("Spectra")
        assert set(sentences(app)) == {REFUSED}
        assert app.title[0].value == "Spectra"
        assert app.selectbox(key="spectra-layer").value == 0
    app = click(app, again_buttons(app)[0])
    assert not again_buttons(app)
    assert not sentences(app)


REFUSED = "the task's words are unknown: choose another task."


def refuse(*args: Any, **options: Any) -> Any:
    raise TaskError(REFUSED)
