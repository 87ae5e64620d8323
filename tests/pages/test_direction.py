"""The page Direction: its numbers are the engine's, its link opens it again, and other pages lead to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.proto.Common_pb2 import StringTriggerValue
from streamlit.proto.WidgetStates_pb2 import WidgetState

from explorer.core.keys import MatrixKey
from explorer.experiments.direction import Direction
from explorer.masks.labels import LabelBook, label_of
from explorer.masks.library import Library
from explorer.measure.context_store import default_contexts
from explorer.measure.corpora import task_corpus, text_corpus
from explorer.tasks import load_task
from explorer.ui.components import coloured, words
from tests.pages.app import Engine, captions, click, copied, figures, go, mask_in, open_page, sentences, settled, upload
from tests.pages.test_scores import select
from tests.picks import send_pick

KEY, INDEX = MatrixKey.parse("L0.K.H3"), 5
LINK = {"direction": f"{KEY}:{INDEX}"}


@pytest.fixture
def direction(engine: Engine) -> Direction:
    return Direction(engine.view, engine.svds, KEY, index=INDEX)


def contexts_on(app: Any) -> str:
    """The page's HTML that holds tables of contexts."""
    return "".join(one.proto.body for one in app.get("html") if "<table aria-label" in one.proto.body)


def test_the_card_has_the_engines_numbers(direction: Direction, empty_library: None) -> None:
    task = load_task("int-mult")
    app = open_page("Direction", **LINK)
    place, score = direction.place(), direction.score(task)
    effects, flips = direction.effects(task), direction.flips(task, score.c)
    assert figures(app) == {
        "Singular value": f"{place.sigma:.4g}",
        "Score (predicted)": words.nats(score.score),
        "Exact effect": words.nats(effects.tasks[0].exact),
        "Accuracy without it": words.percent(flips.accuracy_after),
    }
    assert app.query_params["direction"] in (LINK["direction"], [LINK["direction"]])
    corpus = task_corpus(direction.view.model, task)
    found = direction.contexts(corpus, store=default_contexts(pytest.fail))
    html = contexts_on(app)
    scale = max(abs(found.quantiles[0]), abs(found.quantiles[-1]))
    for one in (*found.largest, *found.smallest, *found.random):
        assert coloured.line(one.tokens, one.values, at=one.at, scale=scale, cut=not one.begins) in html
        assert f">{one.value:+.3g}<" in html
        assert f">{one.written:+.3g}<" in html
    assert f"{found.tokens:,} tokens" in captions(app)
    assert "no mask of this model" in captions(app)
    similar = direction.similar()[0]
    assert f"of {similar.compared:,} directions" in captions(app)
    (table,) = [one.value for one in app.dataframe if list(one.value.columns) == ["matrix", "i", "cosine"]]
    assert table["cosine"].tolist() == [one.cosine for one in similar.nearest]
    assert "eigenprune direction L0.K.H3 5 --model bundled --task int-mult" in copied(app, "direction").commands[0]


def test_one_click_removes_the_value_and_undo_brings_it_back(direction: Direction, empty_library: None) -> None:
    app = click(open_page("Direction", **LINK), "switch-direction")
    (removed,) = mask_in(app).removed
    assert (removed.matrix, removed.index) == (str(KEY), INDEX)
    assert removed.c == pytest.approx(direction.score(load_task("int-mult")).c, rel=1e-4)
    assert mask_in(app).provenance.task == "int-mult"
    Library.default().save(mask_in(app), "mine")
    app = click(app, "undo")
    assert not len(mask_in(app))
    assert "1 of 1 mask of this model hold it" in captions(app)
    app = click(click(app, "switch-direction"), "switch-direction")
    assert not len(mask_in(app))


def test_other_tasks_and_a_similar_direction(direction: Direction) -> None:
    app = open_page("Direction", **LINK)
    app.multiselect(key="direction-tasks").set_value(["int-mult-12"])
    app = settled(app.run())
    found = direction.effects(load_task("int-mult"), [load_task("int-mult-12")]).tasks
    (table,) = [one.value for one in app.dataframe if "exact" in one.value.columns]
    assert table["task"].tolist() == ["int-mult", "int-mult-12"]
    assert table["exact"].tolist() == [one.exact for one in found]
    assert "--other int-mult-12" in copied(app, "direction").commands[0]
    first = direction.similar()[0].nearest[0]
    app = select(app, [0], "similar", press="open-similar")
    assert app.query_params["direction"] in (f"{first.matrix}:{first.index}", [f"{first.matrix}:{first.index}"])


def test_a_link_to_what_there_is_not_begins_with_the_most_harmful_value(scores: Any) -> None:
    _, key, index = scores.ranking()[0]
    for wrong in ("L9.K.H0:1", "L0.K.H3:99", "L0.QK.H1:0", "x"):
        app = open_page("Direction", direction=wrong)
        assert app.query_params["direction"] in (f"{key}:{index}", [f"{key}:{index}"])
        assert any("means nothing here" in one.value for one in app.toast)


def test_a_label_is_kept_and_shown_wherever_the_value_is(engine: Engine, empty_library: None) -> None:
    app = open_page("Direction", **LINK)
    book = LabelBook.default(engine.view.model.digest)
    app = settled(box(app, "Label").set_value("a <b>table</b> ").run())
    assert book.every() == {(str(KEY), INDEX): label_of(str(KEY), INDEX, "a <b>table</b>")}
    app = settled(box(app, "Note").set_value("seen").run())
    assert book.every()[str(KEY), INDEX].note == "seen"
    assert not app.exception
    book.put(label_of(str(KEY), INDEX, "renamed elsewhere", "seen"))
    app = settled(app.run())
    assert box(app, "Label").value == "renamed elsewhere"
    app = go(press(app, "direction-spectra"), "Spectra")
    assert "renamed elsewhere" in json.dumps(_chart(app, "spectra-chart")["series"])
    app = go(app, "Scores")
    (ranking,) = [one.value for one in app.dataframe if "-ranking-" in one.proto.id]
    called = ranking[ranking["label"] != ""]
    assert called[["matrix", "index", "label"]].to_numpy().tolist() == [[str(KEY), INDEX, "renamed elsewhere"]]
    app = go(app, "Direction")
    for name in ("Label", "Note"):
        app = settled(box(app, name).set_value("").run())
    assert book.every() == {}


def box(app: Any, name: str) -> Any:
    """A text box by its name."""
    (found,) = (one for one in app.text_input if one.label == name)
    return found


def _chart(app: Any, key: str) -> Any:
    """What the plot of singular values was given."""
    (found,) = (one for one in app.get("bidi_component") if one.proto.id.endswith(key))
    return json.loads(found.proto.json)


def test_a_mask_from_elsewhere_brings_its_labels(engine: Engine, scores: Any, empty_library: None) -> None:
    mask = engine.lowest(scores, 2)
    told = mask.with_labels([label_of(mask.removed[0].matrix, mask.removed[0].index, "from a colleague")])
    upload(open_page("Masks"), told.to_json().encode())
    assert [one.label for one in LabelBook.default(mask.model.digest).every().values()] == ["from a colleague"]


def press(app: Any, key: str) -> Any:
    """Click a button that leads to another page: AppTest goes back to the first one with its next run."""
    app = app.button(key=key).click().run()
    assert not app.exception
    return app


def test_other_pages_lead_to_the_card() -> None:
    app = press(open_page("Spectra", matrix="L1.V.H2", value="3"), "card-readout")
    assert app.title[0].value == "Direction"
    assert app.selectbox(key="direction-matrix").value == "L1.V.H2"
    assert app.number_input(key="direction-index").value == 3
    app = press(go(app, "Direction"), "direction-spectra")
    assert app.title[0].value == "Spectra"
    app = go(app, "Direction")  # comes back to where it was
    assert app.number_input(key="direction-index").value == 3
    app = click(go(app, "Prune"), "remove-lowest")
    app = press(go(app, "Activations"), "card-wrote")
    assert app.title[0].value == "Direction"
    assert app.button(key="switch-direction").label == "Restore this value"


def test_a_text_of_ones_own(direction: Direction, empty_library: None, tmp_path: Path) -> None:
    text = "3 x 4 = 12 19 + 8 = 27 " * 9
    app = open_page("Direction", **LINK)
    app = settled(_uploader(app).upload("my text.txt", text.encode(), "text/plain").run())
    app = settled(app.segmented_control(key="direction-corpus").set_value("text").run())
    found = direction.contexts(text_corpus(direction.view.model, text), store=default_contexts(pytest.fail))
    assert f"{found.tokens:,} tokens" in captions(app)
    assert "my-text-" in copied(app, "direction").commands[0]
    app = settled(_uploader(app).upload("bad.txt", b"\xff\xfe\x00\x01", "text/plain").run())
    assert any("not UTF-8" in one for one in sentences(app))
    assert f"{found.tokens:,} tokens" in captions(app)


def _uploader(app: Any) -> Any:
    (found,) = (one for one in app.file_uploader if one.label == "Text file")
    return found


def test_a_card_opens_from_the_table_of_prune_which_shows_labels(
    engine: Engine, scores: Any, empty_library: None
) -> None:
    _, key, index = scores.ranking()[1]
    LabelBook.default(engine.view.model.digest).put(label_of(str(key), index, "second"))
    app = open_page("Prune")
    (editor,) = [one for one in app.dataframe if "card" in one.proto.button_click_widgets]
    states = app._tree.get_widget_states()
    clicked = StringTriggerValue(data=json.dumps({"row": 1, "label": ":material/arrow_outward:"}))
    states.widgets.append(WidgetState(id=editor.proto.button_click_widgets["card"], string_trigger_value=clicked))
    app = settled(app._run(states))
    assert [one.value for one in app.title] == ["Direction"]
    assert box(app, "Label").value == "second"
    assert not len(mask_in(app))


@pytest.mark.parametrize(("page", "chart"), [("Prune", "prune-chart"), ("Spectra", "spectra-chart")])
def test_a_card_opens_from_the_plots_of_singular_values(page: str, chart: str) -> None:
    app = open_page(page)
    (matrix, *_) = [one["matrix"] for one in _chart(app, chart)["series"]]
    send_pick(app, chart, {matrix: [3]}, "card")
    app = settled(app)
    assert [one.value for one in app.title] == ["Direction"]
    assert app.number_input(key="direction-index").value == 3
    assert not len(mask_in(app))
