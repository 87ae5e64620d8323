"""Overview, Spectra and Activations: on the bundled model, unpruned and pruned, they show what the engine finds."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

import numpy as np
import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest

from explorer.attribution import Scores
from explorer.attribution.exact import exact_effects
from explorer.core.keys import Circuit, CircuitKey, Kind, MatrixKey
from explorer.masks.activations import read_prompt
from explorer.masks.apply import apply
from explorer.measure.batches import batches
from explorer.measure.readout import readouts
from explorer.models.matrices import kinds, matrices
from explorer.spectra.circuits import circuits, decompose_circuit
from explorer.spectra.measures import blocks, cumulative_energy, null_from, summarise
from explorer.tasks import load_task
from explorer.ui.bench.score_map import CARD
from explorer.ui.components import words
from tests.pages.app import PAGES, Engine, choose, click, go, mask_in, open_page, plain, prompt_box, sentences, settled


@pytest.mark.parametrize("title", PAGES)
def test_every_page_stands_unpruned_and_pruned(title: str) -> None:
    app = open_page(title)
    assert not sentences(app)
    app = click(go(app, "Prune"), "remove-lowest")
    assert not sentences(go(app, title))
    assert [one.value for one in app.title]


@pytest.mark.parametrize("title", ["Prune", "Spectra", "Activations"])
def test_a_first_deep_link_comes_through_the_entry(title: str) -> None:
    """Before `st.navigation` was ever called, Streamlit runs a file of pages/ without app.py."""
    from tests.pages.app import APP, SECONDS

    app = AppTest.from_file(APP, default_timeout=SECONDS)
    app.switch_page(PAGES[title])
    app = settled(app.run())
    assert [one.value for one in app.title] == [title]
    assert app.sidebar.selectbox(key="model").value == "bundled"


# ---- Overview


def test_the_overview_states_model_task_and_figures(engine: Engine, scores: Scores) -> None:
    app = open_page("Overview")
    model = engine.view.model
    facts = dict(app.dataframe[0].value.itertuples(index=False))
    assert facts["architecture"] == model.architecture
    assert facts["parameters"] == f"{model.parameters_count:,}"
    assert facts["layers"] == str(engine.view.config.n_layers)
    assert model.digest.startswith(facts["digest"].removesuffix("…"))
    texts = [text.value for text in app.markdown]
    baseline = engine.compare(engine.lowest(scores, 0)).baseline
    assert f"Unpruned accuracy, validation: **{words.accuracy(baseline)}**" in texts
    harmful = sum(score < 0 for score, _, _ in scores.ranking())
    assert any(f"**{harmful:,} of {scores.size:,}** Q and K values" in text for text in texts)


def next_step(app: AppTest) -> list[str]:
    return [text.value.split("**")[1] for text in app.markdown if ":primary-badge[next]" in text.value]


def said(app: AppTest) -> str:
    return plain("\n".join(text.value for text in app.markdown)).replace("*", "")


def test_the_tour_finds_removes_and_checks_with_the_engines_figures(engine: Engine, scores: Scores) -> None:
    app = open_page("Overview")
    assert next_step(app) == ["1. Find"]
    app = click(app, "tour-1")
    assert next_step(app) == ["2. Remove"]
    lowest = scores.ranking()[:4]
    task = load_task("int-mult")
    cut = batches(engine.view, task, task.split("train", None))
    exact = exact_effects(engine.view, cut, engine.svds, [(key, index) for _, key, index in lowest]).values
    for predicted, key, index in lowest:
        assert f"{key}, value {index}: {predicted:+.2f} → {exact[key, index].value:+.2f}" in said(app)
    app = click(app, "tour-2")
    assert next_step(app) == ["3. Check"]
    mask = engine.lowest(scores, 4)
    assert mask_in(app).digest == mask.digest
    found = engine.compare(mask)
    before, after = words.percent(found.baseline.accuracy), words.percent(found.masked.accuracy)
    assert f"With 4 removed, accuracy went from {before} to {after} of {found.masked.n} validation examples" in said(
        app
    )
    first = found.repaired[0]
    assert f"it said {found.baseline.answers[first].strip()}, now it says {found.masked.answers[first]}" in said(app)
    assert f"With 4 values removed: **{words.accuracy(found.masked)}**" in [text.value for text in app.markdown]
    app = click(app, "tour-3")
    assert next_step(app) == []
    draws = [engine.compare(engine.random(scores, mask, seed)).masked.accuracy for seed in range(20)]
    beaten = sum(one < found.masked.accuracy for one in draws)
    assert f"beats {beaten} of 20" in said(app)
    assert f"reach {words.percent(median(draws))} ({words.percent(min(draws))} to {words.percent(max(draws))})" in said(
        app
    )
    app = settled(app.button(key="undo").click().run())
    assert next_step(app) == ["2. Remove"]


def map_points(app: AppTest) -> dict[str, list[Any]]:
    (chart,) = (one for one in app.get("plotly_chart") if "score-map" in one.proto.id)
    (trace,) = json.loads(chart.proto.spec)["data"]
    return {"id": trace["ids"], "worst": trace["marker"]["color"], "cells": trace["customdata"]}


def test_the_map_covers_the_chosen_kinds_and_then_all(engine: Engine, scores: Scores) -> None:
    app = open_page("Overview")
    for every in (False, True):
        if every:
            app.toggle(key="every-kind").set_value(True)
            app = settled(app.run())
            scores = engine.scores(kinds=kinds(engine.view))
        points = map_points(app)
        assert points["id"] == [str(key) for key in sorted(scores.matrices)]
        worst = [float(scores.matrices[key].score.min()) for key in sorted(scores.matrices)]
        assert points["worst"] == pytest.approx(worst)
        harmful = [int((scores.matrices[key].score < 0).sum()) for key in sorted(scores.matrices)]
        assert [cell[2] for cell in points["cells"]] == harmful


@pytest.mark.parametrize("name", ["L2.K.H1", "L3.OUT"])
def test_a_click_on_the_map_opens_the_matrix(name: str) -> None:
    app = open_page("Overview")
    app.toggle(key="every-kind").set_value(True)
    app = settled(app.run())
    (chart,) = (one for one in app.get("plotly_chart") if "score-map" in one.proto.id)
    states = app._tree.get_widget_states()
    selection = {"points": [{"id": name}], "point_indices": [0], "box": [], "lasso": []}
    states.widgets.append(WidgetState(id=chart.proto.id, string_value=json.dumps({"selection": selection})))
    app = settled(app._run(states))
    assert [one.value for one in app.title] == ["Spectra"]
    assert app.dataframe[0].value["matrix"].tolist() == [name]
    assert not app.warning
    app = go(go(app, "Overview"), "Spectra")  # coming back does not click again, and the matrix stays
    assert app.dataframe[0].value["matrix"].tolist() == [name]


def test_a_click_on_the_map_may_open_the_card_of_the_worst_value(scores: Scores) -> None:
    app = open_page("Overview", **{"map-opens": CARD})
    (chart,) = (one for one in app.get("plotly_chart") if "score-map" in one.proto.id)
    states = app._tree.get_widget_states()
    selection = {"points": [{"id": "L0.K.H3"}], "point_indices": [0], "box": [], "lasso": []}
    states.widgets.append(WidgetState(id=chart.proto.id, string_value=json.dumps({"selection": selection})))
    app = settled(app._run(states))
    assert [one.value for one in app.title] == ["Direction"]
    worst = int(scores.matrices[MatrixKey.parse("L0.K.H3")].score.argmin())
    assert app.query_params["direction"] in (f"L0.K.H3:{worst}", [f"L0.K.H3:{worst}"])


# ---- Spectra


def test_spectra_starts_with_the_worst_matrix_and_compares(engine: Engine, scores: Scores) -> None:
    app = open_page("Spectra")
    worst = scores.ranking()[0][1]
    (compare,) = (box for box in app.multiselect if box.label == "Compare with")
    every = {*matrices(engine.view), *matrices(engine.view, per_head=False)}
    products = [str(key) for key in circuits(engine.view)]
    assert compare.options == [*(str(key) for key in sorted(every)), *products]
    others = [MatrixKey.parse("L1.OUT"), MatrixKey.parse("L0.K")]
    compare.set_value([str(key) for key in others])
    app = settled(app.run())
    table, tails = (app.dataframe[position].value.set_index("matrix") for position in (0, 1))
    assert table.index.tolist() == tails.index.tolist() == [str(key) for key in (worst, *others)]
    for key in (worst, *others):
        found = engine.svds.get(engine.view, key)
        d_in, d_out = found.u.shape[0], found.vh.shape[1]
        summary = summarise(found.s, d_in, d_out)
        row = table.loc[str(key)]
        assert (row["d_in"], row["d_out"]) == (d_in, d_out)
        assert row["stable_rank"] == pytest.approx(summary.stable_rank)
        assert row["effective_rank"] == pytest.approx(summary.effective_rank)
        assert row["null_count"] == summary.null_count
        assert row["participation_ratio"] == pytest.approx(summary.participation_ratio)
        assert row["condition_number"] == pytest.approx(summary.condition_number)
        expected = blocks(found.s[: null_from(found.s, d_in, d_out)])
        tail = tails.loc[str(key)]
        assert tail["degenerate blocks"] == (", ".join(f"{b[0]}-{b[-1]}" for b in expected) or "none")
        assert tuple(tail[["50%", "90%", "99%"]]) == summary.energy_counts
        assert summary.power_law is not None
        assert tail["alpha"] == pytest.approx(summary.power_law.alpha)
        assert tail["bulk_edge"] == pytest.approx(summary.bulk_edge)
        assert tail["above_bulk"] == summary.above_bulk
    (chart,) = app.get("plotly_chart")
    curves = json.loads(chart.proto.spec)["data"]
    assert [curve["name"] for curve in curves] == 2 * table.index.tolist()  # lines, then their marks
    first = cumulative_energy(engine.svds.get(engine.view, worst).s).numpy()
    assert len(curves[0]["x"]) == len(first) or "bdata" in curves[0]["y"]


def test_spectra_walks_layers_kinds_and_heads() -> None:
    app = open_page("Spectra")
    app.button_group(key="spectra-kind").set_value(Kind.OUT)
    app = settled(app.run())
    app.selectbox(key="spectra-layer").set_value(2)
    app = settled(app.run())
    assert app.dataframe[0].value["matrix"].tolist() == ["L2.OUT"]
    app.button_group(key="spectra-kind").set_value(Kind.V)
    app = settled(app.run())
    for head, name in ((None, "stacked"), (1, "head 1")):
        app = choose(app, "spectra-head-V", name)
        assert app.dataframe[0].value["matrix"].tolist() == [str(MatrixKey(2, Kind.V, head))]
    app = go(go(app, "Overview"), "Spectra")
    assert app.dataframe[0].value["matrix"].tolist() == ["L2.V.H1"]  # the choice outlasts a change of page


def test_spectra_counts_what_is_removed(scores: Scores) -> None:
    app = go(click(open_page("Prune"), "remove-lowest"), "Spectra")
    worst = scores.ranking()[0][1]
    assert app.dataframe[0].value["in mask"].tolist() == [len(mask_in(app).indices(worst))]


def test_products_of_a_head_are_shown_and_cannot_be_removed(engine: Engine) -> None:
    app = open_page("Spectra")
    app.button_group(key="spectra-kind").set_value(Circuit.OV)
    app = settled(app.run())
    app.selectbox(key="spectra-layer").set_value(1)
    app = choose(settled(app.run()), "spectra-head-OV", "head 2")
    key = CircuitKey(1, Circuit.OV, 2)
    found = decompose_circuit(engine.view, key)
    sizes, tails, *ends = (frame.value for frame in app.dataframe)
    assert sizes["matrix"].tolist() == [str(key)]
    assert sizes["spectral_norm"].tolist() == pytest.approx([float(found.s[0])])
    assert tails["bulk_edge"].isna().all()
    assert any("to look at, not to remove" in caption.value for caption in app.caption)
    assert not [button for button in app.button if button.key == "measure-exactly"]
    told = readouts(engine.view, key, found, [0], 10)
    expected = [tokens for one in told for tokens in (one.plus, one.minus)]
    assert [frame.iloc[:, 0].tolist() for frame in ends] == [[repr(one.text) for one in end] for end in expected]


@pytest.mark.usefixtures("nothing_measured")
def test_a_read_out_stands_beside_score_and_exact_effect(engine: Engine, scores: Scores) -> None:
    app = open_page("Spectra")
    _, key, index = scores.ranking()[0]
    app.number_input(key=f"readout-index-{key}").set_value(index)
    app = settled(app.run())
    (told,) = readouts(engine.view, key, engine.svds.get(engine.view, key), [index], 10)
    plus, minus = (frame.value for frame in app.dataframe[2:])
    assert plus.iloc[:, 0].tolist() == [repr(one.text) for one in told.plus]
    assert minus["value"].tolist() == pytest.approx([one.value for one in told.minus], rel=1e-4)
    predicted = words.nats(float(scores.matrices[key].score[index]))
    (line,) = (text.value for text in app.markdown if "Exact effect" in text.value)
    assert line == f"Score (predicted): **{predicted}**. Exact effect: not measured yet."
    app = click(app, "measure-exactly")
    (line,) = (text.value for text in app.markdown if "Exact effect" in text.value)
    task = load_task("int-mult")
    cut = batches(engine.view, task, task.split("train", None))
    measured = exact_effects(engine.view, cut, engine.svds, [(key, index)], mode="freeze").values[key, index]
    assert f"Exact effect of removing it alone: **{words.spread(measured, signed=True)} nats**" in line
    assert f"{measured.n:,} train examples" in line
    app = open_page("Spectra")  # another session finds it measured
    app.number_input(key=f"readout-index-{key}").set_value(index)
    assert any("Exact effect of removing it" in text.value for text in settled(app.run()).markdown)


def test_the_folded_basis_has_other_values_and_masks_of_its_own() -> None:
    raw = open_page("Spectra").dataframe[0].value
    app = open_page("Spectra", basis="folded")
    folded = app.dataframe[0].value
    assert app.button_group(key="basis").value == "folded"
    app.button_group(key="spectra-kind").set_value(Kind.K)
    assert folded["spectral_norm"].tolist() != pytest.approx(raw["spectral_norm"].tolist(), rel=1e-3)
    app = click(go(app, "Prune"), "remove-lowest")
    assert not sentences(app)
    assert mask_in(app).model.basis == "folded"


# ---- Activations


def test_activations_before_and_after(engine: Engine, scores: Scores) -> None:
    app = go(click(open_page("Prune"), "remove-lowest"), "Activations")
    prompt = prompt_box(app).value
    found = []
    for mask in (engine.lowest(scores, 0), engine.lowest(scores, 4)):
        apply(engine.view, mask, engine.svds)
        found.append(read_prompt(engine.view, prompt))
    apply(engine.view, engine.lowest(scores, 0), engine.svds)
    for table, reading, other in zip(app.dataframe, found, found[::-1], strict=True):
        top = reading.top(10)
        np.testing.assert_allclose(table.value["probability"], [100 * probability for _, probability in top], rtol=1e-5)
        np.testing.assert_allclose(
            table.value["in the other"], [100 * float(other.lens[-1, token].exp()) for token, _ in top], rtol=1e-5
        )
        assert table.value["token"].tolist() == [repr(engine.view.model.tokenizer.decode([token])) for token, _ in top]
    layer, head = app.selectbox(key="head").value
    titles = [json.loads(chart.proto.spec)["layout"]["title"]["text"] for chart in app.get("plotly_chart")]
    assert titles[:3] == [f"L{layer} head {head}: {what}" for what in ("unpruned", "with the mask", "difference")]


def test_activations_of_the_unpruned_model_say_so() -> None:
    app = open_page("Activations")
    assert any("Nothing is removed yet" in info.value for info in app.info)
    assert any("The residual stream is unchanged." in caption.value for caption in app.caption)


@pytest.mark.parametrize(("prompt", "reason"), [("   ", "type some text"), ("7 " * 900, "type some text of 1 to")])
def test_a_prompt_that_cannot_be_read_is_a_sentence(prompt: str, reason: str) -> None:
    app = open_page("Activations")
    prompt_box(app).set_value(prompt)
    app = settled(app.run())
    (sentence,) = sentences(app)
    assert reason in sentence
    prompt_box(app).set_value("3 x 4 =")
    assert not sentences(settled(app.run()))


def test_tokens_with_markup_are_text() -> None:
    app = open_page("Activations")
    prompt_box(app).set_value("<b> 3 ![x](http://e.example/x.png) `4` =")
    app = settled(app.run())
    (caption,) = (caption.value for caption in app.caption if "tokens:" in caption.value)
    assert "![" not in caption
    assert "<b>" not in caption
    assert plain(caption).startswith(f"{plain(caption).split()[0]} tokens:")
    assert all("<b>" not in chart.proto.spec.replace("<br>", "") for chart in app.get("plotly_chart"))
