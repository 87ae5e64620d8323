"""Links: a view's settings and the pages' choices are in the URL, and come back from it; actions are copied as code."""

from __future__ import annotations

import ast
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from explorer.core.keys import Kind
from explorer.models import sources
from explorer.ui.session import session
from explorer.ui.session.session import Bench
from explorer.ui.session.state import name_of
from tests import tiny
from tests.commands import run
from tests.pages.app import (
    APP,
    Copied,
    Engine,
    choose,
    click,
    copied,
    every_copied,
    figures,
    go,
    held,
    look,
    mask_in,
    open_page,
    plain,
    prompt_box,
    sentences,
    settled,
)
from tests.pages.test_masks import filled, select

ROOT = Path(APP).parent

TEMPLATE = "{i} * {j} ="
SETTINGS = {
    "shots": "3",
    "template": TEMPLATE,
    "kinds": "Q_V",
    "granularity": "stacked",
    "scorer": "hybrid",
    "score_limit": "32",
    "eval_limit": "16",
}
# name, text that means nothing
BAD = [
    ("shots", "999"),
    ("shots", "-1"),
    ("shots", "٣"),
    ("kinds", "Q_GATE"),  # the bundled model has no GATE
    ("granularity", "both"),
    ("scorer", "exact"),
    ("scorer", "*nothing*" * 20),
    ("score_limit", "33"),
    ("eval_limit", "all of them"),
]


def bench(app: AppTest) -> session.Bench:
    found = held(app, Bench)
    return found


def url(app: AppTest) -> dict[str, str]:
    """The query parameters, without the session."""
    found = {name: value if isinstance(value, str) else value[-1] for name, value in app.query_params.items()}
    return {name: value for name, value in found.items() if name != "session"}


def test_a_link_sets_all_that_changes_the_numbers() -> None:
    app = open_page("Overview", **SETTINGS)
    found = bench(app)
    assert (found.task.shots, found.task.template) == (3, TEMPLATE)
    assert (found.kinds, found.per_head) == ((Kind.Q, Kind.V), False)
    assert (found.scorer, found.score_limit, found.eval_limit) == ("hybrid", 32, 16)
    assert not app.toast
    assert url(app) == SETTINGS
    assert url(go(app, "Masks")) == SETTINGS  # other pages have it, too


def test_a_usual_view_has_a_short_url() -> None:
    app = open_page("Overview")
    assert url(app) == {}
    app.selectbox(key="scorer").set_value("curvature")
    app = settled(app.run())
    assert url(app) == {"scorer": "curvature"}
    app.selectbox(key="scorer").set_value("gradient")
    assert url(settled(app.run())) == {}


@pytest.mark.parametrize(("name", "text"), BAD)
def test_what_means_nothing_is_said_in_a_sentence_and_left_out(name: str, text: str) -> None:
    app = open_page("Masks", **{name: text})
    usual = bench(open_page("Masks"))
    found = bench(app)
    for one in ("task", "kinds", "per_head", "scorer", "score_limit", "eval_limit"):
        assert getattr(found, one) == getattr(usual, one)
    assert name not in url(app)
    assert not sentences(app)


def test_the_sentence_on_a_bad_link(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("streamlit.toast", lambda text, **_: said.append(plain(text)))
    open_page("Masks", shots="999")
    about_links = [one for one in said if one.startswith("The link's")]  # the process may have told of something else
    assert about_links == ["The link's shots '999' means nothing here and is left out."]


def test_a_bad_template_is_the_tasks_own_sentence() -> None:
    app = open_page("Masks", template="{nothing}")
    (sentence,) = sentences(app)
    assert "{nothing}" in sentence


def test_filters_of_the_ranking_are_in_the_url(engine: Engine) -> None:
    choices = {"score-kinds": "K", "score-layers": "0_2", "score-sign": "harmful", "score-least": "0.01"}
    app = open_page("Scores", **choices)
    assert (app.multiselect(key="score-kinds").value, app.multiselect(key="score-layers").value) == ([Kind.K], [0, 2])
    assert url(app) == choices
    app.multiselect(key="score-layers").set_value([2])
    assert url(settled(app.run())) == {**choices, "score-layers": "2"}


def test_head_and_prompt_are_in_the_url() -> None:
    choices = {"head": "1.2", "prompt": "2 x 3 ="}
    app = open_page("Activations", **choices)
    assert app.selectbox(key="head").value == (1, 2)
    assert prompt_box(app).value == "2 x 3 ="
    assert url(app) == choices
    assert url(open_page("Activations", head="9.9")) == {}


# ---- copied as code


def words(command: str) -> list[str]:
    return shlex.split(command)[1:]


def names_in_code() -> list[str]:
    """The names of all `share.copy` calls."""
    files = (*ROOT.glob("pages/*.py"), *ROOT.glob("explorer/ui/**/*.py"))
    calls = [
        node
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "share.copy"
    ]
    return [ast.literal_eval(call.args[0]) for call in calls]


def every_view(engine: Engine) -> Iterator[AppTest]:
    """A session with a mask, on every page, and everywhere where a page shows other actions."""
    app = click(open_page("Prune"), "remove-lowest")
    app.toggle(key="curve").set_value(True)
    yield settled(app.run())
    for section in ("By slice", "Elsewhere", "Interactions", "For a claim", "Inside one example"):
        app = look(app, section)
        yield click(app, "claim-controls") if section == "For a claim" else app  # nothing is copied before
    for title in ("Overview", "Scores", "Search", "Direction", "Try it", "Activations"):
        yield go(app, title)
    app.session_state["heads"] = "Why there?"
    yield settled(app.run())
    app = go(app, "Spectra")
    app.selectbox(key="against").set_value("bundled")
    app.text_area(key="over").set_value("bundled")
    yield settled(app.run())
    filled(engine, engine.scores(), 2, 3)
    app = select(go(app, "Masks"), 0)
    app.multiselect(key="other-tasks").set_value(["int-sum"])
    yield settled(app.run())
    yield select(app, 0, 1)


@pytest.mark.usefixtures("empty_library")
def test_every_action_is_offered_as_command_and_as_python(engine: Engine) -> None:
    found: dict[str, Copied] = {}
    for app in every_view(engine):
        found |= every_copied(app)
        assert not sentences(app)
    known = names_in_code()
    assert sorted(found) == sorted(known), "an action that no view shows, or a name that two have"
    for name, one in found.items():
        assert len(one.commands) == len(one.python) > 0, name
        for line in "\n".join(one.commands).splitlines():
            assert run(*words(line), "--help").exit_code == 0, line  # the parser refuses options that it does not know
        for text in one.python:
            ast.parse(text)


def test_a_layer_switched_off_is_carried_by_the_mask_that_the_sidebar_copies() -> None:
    app = open_page("Prune")
    app.selectbox(key="whole").set_value("layer 0")
    app = settled(app.run())
    app.select_slider(key="gain").set_value(0.25)
    app = click(settled(app.run()), "whole-off")
    app.session_state["share"] = True
    _, evaluate, *_ = (one.value for one in settled(app.run()).code)
    report = json.loads(run(*words(evaluate)).stdout)
    mask, shown = mask_in(app), figures(app)
    assert (report["mask_digest"], report["removed"], report["gain"]) == (mask.digest, len(mask), 0.25)
    assert len(mask) > 100
    assert {key.layer for key in mask.by_matrix} == {0}
    assert f"{100 * report['accuracy']:.1f} %" == shown["Accuracy, validation"]
    assert f"{report['loss']:.3f} nats" == shown["Loss, validation"]


def test_the_ranking_as_shown_is_what_the_command_gives() -> None:
    app = open_page("Scores", scorer="hybrid", score_limit="32", kinds="Q")
    (command,) = copied(app, "ranking").commands
    result: dict[str, Any] = json.loads(run(*words(command)).stdout)
    shown = next(one.value for one in app.dataframe if "score" in one.value.columns)
    assert [(one["matrix"], one["index"]) for one in result["values"]] == list(
        zip(shown["matrix"], shown["index"], strict=True)
    )
    assert [one["score"] for one in result["values"]] == pytest.approx(shown["score"].tolist(), rel=1e-6)


def test_the_random_masks_of_the_page_are_those_of_the_command() -> None:
    app = click(click(open_page("Prune", kinds="Q_K_V"), "remove-lowest"), "controls")
    evaluate, controls = copied(app, "changes").commands
    report = json.loads(run(*words(controls)).stdout)
    assert report["mask_digest"] == mask_in(app).digest
    (metric,) = (one for one in app.metric if one.label == "Random masks, same size")
    drawn = sorted(report["controls"]["accuracy"])
    assert metric.value == f"{50 * (drawn[9] + drawn[10]):.1f} %"
    assert json.loads(run(*words(evaluate)).stdout)["accuracy"] == report["accuracy"]


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    return tiny.save_letters(tmp_path / "small")


@pytest.mark.parametrize("parameter", ["model", "against", "over", "base"])
def test_a_model_that_only_a_link_names_is_neither_looked_up_nor_loaded(
    parameter: str, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []
    monkeypatch.setattr(sources, "typed_path", lambda text: looked_up.append(text))
    told = []
    for name in (str(small_model), "/etc/passwd", "/no/such/file", "org/name", "http://x.example/y"):
        basis = {"basis": "delta"} if parameter == "base" else {}
        app = open_page("Spectra", **{parameter: name}, **basis)
        (info,) = (plain(box.value) for box in app.info if "has not been used on this machine" in plain(box.value))
        assert name in info
        told.append(info.replace(name, "it"))
        assert not app.error
        assert [button.key for button in app.button if str(button.key).startswith("load-linked")]
    assert len(set(told)) == 1  # what is there cannot be told from what is not
    assert looked_up == []


def test_a_linked_model_is_loaded_once_the_reader_agrees_and_then_known(small_model: Path) -> None:
    app = open_page("Overview", model=str(small_model))
    assert name_of(Bench) not in app.session_state
    app = click(app, "load-linked")
    assert held(app, Bench).model.source.name == str(small_model)
    again = open_page("Overview", model=str(small_model))
    assert held(again, Bench).model.source.name == str(small_model)


def test_a_model_that_the_reader_types_is_loaded_at_once(small_model: Path) -> None:
    app = choose(open_page(), "model", str(small_model))
    assert held(app, Bench).model.source.name == str(small_model)
