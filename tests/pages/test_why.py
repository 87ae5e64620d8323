"""The tab "Why there?" of Activations: the engine's numbers, one click from a pair to the mask, and its link."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest

from explorer.core.keys import MatrixKey
from explorer.masks.apply import empty_mask
from explorer.masks.head_split import HeadPlace, HeadSplit, head_split
from explorer.masks.labels import LabelBook, label_of
from explorer.tasks import load_task
from tests.pages.app import Engine, captions, click, copied, go, mask_in, open_page, sentences, settled
from tests.pages.test_activations import chart

TASK = load_task("int-mult")
LINK = {"heads": "why", "head": "0.1", "example": "0", "query": "4", "key": "1"}


def split(engine: Engine, **options: Any) -> HeadSplit:
    prompt = TASK.validation[0].prompt
    return head_split(
        engine.view, empty_mask(engine.view.model), engine.svds, prompt, place=HeadPlace(0, 1, 4, key=1), **options
    )


def tables(app: AppTest) -> list[Any]:
    return [one for one in app.dataframe if "apart" in one.value.columns]


def select(app: AppTest, which: int, *rows: int) -> AppTest:
    """Select rows of a table, as the browser sends it; AppTest has no way of its own."""
    state = json.dumps({"selection": {"rows": list(rows), "columns": [], "cells": []}})
    states = app._tree.get_widget_states()
    states.widgets.append(WidgetState(id=tables(app)[which].proto.id, string_value=state))
    return settled(app._run(states))


def test_the_tables_hold_the_engines_pairs_and_say_that_they_add_up(engine: Engine) -> None:
    app = open_page("Activations", **LINK)
    found = split(engine)
    score = tables(app)[0].value
    assert list(score.columns[:2]) == ["L0.Q.H1", "L0.K.H1"]
    wanted = found.score.pairs(100)
    np.testing.assert_allclose(score["adds"], [one.here for one in wanted], atol=1e-6)
    np.testing.assert_allclose(score["elsewhere"], [one.elsewhere for one in wanted], atol=1e-6)
    assert list(score["L0.Q.H1"]) == [found.score.first.terms[one.first] for one in wanted]
    assert f"all add up to {found.score.own:+.4f}; the model's own is {found.score.own:+.4f}" in captions(app)
    assert chart(app, "Score before softmax")["layout"]["xaxis"]["title"]["text"] == "L0.K.H1"


def test_a_pair_is_one_click_from_the_mask_and_one_from_its_cards(engine: Engine) -> None:
    app = select(open_page("Activations", **LINK), 0, 0)
    first = split(engine).score.pairs(1)[0]
    app = click(app, "why-remove")
    mask = mask_in(app)
    assert mask.indices(MatrixKey.parse("L0.Q.H1")) == {first.first}
    assert mask.indices(MatrixKey.parse("L0.K.H1")) == {first.second}
    assert app.selectbox(key="why-under").value == "with the mask"
    masked = tables(app)[0].value
    gone = masked[(masked["L0.Q.H1"] == str(first.first)) & (masked["L0.K.H1"] == str(first.second))]
    assert not len(gone) or abs(float(gone["adds"].iloc[0])) < 1e-6
    app = select(app, 1, 0)
    (card, *_) = [str(one.key) for one in app.button if str(one.key).startswith("why-card-")]
    app = settled(app.button(key=card).click().run())
    assert not app.exception


def test_products_have_no_buttons_and_labels_are_shown(engine: Engine, empty_library: None) -> None:
    first = split(engine).score.pairs(1)[0]
    LabelBook.default(engine.view.model.digest).put(label_of("L0.Q.H1", first.first, "digits"))
    app = open_page("Activations", **LINK)
    assert tables(app)[0].value["label"].iloc[0] == "digits"
    app = settled(app.selectbox(key="directions").set_value("product").run())
    assert list(tables(app)[0].value.columns[:2]) == ["L0.QK.H1", "L0.QK.H1 (v)"]
    app = select(app, 0, 0)
    assert not [one for one in app.button if str(one.key).startswith("why-")]


def test_what_is_moved_follows_the_text_and_a_text_that_is_no_token_is_said(engine: Engine) -> None:
    app = open_page("Activations", **LINK)
    (box,) = (one for one in app.text_input if one.label == "Moved along the logit of")
    assert box.value == TASK.validation[0].answer
    app = settled(box.set_value("").run())
    lengths = split(engine)
    assert any(f"Moves {lengths.moved.own:+.4f}" in one.value for one in app.markdown)
    (box,) = (one for one in app.text_input if one.label == "Moved along the logit of")
    app = settled(box.set_value("Ω").run())
    assert not app.exception
    assert sentences(app)


def test_it_is_copied_as_command_and_python_and_leaves_other_tabs_alone(engine: Engine) -> None:
    app = open_page("Activations", **LINK)
    (command,) = copied(app, "why").commands
    assert command.startswith("eigenprune attention L0.H1 --model bundled --prompt")
    assert "--query 4 --key 1" in command
    app = go(go(app, "Scores"), "Activations")
    assert tables(app)
    app.session_state["heads"] = "One head"
    assert not tables(settled(app.run()))


@pytest.mark.parametrize("name", ["query", "key"])
def test_positions_of_a_link_that_are_not_there_are_left_out(name: str) -> None:
    app = open_page("Activations", **(LINK | {name: "99"}))
    assert tables(app)
    assert not app.exception
