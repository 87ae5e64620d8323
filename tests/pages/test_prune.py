"""The workbench: whatever is removed, in whatever way, the page shows what the engine measures for that mask."""

from __future__ import annotations

from typing import get_args

import pytest
from streamlit.testing.v1 import AppTest

from explorer.attribution import Scores
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.mask import Mask, Mode
from explorer.models import Model
from explorer.tasks import load_task
from explorer.ui.bench.workbench import Editing
from explorer.ui.components import words
from tests.pages.app import (
    Engine,
    captions,
    click,
    edit_table,
    figures,
    go,
    held,
    look,
    mask_in,
    open_page,
    removed_line,
    sentences,
    settled,
)
from tests.picks import send_pick

CHART = "prune-chart"


def places(mask: Mask) -> list[tuple[str, int]]:
    return [(one.matrix, one.index) for one in mask.removed]


def check_figures(app: AppTest, engine: Engine, expected: Mask, scores: Scores, split: str = "validation") -> None:
    """The session's mask is `expected`, and the page's figures are the engine's for it."""
    assert mask_in(app).removed == expected.removed
    assert mask_in(app).digest == expected.digest
    found = engine.compare(expected, split=split)
    shown = figures(app)
    assert shown[f"Accuracy, {split}"] == words.percent(found.masked.accuracy)
    assert shown[f"Loss, {split}"] == f"{found.masked.mean_loss.value:.3f} nats"
    predicted = scores.predicted(expected)
    assert predicted is not None
    assert shown["Predicted loss change"] == words.nats(predicted)
    deltas = [metric.delta for metric in app.metric]
    assert deltas[1:3] == [words.points(found.accuracy_change), words.spread(found.loss_change, signed=True)]
    low, high = found.masked.accuracy_interval
    text = captions(app)
    assert f"[{100 * low:.1f}, {100 * high:.1f}], n = {found.masked.n:,}" in text
    assert f"unpruned {words.percent(found.baseline.accuracy)}" in text
    assert f"unpruned {words.spread(found.baseline.mean_loss)}" in text
    flips = f"**{len(found.repaired):,} wrong → right, {len(found.broken):,} right → wrong** of {found.masked.n:,}"
    assert any(flips in text.value for text in app.markdown)


def test_at_the_start_the_unpruned_model_is_measured(engine: Engine, scores: Scores) -> None:
    app = open_page("Prune")
    check_figures(app, engine, engine.lowest(scores, 0), scores)
    assert removed_line(app) == "0 removed"
    assert app.button(key="restore-all").disabled
    assert app.button(key="undo").disabled
    assert app.button(key="redo").disabled
    worst = scores.ranking()[0][1]
    assert [box.value for box in app.multiselect if "click a point" in box.label] == [[str(worst)]]


def test_remove_lowest_restore_undo_redo(engine: Engine, scores: Scores) -> None:
    app = open_page("Prune")
    app.number_input(key="k").set_value(7)
    app = click(app, "remove-lowest")
    seven, nothing = engine.lowest(scores, 7), engine.lowest(scores, 0)
    check_figures(app, engine, seven, scores)
    assert mask_in(app).provenance == seven.provenance
    app = click(app, "restore-all")
    check_figures(app, engine, nothing, scores)
    app = click(app, "undo")
    check_figures(app, engine, seven, scores)
    app = click(app, "undo")
    check_figures(app, engine, nothing, scores)
    assert app.button(key="undo").disabled
    app = click(app, "redo")
    check_figures(app, engine, seven, scores)
    app.number_input(key="k").set_value(2)
    app = click(app, "remove-lowest")
    check_figures(app, engine, engine.lowest(scores, 2), scores)
    assert app.button(key="redo").disabled


def test_clicks_in_the_plot(engine: Engine, scores: Scores) -> None:
    app = open_page("Prune")
    app.toggle(key="by_block").set_value(False).run()
    worst = scores.ranking()[0][1]
    expected = engine.lowest(scores, 0)
    for index in (0, 3, 0):
        app = settled(send_pick(app, CHART, {str(worst): [index]}))
        one = scores.removed(worst, index)
        place = (one.matrix, one.index)
        expected = expected.without([place]) if place in places(expected) else expected.with_removed([one])
        check_figures(app, engine, expected, scores)
    assert mask_in(app).provenance.scorer == "gradient"  # a mask made by clicks says what it was scored on
    app = settled(send_pick(app, CHART, {str(worst): [4, 5, 6]}, kind="box"))
    expected = expected.with_removed([scores.removed(worst, index) for index in (4, 5, 6)])
    check_figures(app, engine, expected, scores)


def test_a_pick_outside_what_is_shown_changes_nothing() -> None:
    app = open_page("Prune")
    for matrix in ("L9.Q.H0", "<b>", "L0.OUT"):
        app = settled(send_pick(app, CHART, {matrix: [0]}))
    worst = next(box.value[0] for box in app.multiselect if "click a point" in box.label)
    app = settled(send_pick(app, CHART, {worst: [100_000]}))
    assert removed_line(app) == "0 removed"


def test_checkboxes_in_the_table(engine: Engine, scores: Scores) -> None:
    app = open_page("Prune")
    ranking = scores.ranking()
    table = app.data_editor[0].value
    assert table["score"].tolist() == [score for score, _, _ in ranking[: len(table)]]
    entries = [scores.removed(key, index) for _, key, index in ranking[:10]]
    empty = engine.lowest(scores, 0)
    app = edit_table(app, {0: True})
    check_figures(app, engine, empty.with_removed(entries[:1]), scores)
    number = held(app, Editing).number
    app = edit_table(app, {5: True, 9: True})
    check_figures(app, engine, empty.with_removed([entries[0], entries[5], entries[9]]), scores)
    app = edit_table(app, {5: False})
    check_figures(app, engine, empty.with_removed([entries[0], entries[9]]), scores)
    assert held(app, Editing).number == number  # the same editor: it keeps its place
    app = click(app, "undo")
    check_figures(app, engine, empty.with_removed([entries[0], entries[5], entries[9]]), scores)
    assert held(app, Editing).number == number + 1  # another one, since the change came from elsewhere
    assert app.data_editor[0].value["removed"].tolist()[:10] == [i in (0, 5, 9) for i in range(10)]
    app = edit_table(app, {0: False})
    check_figures(app, engine, empty.with_removed([entries[5], entries[9]]), scores)


def test_removed_values_outside_the_lowest_are_in_the_table_too(scores: Scores) -> None:
    app = open_page("Prune")
    app.toggle(key="by_block").set_value(False).run()
    _, worst, _ = scores.ranking()[0]
    rank = {(key, index): position for position, (_, key, index) in enumerate(scores.ranking())}
    index = max(range(len(scores.matrices[worst].s)), key=lambda i: rank[worst, i])
    assert rank[worst, index] >= len(app.data_editor[0].value)
    app = settled(send_pick(app, CHART, {str(worst): [index]}))
    last = app.data_editor[0].value.iloc[-1]
    assert (last["removed"], last["matrix"], last["index"]) == (True, str(worst), index)


@pytest.mark.parametrize("mode", get_args(Mode))
def test_removal_modes(engine: Engine, mode: Mode) -> None:
    app = open_page("Prune")
    app.button_group(key="mode").set_value(mode)
    app = settled(app.run())
    app = click(app, "remove-lowest")
    scores = engine.scores(mode=mode)
    expected = engine.lowest(scores, 4)
    assert expected.mode == mask_in(app).mode == mode
    check_figures(app, engine, expected, scores)


def test_changing_the_mode_keeps_what_is_removed(engine: Engine, scores: Scores) -> None:
    app = click(open_page("Prune"), "remove-lowest")
    app.button_group(key="mode").set_value("zero")
    app = settled(app.run())
    frozen = engine.lowest(scores, 4)
    zero = Mask(model=frozen.model, mode="zero", removed=frozen.removed)
    check_figures(app, engine, zero, engine.scores(mode="zero"))
    app = click(app, "undo")
    assert app.button_group(key="mode").value == "freeze"
    check_figures(app, engine, frozen, scores)


def test_stacked_matrices_of_other_kinds(engine: Engine) -> None:
    app = open_page("Prune")
    kinds = [Kind.V, Kind.O, Kind.OUT]
    next(box for box in app.multiselect if box.label == "Matrices to score").set_value(kinds)
    app.button_group(key="granularity").set_value("stacked")
    app = click(settled(app.run()), "remove-lowest")
    scores = engine.scores(kinds=kinds, per_head=False)
    assert {key.head for key in scores.matrices} == {None}
    check_figures(app, engine, engine.lowest(scores, 4), scores)


def test_per_head_and_stacked_of_one_matrix_is_a_sentence_and_the_mask_is_kept(scores: Scores) -> None:
    app = click(open_page("Prune"), "remove-lowest")
    before = mask_in(app)
    app.button_group(key="granularity").set_value("stacked")
    app = settled(app.run())
    assert figures(app)["Predicted loss change"] == "not scored"
    stacked = str(before.removed[0].key.stacked)
    next(box for box in app.multiselect if "click a point" in box.label).set_value([stacked])
    app = settled(app.run())
    app = settled(send_pick(app, CHART, {stacked: [0]}))
    (sentence,) = sentences(app)
    assert f"{before.removed[0].matrix} and {stacked} overlap" in sentence
    assert "Your mask is as it was." in sentence
    assert mask_in(app) == before
    row = app.data_editor[0].value["matrix"].tolist().index(stacked)
    number = held(app, Editing).number
    app = edit_table(app, {row: True})
    assert mask_in(app) == before
    assert held(app, Editing).number == number + 1  # the box is unchecked again
    app = click(app, "undo")
    assert not sentences(app)


def test_the_test_split(engine: Engine, scores: Scores) -> None:
    app = click(open_page("Prune"), "remove-lowest")
    app.button_group(key="split").set_value("test")
    check_figures(settled(app.run()), engine, engine.lowest(scores, 4), scores, split="test")


def test_a_limit_takes_the_first_examples(engine: Engine) -> None:
    app = open_page("Prune")
    app.select_slider(key="eval_limit-all").set_value(16)
    app = settled(app.run())
    assert "n = 16" in captions(app)


def test_random_controls_on_demand(engine: Engine, scores: Scores) -> None:
    app = open_page("Prune")
    assert figures(app)["Random masks, same size"] == "-"
    app = click(click(app, "remove-lowest"), "controls")
    mask = engine.lowest(scores, 4)
    found = [engine.compare(engine.random(scores, mask, seed)).masked.accuracy for seed in range(20)]
    ordered = sorted(found)
    assert figures(app)["Random masks, same size"] == words.percent((ordered[9] + ordered[10]) / 2)
    own = engine.compare(engine.lowest(scores, 4)).masked.accuracy
    assert f"random-per-matrix: {100 * ordered[0]:.1f} to {100 * ordered[-1]:.1f} %" in captions(app)
    assert f"this mask beats {sum(own > one for one in found)} of 20" in captions(app)


def test_inside_follows_the_mask_until_the_user_chooses(engine: Engine, scores: Scores) -> None:
    app = open_page("Prune", section="example")
    assert app.selectbox(key="example").value == 0
    assert app.selectbox(key="head").value == (0, 0)
    app = click(app, "remove-lowest")
    mask = engine.lowest(scores, 4)
    found = engine.compare(mask)
    flipped = [*found.repaired, *found.broken]
    assert app.selectbox(key="example").value == (flipped[0] if flipped else 0)
    first = next(iter(mask.by_matrix))
    assert app.selectbox(key="head").value == (first.layer, first.head)
    app.selectbox(key="head").set_value((2, 1))
    app.selectbox(key="example").set_value(5)
    app = settled(app.run())
    app.number_input(key="k").set_value(1)
    app = click(app, "remove-lowest")
    assert app.selectbox(key="head").value == (2, 1)
    assert app.selectbox(key="example").value == 5
    titles = [chart.proto.spec for chart in app.get("plotly_chart")]
    assert sum("L2 head 1" in title for title in titles) == 2


def test_a_stacked_matrix_touches_all_heads_of_its_layer(bundled: Model) -> None:
    app = open_page("Prune", section="example")
    app.button_group(key="granularity").set_value("stacked")
    app = click(settled(app.run()), "remove-lowest")
    layers = {key.layer for key in mask_in(app).by_matrix}
    touched = [option for option in app.selectbox(key="head").options if "(touched)" in option]
    assert len(touched) == len(layers) * bundled.view().config.n_heads


def test_no_matrix_in_the_plot_is_said() -> None:
    app = open_page("Prune")
    next(box for box in app.multiselect if "click a point" in box.label).set_value([])
    app = settled(app.run())
    assert any("Choose a matrix" in info.value for info in app.info)


def test_a_count_above_a_smaller_set_is_cut_to_it(engine: Engine) -> None:
    app = open_page("Prune")
    app.number_input(key="k").set_value(engine.scores().size)
    app = settled(app.run())
    next(box for box in app.multiselect if box.label == "Matrices to score").set_value([Kind.K])
    app = settled(app.run())
    size = engine.scores(kinds=[Kind.K]).size
    assert app.number_input(key="k").value == size
    assert len(mask_in(click(app, "remove-lowest"))) == size


def test_the_settings_outlast_a_change_of_page() -> None:
    app = open_page("Prune")
    app.button_group(key="y").set_value("score")
    app.number_input(key="k").set_value(9)
    app.button_group(key="split").set_value("test")
    app = go(go(settled(app.run()), "Spectra"), "Prune")
    assert app.button_group(key="y").value == "score"
    assert app.number_input(key="k").value == 9
    assert app.button_group(key="split").value == "test"
    assert app.toggle(key="log_y").disabled


def test_another_task_is_scored_and_measured_anew(engine: Engine) -> None:
    app = open_page("Prune")
    app.select_slider(key="score_limit-all").set_value(64)
    app.select_slider(key="eval_limit-all").set_value(64)
    app.selectbox(key="task").set_value("int-sum")
    app = settled(app.run())
    assert "from 64 train examples" in captions(app)
    assert "n = 64" in captions(app)
    assert len(load_task("int-sum").validation) > 64
    assert MatrixKey.parse(app.data_editor[0].value["matrix"].iloc[0]).kind in (Kind.Q, Kind.K)


def test_only_the_open_section_is_drawn_and_a_link_opens_it() -> None:
    app = click(open_page("Prune"), "remove-lowest")
    assert "section" not in app.query_params
    assert any("wrong → right" in one.value for one in app.markdown)
    assert not [box for box in app.selectbox if box.key == "example"]
    app = look(app, "Inside one example")
    assert app.query_params["section"] in ("example", ["example"])
    assert app.selectbox(key="example").label == "Example"
    assert not any("wrong → right**" in one.value for one in app.markdown)
    app = go(go(app, "Spectra"), "Prune")
    assert app.selectbox(key="example").label == "Example"
    assert open_page("Prune", section="elsewhere").button(key="damage").disabled
