"""By slice, on Prune: the slices are the engine's, one of them becomes the task, an example is opened."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest

from explorer.attribution import Scores
from explorer.measure.slices import Slice, slices, slices_sentence
from explorer.tasks import load_task
from explorer.ui.session import Bench
from tests.pages.app import Engine, click, copied, held, look, open_page, plain, settled, upload_task

pytestmark = pytest.mark.slow

COUNT, SECTION = 4, "By slice"


def opened(**query: str) -> AppTest:
    return look(click(open_page("Prune", **query), "remove-lowest"), SECTION)


def expected(engine: Engine, scores: Scores, by: str) -> tuple[Slice, ...]:
    found = engine.compare(engine.lowest(scores, COUNT))
    return slices(found, load_task("int-mult").validation, by)


def table(app: AppTest) -> pd.DataFrame:
    found: pd.DataFrame = next(one.value for one in app.dataframe if "slice" in one.value.columns)
    return found


def shown(app: AppTest) -> str:
    return plain("\n".join(one.value for one in app.markdown))


def test_the_slices_are_the_engines(engine: Engine, scores: Scores) -> None:
    app = opened()
    for by in ("answer", "i", "length", "before"):
        app.selectbox(key="slice-by-answer-length-i-j-before").set_value(by)
        app = settled(app.run())
        made = expected(engine, scores, by)
        rows = table(app)
        assert list(rows["slice"]) == [one.name for one in made]
        assert list(rows["n"]) == [one.n for one in made]
        assert list(rows["masked accuracy"]) == [100 * one.masked["accuracy"] for one in made]
        assert list(rows["p, Holm"]) == [one.p_holm for one in made]
        assert slices_sentence(made, by) in shown(app)
    assert app.query_params["slice-by"] == "before"
    assert "--by before" in copied(app, "slices").commands[0]


def test_a_text_in_the_prompt_makes_two_slices(engine: Engine, scores: Scores) -> None:
    app = opened(**{"slice-text": "1"})
    made = expected(engine, scores, "prompt~1")
    assert [(row["slice"], row["n"]) for _, row in table(app).iterrows()] == [(one.name, one.n) for one in made]
    app.text_input(key="slice-text").set_value("")
    assert len(table(settled(app.run()))) > 2


def test_one_slice_alone_is_scored_pruned_and_searched_on() -> None:
    """What the row's button does: the sidebar's condition, which stands in links and commands."""
    app = opened()
    assert app.button(key="slice-alone").disabled, "no row is selected"
    app = look(open_page("Prune", only="i=0..9"), SECTION)
    task = load_task("int-mult")
    bench = held(app, Bench)
    assert bench.task.train == tuple(one for one in task.train if int(one.prompt.split(" x ")[0]) < 10)
    assert app.text_input(key="only-int-mult").value == "i=0..9"
    assert "--only i=0..9" in copied(app, "slices").commands[0]
    app = click(app, "slice-all")
    assert held(app, Bench).task.train == task.train
    assert "only" not in app.query_params


def press(app: AppTest, key: str, kind: str, name: str, selection: dict[str, object]) -> AppTest:
    """Press a button while something is selected; AppTest cannot select, so this writes what the browser would send."""
    listed = app.dataframe if kind == "dataframe" else app.get(kind)
    (found,) = (one for one in listed if name in one.proto.id)
    state = WidgetState(id=found.proto.id, string_value=json.dumps({"selection": selection}))
    for clicked in (False, True):
        if clicked:
            app.button(key=key).click()
        states = app._tree.get_widget_states()
        states.widgets.append(state)
        app = settled(app._run(states))
    return app


def test_the_selected_row_becomes_the_task() -> None:
    app = opened(**{"slice-by": "i"})
    first = table(app)["slice"][1]
    rows = {"rows": [1], "columns": [], "cells": []}
    app = press(app, "slice-alone", "dataframe", "-slices-", rows)
    assert app.query_params["only"] == f"i={first.replace(' to ', '..')}"
    assert len(held(app, Bench).task.validation) < len(load_task("int-mult").validation)
    assert any(f"only i={first.replace(' to ', '..')}" in plain(one.value) for one in app.sidebar.caption)


def test_a_clicked_point_is_opened_inside() -> None:
    app = opened()
    place = 7
    points = {"points": [{"id": str(place)}], "point_indices": [0], "box": [], "lasso": []}
    app = press(app, "slice-open", "plotly_chart", "-examples", points)
    assert app.query_params["section"] == "example"
    assert app.selectbox(key="example").value == place


def test_a_condition_that_nothing_holds_is_a_sentence() -> None:
    app = open_page("Prune", only="colour=red")
    assert any("has no column 'colour'" in plain(one.value) for one in app.error)
    app.text_input(key="only-int-mult").set_value("")
    assert not settled(app.run()).error


def test_columns_of_the_users_file_are_on_offer() -> None:
    app = open_page("Prune")
    rows = [
        {"prompt": f"{a} x {b} =", "answer": f" {a * b}", "topic": "small" if a < 6 else "large"}
        for a in range(2, 12)
        for b in range(2, 12)
    ]
    app = upload_task(app, "\n".join(map(json.dumps, rows)))
    app = look(app, SECTION)
    app.selectbox(key="slice-by-answer-length-topic-before").set_value("topic")
    assert set(table(settled(app.run()))["slice"]) == {"small", "large"}
