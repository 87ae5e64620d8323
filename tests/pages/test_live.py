"""The live sample, the slider with its curve, whole matrices, accuracy by answer, damage elsewhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from explorer import sampling
from explorer.damage import damage
from explorer.evaluate import evaluate_kept
from explorer.metrics import paired_difference, wilson_interval
from explorer.tasks import load_task
from explorer.ui import cached, removing, words, work
from tests.pages.app import (
    Engine,
    captions,
    click,
    figures,
    go,
    mask_in,
    open_page,
    removed_line,
    settled,
    upload_task,
)

SOON = 20.0


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A sample of 8 examples, as on a large model."""
    cached.runner.clear()
    monkeypatch.setattr(sampling.draw_sample, "__kwdefaults__", {**sampling.draw_sample.__kwdefaults__, "most": 8})
    yield 8
    cached.runner.clear()


def test_the_sample_is_shown_as_such_until_the_split_is_measured(
    engine: Engine, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("Prune")
    gate = threading.Event()

    def late(*args: Any, progress: Any = None, **options: Any) -> Any:
        while not gate.wait(0.02):
            progress(1, 2)
        return evaluate_kept(*args, progress=progress, **options)

    monkeypatch.setattr(work, "evaluate_kept", late)
    app.button(key="remove-lowest").click().run()
    mask = engine.lowest(engine.scores(), 4)
    whole = engine.compare(mask)
    now, before = whole.masked, whole.baseline
    shown = figures(app)
    assert shown["Accuracy, live sample"] == words.percent(sum(now.correct[:few]) / few)
    assert shown["Loss, live sample"] == f"{sum(now.loss[:few]) / few:.3f} nats"
    change = paired_difference(now.loss[:few], before.loss[:few])
    assert [metric.delta for metric in app.metric][2] == words.spread(change, signed=True)
    assert f"n = {few}" in captions(app)
    assert "Measuring 4 removed values" in app.get("progress")[0].proto.text
    gate.set()
    app = settled(app)
    assert figures(app)["Loss, validation"] == f"{now.mean_loss.value:.3f} nats"
    assert f"n = {now.n}" in captions(app)


def test_the_split_fills_in_with_its_interval(engine: Engine, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("Prune")
    gate, count = threading.Event(), 24

    def late(*args: Any, progress: Any = None, so_far: Any = None, **options: Any) -> Any:
        whole = evaluate_kept(*args, **options)
        so_far(whole.first(count))
        while not gate.wait(0.02):
            progress(1, 2)
        return whole

    monkeypatch.setattr(work, "evaluate_kept", late)
    app.button(key="remove-lowest").click().run()
    app.run()
    whole = engine.compare(engine.lowest(engine.scores(), 4))
    now, before = whole.masked.first(count), whole.baseline.first(count)
    shown = figures(app)
    assert shown["Accuracy, validation so far"] == words.percent(sum(now.correct) / count)
    assert shown["Loss, validation so far"] == f"{sum(now.loss) / count:.3f} nats"
    low, high = wilson_interval(sum(now.correct), count)
    assert f"[{100 * low:.1f}, {100 * high:.1f}], n = {count} of {whole.masked.n}" in captions(app)
    change = paired_difference(now.loss, before.loss)
    assert [metric.delta for metric in app.metric][2] == words.spread(change, signed=True)
    gate.set()
    app = settled(app)
    assert figures(app)["Accuracy, validation"] == words.percent(whole.masked.accuracy)
    assert f"n = {whole.masked.n}" in captions(app)


def test_another_sessions_long_jobs_do_not_delay_it(few: int) -> None:
    app = open_page("Prune")
    gate, jobs = threading.Event(), []
    try:
        for number in range(4):
            jobs.append(cached.runner().submit(("hold", number), "Hold", lambda progress: gate.wait(SOON)))
        app.button(key="remove-lowest").click().run()
        (accuracy,) = (value for label, value in figures(app).items() if label.startswith("Accuracy"))
        assert accuracy.endswith("%")
        assert not any(job.state == "done" for job in jobs)
    finally:
        gate.set()
    assert all(job.wait(SOON) for job in jobs)


def test_the_slider_moves_along_the_ranking_and_its_curve_is_measured(engine: Engine) -> None:
    app = open_page("Prune")
    scores = engine.scores()
    stops = removing.counts(scores.size)
    assert (stops[0], stops[-1]) == (1, scores.size)
    app.select_slider(key="k-slider").set_value(stops[5])
    app = settled(app.run())
    expected = engine.lowest(scores, stops[5])
    assert mask_in(app).removed == expected.removed
    assert app.number_input(key="k").value == stops[5]
    app.toggle(key="curve").set_value(True)
    app = settled(app.run())
    (spec,) = (json.loads(one.proto.spec) for one in app.get("plotly_chart") if "loss, measured" in one.proto.spec)
    measured, predicted, accuracy = spec["data"]
    found = engine.compare(expected)
    assert measured["x"] == stops
    assert measured["y"][5] == pytest.approx(found.loss_change.value, abs=1e-5)
    assert predicted["y"][5] == pytest.approx(scores.predicted(expected))
    assert accuracy["y"][5] == pytest.approx(found.masked.accuracy)


def test_whole_matrices_and_layers_go_off_and_on(engine: Engine) -> None:
    app = open_page("Prune")
    scores = engine.scores()
    name = str(next(iter(scores.matrices)))
    app.selectbox(key="whole").set_value(name)
    app = settled(app.run())
    assert app.button(key="whole-on").disabled
    app = click(app, "whole-off")
    size = len(next(iter(scores.matrices.values())).s)
    assert {one.matrix for one in mask_in(app).removed} == {name}
    assert len(mask_in(app)) == size
    assert app.button(key="whole-off").disabled
    app.selectbox(key="whole").set_value("layer 0")
    app = click(settled(app.run()), "whole-off")
    layer = [matrix for key, matrix in scores.matrices.items() if key.layer == 0]
    assert len(mask_in(app)) == sum(len(matrix.s) for matrix in layer)
    app = click(app, "whole-on")
    assert removed_line(app) == "0 removed"


def test_damage_elsewhere_is_what_the_engine_measures(engine: Engine) -> None:
    app = click(open_page("Prune", section="elsewhere"), "remove-lowest")
    assert app.multiselect(key="damage-tasks").value == ["int-sum"]
    assert app.toggle(key="damage-text").disabled  # the bundled model knows no words
    app = click(app, "damage")
    frame = next(one.value for one in app.dataframe if "task" in one.value.columns)
    mask = engine.lowest(engine.scores(), 4)
    found = damage(engine.view, mask, engine.svds, [load_task("int-sum")], split="validation", limit=128)
    (one,) = found.tasks
    row = frame.iloc[0]
    assert (row["task"], row["n"]) == ("int-sum", one.comparison.masked.n)
    assert row["now"] == words.percent(one.comparison.masked.accuracy)
    assert row["p"] == one.accuracy_test.p
    assert row["loss"].startswith(f"{one.comparison.loss_change.value:+.3f} [")
    app = click(app, "restore-all")
    assert not any("task" in frame.value.columns for frame in app.dataframe)
    assert app.button(key="damage").disabled


def test_accuracy_by_right_answer_where_there_are_choices() -> None:
    lines = [{"prompt": f"{n} x {n % 7} =", "answer": f" {n % 2}", "choices": [" 0", " 1"]} for n in range(60)]
    app = go(open_page(), "Prune")
    app = upload_task(app, "\n".join(map(json.dumps, lines)))
    frame = next(one.value for one in app.dataframe if "answer" in one.value.columns and "n" in one.value.columns)
    assert sorted(frame["answer"]) == ["0", "1"]
    assert frame["n"].sum() > 1
    assert (frame["change"] == 0).all()
