"""The Search page on the bundled model: start, watch, stop, go on, take any mask of the way to the workbench."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import plotly.io as pio
import pytest
import torch
from streamlit.testing.v1 import AppTest

from explorer.core.errors import MatrixError
from explorer.core.keys import Kind
from explorer.masks.mask import load_mask
from explorer.models.matrices import matrices
from explorer.search import SEARCHES, SUMMARIES
from explorer.search.anchor import HELD
from explorer.search.journal import default_journals
from explorer.search.options import StrategyOptions
from explorer.search.outcome import Budget
from explorer.search.paper import paper
from explorer.search.problem import Problem
from explorer.search.report import Evidence, Report, search
from explorer.tasks import load_task
from explorer.ui.components import words
from explorer.ui.jobs import cached, searching
from tests import commands, tiny
from tests.pages.app import (
    Engine,
    captions,
    choose,
    click,
    copied,
    figures,
    go,
    mask_in,
    open_page,
    plain,
    sentences,
    settled,
    token,
)

MOST, DRAWS, SOON = 8, 2, 60.0
TASK = load_task("int-mult")


@pytest.fixture(autouse=True)
def _nothing_started() -> Iterator[None]:
    for part in (cached.runner, searching.searches):
        part.clear()
    yield
    for part in (cached.runner, searching.searches):
        part.clear()


@pytest.fixture(scope="module")
def expected(engine: Engine) -> Report:
    """The same search by the engine alone."""
    keys = matrices(engine.view, (Kind.Q, Kind.K))
    problem = Problem(engine.view, TASK, engine.svds, keys, Budget(MOST))
    return search(problem, TASK, "paper", paper, evidence=Evidence(control_draws=DRAWS))


class Held:
    """The paper's strategy, which waits after its third measurement until it is let go."""

    def __init__(self) -> None:
        self.reached, self.gate = threading.Event(), threading.Event()

    def __call__(self, problem: Problem) -> None:
        measure = problem.measure

        def held(mask: Any, **options: Any) -> Any:
            point = measure(mask, **options)
            if len(problem.curve) == 3:
                self.reached.set()
                for _ in range(int(SOON / 0.02)):
                    if self.gate.wait(0.02):
                        break
                    problem.check()
            return point

        problem.measure = held  # type: ignore[method-assign]
        paper(problem)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    slow = Held()
    monkeypatch.setitem(SEARCHES, "paper", slow)
    yield slow
    slow.gate.set()


def prepared() -> AppTest:
    """The page with the paper's search of a few values set up."""
    app = choose(open_page("Search"), "search-strategy", "paper")
    app.number_input(key=most_key(app)).set_value(MOST)
    app.number_input(key="search-controls").set_value(DRAWS)
    return settled(app.run())


def test_the_options_of_a_strategy_decide_what_is_searched(engine: Engine) -> None:
    app = prepared()
    app.toggle(key="search-per-kind").set_value(True)
    finished(start(settled(app.run())))
    assert "paper, per kind on Q, K" in started_one().asked.title
    keys = matrices(engine.view, (Kind.Q, Kind.K))
    problem = Problem(engine.view, TASK, engine.svds, keys, Budget(MOST))
    wanted = search(problem, TASK, "paper", partial(paper, per_kind=True), evidence=Evidence(control_draws=0))
    report = finished_one()
    assert report.file.settings.options == {"per_kind": True}
    assert report.mask.removed == wanted.mask.removed


def test_evidence_is_asked_for_measured_and_shown_without_searching_again() -> None:
    app = finished(start(prepared()))
    plain_search = finished_one()
    app.multiselect(key="search-nulls-3").set_value(["mean-only", "shuffled"])
    app.multiselect(key="search-baselines-5").set_value(["chat"])
    app.toggle(key="search-parts").set_value(True)
    app = settled(app.run())
    code = copied(app, "search").commands[0]
    assert "--nulls shuffled,mean-only --baselines chat --evidence" in code
    app = finished(start(app))
    report = finished_one()
    assert report.mask == plain_search.mask
    evidence = report.file.evidence
    assert evidence is not None
    assert set(evidence.rivals) == {"searched-shuffled", "mean-only", "chat"}
    app.session_state["search-tab"] = "Evidence"
    app = settled(app.run())
    assert [one.value for one in (*app.success, *app.warning) if one.value == words.literal(evidence.sentence)]
    tables = [one.value for one in app.dataframe]
    assert any("searched-shuffled" in str(table.values) for table in tables)
    assert any(evidence.wordings[0].template.replace("\n", "\\n") in table.values for table in tables)


def test_an_ensemble_is_asked_for_by_its_fields() -> None:
    app = choose(prepared(), "search-strategy", "ensemble")
    assert "5 searches on halves of the train examples (paper)" in captions(app)
    app = choose(choose(app, "search-base", "adaptive"), "search-over", "seeds")
    app.number_input(key="search-members").set_value(3)
    app = settled(app.run())
    assert "3 searches with seeds of their own (adaptive)" in captions(app)
    app.number_input(key="search-at-least-3").set_value(2)
    app = settled(app.run())
    app = choose(app, "search-over", "other tasks")
    assert "2 searches on a task each (adaptive)" in captions(app)
    app.multiselect(key="search-over-tasks").set_value(["int-sum"])
    app.number_input(key="search-at-least-2").set_value(1)
    app = start(settled(app.run()))
    assert started_one().asked.options == StrategyOptions(base="adaptive", over="int-sum", at_least=1)
    assert sentences(app) == []


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that reads the plain text, unlike the bundled one."""
    return str(tiny.save_letters(tmp_path_factory.mktemp("letters")))


def test_the_growth_of_the_perplexity_is_limited_as_by_the_copied_command(
    letters: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = choose(choose(prepared(), "splits-int-mult", "published"), "model", letters)
    assert app.number_input(key="search-growth").value == 10.0, "searches cap the damage unless told otherwise"
    app.number_input(key=most_key(app)).set_value(8)
    app.number_input(key="search-growth").set_value(None)
    app = finished(start(settled(app.run())))
    assert app.query_params["search-growth"] in ("none", ["none"])
    free = finished_one()
    assert free.found.best.growth is None
    app.number_input(key="search-growth").set_value(1.7)
    app = settled(app.run())
    assert f"validation examples, and {HELD} blocks of plain text." in captions(app)
    app = finished(start(app))
    assert "perplexity up by at most 1.7 %" in started_one().asked.title
    found = finished_one()
    assert found.file.settings.max_growth == 0.017
    assert 0 < len(found.mask) < len(free.mask)
    beyond = [point.removed for point in found.found.curve if point.growth and point.growth > 0.017]
    assert len(free.mask) in beyond
    assert "Open triangles are beyond the budget." in captions(app)
    assert all(f", perplexity {100 * point.growth:+.1f} %" in point_box(app).options[place]
               for place, point in enumerate(found.found.curve) if point.growth is not None)  # fmt: skip

    monkeypatch.chdir(tmp_path)
    (command,) = copied(app, "search").commands
    first, *options = shlex.split(command)
    assert first == "eigenprune"
    assert commands.run(*options, "--fresh").exit_code == 0
    assert load_mask(tmp_path / "found.mask.json").digest == found.mask.digest


def test_a_model_that_cannot_read_the_text_is_not_asked_for_its_perplexity() -> None:
    assert all(box.key != "search-growth" for box in prepared().number_input)


def most_key(app: AppTest) -> str:
    (key,) = (box.key for box in app.number_input if box.key and box.key.startswith("search-most"))
    return str(key)


def started_one() -> searching.Started:
    (one,) = {id(one): one for one in searching.searches()._of.values()}.values()
    return one


def finished_one() -> Report:
    report = started_one().report
    assert report is not None
    return report


def finished(app: AppTest) -> AppTest:
    job = started_one().job
    assert job is not None
    assert job.wait(SOON)
    return settled(app.run())


def start(app: AppTest) -> AppTest:
    app = app.button(key="search-start").click().run()
    assert not app.exception
    return app


def charts(app: AppTest) -> int:
    return len(app.get("plotly_chart"))


def drawn(app: AppTest, place: int) -> dict[str, list[tuple[float, float]]]:
    """Points of a chart by the name of their series."""
    figure = pio.from_json(app.get("plotly_chart")[place].proto.spec)
    return {one.name: list(zip(one.x, one.y, strict=True)) for one in figure.data if one.mode == "markers"}


def point_box(app: AppTest) -> Any:
    (box,) = (box for box in app.selectbox if box.key and box.key.startswith("search-point"))
    return box


def infos(app: AppTest) -> str:
    return "\n".join(info.value for info in app.info)


def test_nothing_started_says_what_to_do_and_what_it_costs() -> None:
    default_journals(pytest.fail).clear()  # of what other tests have searched for
    app = prepared()
    assert "No search has run on this model and task yet" in infos(app)
    assert app.selectbox(key="search-strategy").options == list(SUMMARIES) == list(SEARCHES)
    assert not app.button(key="search-start").disabled
    assert charts(app) == 0
    told = captions(app)
    assert SUMMARIES["paper"] in told
    assert f"32 matrices, 1,024 values. One scoring, 5 measurements. A measurement runs {len(TASK.train)} train" in told
    assert f"{2 * DRAWS + 2} control masks and the unpruned model run {len(TASK.test)} test examples" in told
    assert not sentences(app)


def test_a_finished_search_is_the_engines_and_its_points_open_in_the_workbench(expected: Report) -> None:
    app = finished(start(prepared()))
    shown = figures(app)
    found = expected.comparison
    assert shown["Accuracy, test"] == words.percent(found.masked.accuracy)
    assert shown["Loss, test"] == f"{found.masked.mean_loss.value:.3f} nats"
    assert shown["Random masks beaten"] == f"{expected.controls['random-per-matrix'].accuracy_percentile:.0f} %"
    assert shown["Removed"] == f"{len(expected.mask):,}"
    assert f"{expected.forwards:,} forward passes" in captions(app)
    assert charts(app) == 4  # loss and accuracy, on the way and of the controls
    loss, accuracy = (drawn(app, place) for place in (0, 1))
    runs = expected.controls["random-per-matrix"].runs
    assert loss["random-per-matrix, test"] == [(len(expected.mask), run.mean_loss.value) for run in runs]
    assert accuracy["random-per-matrix, test"] == [(len(expected.mask), run.accuracy) for run in runs]
    assert accuracy["chosen, test"] == [(len(expected.mask), found.masked.accuracy)]
    assert loss["unpruned, test"] == [(0, found.baseline.mean_loss.value)]
    assert "drawn at random (random-per-matrix, grey dots)" in captions(app)
    box = point_box(app)
    curve = expected.found.curve
    assert len(box.options) == len(curve)
    best = next(i for i, point in enumerate(curve) if point is expected.found.best)
    assert box.value == best
    assert box.options[best].endswith("(best)")
    assert app.button(key="search-start").disabled

    other = 1 if best != 1 else 2
    box.set_value(other)
    app = click(settled(app.run()), "search-open")
    assert [(one.matrix, one.index) for one in mask_in(app).removed] == [
        (one.matrix, one.index) for one in curve[other].mask.removed
    ]
    assert mask_in(app).provenance.strategy == "paper"
    assert mask_in(app).provenance.task_digest == TASK.digest
    assert figures(app)["Accuracy, validation"] == words.percent(curve[other].validation.accuracy)
    app = click(app, "undo")
    assert len(mask_in(app)) == 0

    app = go(app, "Search")  # the search is still there
    assert figures(app) == shown


def test_a_running_search_shows_its_curve_and_outlasts_pages_and_reloads(held: Held, expected: Report) -> None:
    app = start(prepared())
    assert held.reached.wait(SOON)
    app.run()
    (bar,) = app.get("progress")
    assert "3 masks measured" in bar.proto.text
    assert charts(app) == 2
    assert set(drawn(app, 0)) == {"train", "validation", "chosen"}
    best = min(expected.found.curve[:3], key=lambda point: point.validation.mean_loss.value)
    (line,) = (text.value for text in app.markdown if "Best so far" in text.value)
    assert f"{best.removed} removed, {words.percent(best.validation.accuracy)}" in line
    assert app.button(key="search-start").disabled

    elsewhere = go(app, "Spectra")  # other pages work meanwhile
    assert not sentences(elsewhere)
    again = open_unsettled(session=token(elsewhere))
    assert "3 masks measured" in again.get("progress")[0].proto.text
    assert again.selectbox(key="search-strategy").value == "paper"
    assert again.number_input(key=most_key(again)).value == MOST
    assert again.number_input(key="search-controls").value == DRAWS
    assert len(searching.searches()._of) == 1
    held.gate.set()
    assert figures(finished(again))["Removed"] == f"{len(expected.mask):,}"


def open_unsettled(**query: str) -> AppTest:
    """A session on the page whose search still runs."""
    from tests.pages.app import APP, SECONDS

    app = AppTest.from_file(APP, default_timeout=SECONDS)
    for name, value in query.items():
        app.query_params[name] = value
    app = settled(app.run())
    app.switch_page("pages/search.py").run()
    assert not app.exception
    return app


def test_stop_keeps_the_best_mask_and_go_on_ends_with_the_same(held: Held, expected: Report) -> None:
    app = start(prepared())
    assert held.reached.wait(SOON)
    app.run()
    app.button(key="search-stop").click().run()
    app = finished(app)
    best = min(expected.found.curve[:3], key=lambda point: point.validation.mean_loss.value)
    assert figures(app)["Removed"] == f"{best.removed:,}"
    assert "It was stopped" in captions(app)
    assert len(point_box(app).options) == 3
    assert app.button(key="search-start").label == "Go on"
    held.gate.set()
    app = finished(start(app))
    assert "It ran to its end" in captions(app)
    assert figures(app)["Removed"] == f"{len(expected.mask):,}"
    assert figures(app)["Accuracy, test"] == words.percent(expected.test.accuracy)
    assert finished_one().mask.digest == expected.mask.digest


def test_given_up_it_has_no_test_figures_but_its_masks(held: Held, expected: Report) -> None:
    app = start(prepared())
    assert held.reached.wait(SOON)
    started_one().give_up()
    app = finished(app)
    assert "Stopped before its mask was measured on the test split." in infos(app)
    assert "Accuracy, test" not in figures(app)
    assert len(point_box(app).options) == 3
    app = click(app, "search-open")
    best = min(expected.found.curve[:3], key=lambda point: point.validation.mean_loss.value)
    assert len(mask_in(app)) == best.removed


def test_a_failed_search_is_a_sentence_and_can_be_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(problem: Problem) -> None:
        raise MatrixError("L0.Q.H0 holds ![x](http://e.example/x.png): choose another.")

    with monkeypatch.context() as broken:
        broken.setitem(SEARCHES, "paper", fail)
        app = finished(start(prepared()))
        assert sentences(app) == ["L0.Q.H0 holds ![x](http://e.example/x.png): choose another."]
        assert "![x](" not in app.error[0].value
    app = finished(start(app))
    assert not sentences(app)
    assert "Accuracy, test" in figures(app)


def test_two_sessions_that_ask_for_the_same_share_one_search(held: Held) -> None:
    first, second = start(prepared()), start(prepared())
    assert token(first) != token(second)
    assert len(searching.searches()._of) == 2
    assert started_one() is not None
    held.gate.set()
    assert figures(finished(first)) == figures(finished(second))


def test_a_search_leaves_the_shared_model_as_it_was() -> None:
    app = prepared()
    (model,) = (job.result for key, job in cached.runner()._jobs.items() if key[0] == "model")
    before = {name: tensor.clone() for name, tensor in model.weights().items()}
    finished(start(app))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.weights().items())


def test_a_mask_that_removes_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SEARCHES, "paper", lambda problem: None)
    app = finished(start(prepared()))
    assert figures(app)["Removed"] == "0"
    assert figures(app)["Random masks beaten"] == "-"
    assert "nothing is removed" in captions(app)
    assert not sentences(app)


def test_after_a_restart_searches_are_listed_and_go_on_with_one_click(held: Held, expected: Report) -> None:
    app = prepared()
    app.number_input(key="search-seed").set_value(77)  # a search that no other test has begun
    start(settled(app.run()))
    assert held.reached.wait(SOON)
    job = started_one().job
    assert job is not None
    job.stop()
    assert job.wait(SOON)
    _restart()
    held.gate.set()

    again = open_page("Search", most="20", strategy="laser")
    listed = _earlier(again)[0]
    assert "paper on Q, K, at most 8 removed" in plain(listed)
    assert "not finished" in listed
    assert infos(again) == "Choose a strategy and a budget, and start; or take up an earlier search above."
    before = len(_earlier(again))
    again.button(key="search-earlier-0").click().run()
    ended = finished(again)
    assert figures(ended)["Removed"] == f"{len(expected.mask):,}"
    assert ended.selectbox(key="search-strategy").value == "paper"
    assert ended.number_input(key=most_key(ended)).value == MOST
    assert ended.number_input(key="search-controls").value == DRAWS
    assert ended.number_input(key="search-seed").value == 77
    assert len(_earlier(ended)) == before - 1  # it is the one that is shown

    _restart()
    listed = _earlier(open_page("Search"))[0]
    assert f"{words.percent(expected.test.accuracy)}" in listed
    assert f"with {len(expected.mask)} removed" in listed
    other = open_page("Search", task="greater-than")
    assert _earlier(other) == []
    assert "No search has run on this model and task yet" in infos(other)


def _restart() -> None:
    """Forget what the process knows, as a new server does; files stay."""
    for part in (cached.runner, searching.searches):
        part.clear()


def _earlier(app: AppTest) -> list[str]:
    """What is listed of earlier searches."""
    return [text.value for text in app.markdown if ":small[" in text.value and " s" in text.value]


def test_a_link_brings_the_forms_values_along() -> None:
    query = {
        "strategy": "ensemble", "search-kinds": "V_O", "search-layers": "1_3", "most": "17", "search-seconds": "90",
        "search-controls": "3", "search-seed": "5", "base": "verified", "over": "seeds", "members": "4",
        "at-least": "2",
    }  # fmt: skip
    app = open_page("Search", **query)
    (command,) = copied(app, "search").commands
    for words_of in (
        "--strategy ensemble", "--kinds V,O", "--layers 1,3", "--max-removed 17", "--time 90", "--controls 3",
        "--seed 5", "--base verified", "--over seeds", "--members 4", "--at-least 2",
    ):  # fmt: skip
        assert words_of in command
    held = {name: app.query_params[name] for name in query}
    assert {name: value if isinstance(value, str) else value[-1] for name, value in held.items()} == query
    assert "most" not in open_page("Search").query_params  # as usual: nothing to say


@pytest.mark.parametrize(
    ("name", "text"), [("strategy", "magic"), ("most", "0"), ("search-seconds", "nan"), ("search-layers", "9")]
)
def test_what_means_nothing_in_a_link_is_said_and_left_out(name: str, text: str) -> None:
    app = open_page("Search", **{name: text})
    assert any("means nothing here" in toast.value for toast in app.toast)
    assert not app.exception
