"""The live sample, the slider with its curve, whole matrices, accuracy by answer, damage elsewhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from explorer.masks.apply import apply
from explorer.masks.damage import damage
from explorer.measure.evaluate import evaluate_kept
from explorer.measure.metrics import paired_difference, wilson_interval
from explorer.measure.paired import mcnemar
from explorer.measure.perplexity import growth, read_text
from explorer.measure.sampling import draw_sample
from explorer.measure.text_sample import draw_text_sample
from explorer.models import load
from explorer.search.curve import stops
from explorer.spectra.cache import SvdCache
from explorer.tasks import load_task, parse
from explorer.ui.bench import live
from explorer.ui.components import words
from explorer.ui.jobs import cached, work
from explorer.ui.session.session import Bench
from tests import tiny
from tests.pages.app import (
    Engine,
    captions,
    choose,
    click,
    figures,
    go,
    held,
    mask_in,
    open_page,
    removed_line,
    settled,
    upload_task,
)
from tests.pages.slow import SOON, Slow


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A sample of 8 examples, as on a large model."""
    cached.runner.clear()
    monkeypatch.setattr(live, "draw_sample", partial(draw_sample, most=8))
    yield 8
    cached.runner.clear()


def test_the_sample_is_shown_as_such_until_the_split_is_measured(
    engine: Engine, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("Prune")
    slow = Slow(evaluate_kept)
    monkeypatch.setattr(work, "evaluate_kept", slow)
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
    slow.gate.set()
    app = settled(app)
    assert figures(app)["Loss, validation"] == f"{now.mean_loss.value:.3f} nats"
    assert f"n = {now.n}" in captions(app)


def test_the_split_fills_in_with_its_interval(engine: Engine, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("Prune")
    told, gate, count = threading.Event(), threading.Event(), 24

    def late(*args: Any, progress: Any = None, so_far: Any = None, **options: Any) -> Any:
        whole = evaluate_kept(*args, **options)
        so_far(whole.first(count))
        told.set()
        while not gate.wait(0.02):
            progress(1, 2)
        return whole

    monkeypatch.setattr(work, "evaluate_kept", late)
    app.button(key="remove-lowest").click().run()
    assert told.wait(SOON)
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


def test_scores_tells_prediction_and_sample_too(engine: Engine, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page("Prune")
    slow = Slow(evaluate_kept)
    monkeypatch.setattr(work, "evaluate_kept", slow)
    app.button(key="remove-lowest").click().run()
    app.switch_page("pages/scores.py")
    app.run()
    scores = engine.scores()
    mask = engine.lowest(scores, 4)
    whole = engine.compare(mask)
    predicted = f"4 removed, predicted {words.nats(scores.predicted(mask) or 0.0)}."
    now, before = (words.percent(sum(one.correct[:few]) / few) for one in (whole.masked, whole.baseline))
    line = mask_line(app)
    assert line.startswith(f"{predicted} Accuracy, live sample: **{now} [")
    assert line.endswith(f"n = {few} of {whole.masked.n}**; unpruned {before}")
    slow.gate.set()
    line = mask_line(settled(app))
    assert line.startswith(f"{predicted} Accuracy, validation: **{words.accuracy(whole.masked)}**")


def mask_line(app: AppTest) -> str:
    """What Scores says of the mask."""
    (line,) = (one.value for one in app.markdown if one.value.startswith("4 removed, predicted"))
    return str(line).replace("\u00a0", " ")


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
    counts = stops(scores.size)
    assert (counts[0], counts[-1]) == (1, scores.size)
    app.select_slider(key="k-slider").set_value(counts[5])
    app = settled(app.run())
    expected = engine.lowest(scores, counts[5])
    assert mask_in(app).removed == expected.removed
    assert app.number_input(key="k").value == counts[5]
    app.toggle(key="curve").set_value(True)
    app = settled(app.run())
    (spec,) = (json.loads(one.proto.spec) for one in app.get("plotly_chart") if "loss, measured" in one.proto.spec)
    measured, predicted, accuracy = spec["data"]
    found = engine.compare(expected)
    assert measured["x"] == counts
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
    assert row["masked accuracy"] == pytest.approx(100 * one.comparison.masked.accuracy)
    assert row["p"] == one.accuracy_test.p
    assert row["loss change"] == pytest.approx(one.comparison.loss_change.value)
    assert (row["loss low"], row["loss high"]) == pytest.approx(one.loss_interval())
    app = click(app, "restore-all")
    assert not any("task" in frame.value.columns for frame in app.dataframe)
    assert app.button(key="damage").disabled


@pytest.mark.parametrize("choices", [[" 0", " 1"], None])
def test_accuracy_by_right_answer_where_few_answers_come_back(choices: list[str] | None) -> None:
    given = {"choices": choices} if choices else {}
    lines = [{"prompt": f"{n} x {n % 7} =", "answer": f" {n % 2}", **given} for n in range(60)]
    app = go(open_page(), "Prune")
    app = upload_task(app, "\n".join(map(json.dumps, lines)))
    frame = by_answer(app)
    assert frame is not None
    assert sorted(frame["answer"]) == ["0", "1"]
    assert frame["n"].sum() == 6  # the validation split
    assert (frame["change"] == 0).all()


@pytest.mark.parametrize(("answers", "shown"), [(3, True), (4, False), (1, False)])
def test_no_accuracy_by_answer_where_answers_hardly_come_back(answers: int, shown: bool) -> None:
    """Of the six validation examples, each answer must come twice on average."""
    splits = {"validation": 6, "train": 6, "test": 2}
    lines = [
        {"prompt": f"{n} x {place} =", "answer": f" {n % answers}", "split": split}
        for place, (split, count) in enumerate(splits.items())
        for n in range(count)
    ]
    app = upload_task(go(open_page(), "Prune"), "\n".join(map(json.dumps, lines)))
    assert (by_answer(app) is not None) is shown


def by_answer(app: AppTest) -> pd.DataFrame | None:
    """The table of accuracy by right answer, if there is one."""
    return next((one.value for one in app.dataframe if {"answer", "n"} <= set(one.value.columns)), None)


def test_accuracy_by_answer_is_what_the_engine_finds(engine: Engine) -> None:
    lines = [{"prompt": f"{n} x {m} =", "answer": f" {n * m % 3}"} for n in range(2, 12) for m in range(2, 12)]
    text = "\n".join(map(json.dumps, lines))
    app = click(upload_task(go(open_page(), "Prune"), text), "remove-lowest")
    found = engine.compare(mask_in(app), parse(text.encode(), name="task.jsonl", seed=0))
    frame = by_answer(app)
    assert frame is not None
    for _, row in frame.iterrows():
        places = [i for i, one in enumerate(found.masked.examples) if one.answer.strip() == row["answer"]]
        right = [[side.correct[i] for i in places] for side in (found.masked, found.baseline)]
        assert row["n"] == len(right[0])
        assert row["masked accuracy"] == pytest.approx(100 * sum(right[0]) / len(right[0]))
        assert row["unpruned accuracy"] == pytest.approx(100 * sum(right[1]) / len(right[1]))
        assert row["p"] == mcnemar(*right).p


def test_what_the_mask_costs_on_plain_text_stands_beside_what_it_does_to_the_task(tmp_path: Path) -> None:
    folder = tiny.save_letters(tmp_path / "letters")
    app = choose(open_page("Prune"), "model", str(folder))
    mask = held(click(app, "remove-lowest"), Bench).mask
    model = load(str(folder))
    view = model.view()
    sample = draw_text_sample(view, read_text(), seconds=1e9)
    apply(view, mask, SvdCache(None))
    value, interval = growth(sample.measure(view), sample.baseline)
    deadline = monotonic() + 60
    while figures(app)["Plain text"] == "…" and monotonic() < deadline:
        sleep(0.1)
        app.run()
    (card,) = (metric for metric in app.metric if metric.label == "Plain text")
    assert card.value == words.growth(value)
    assert card.delta == f"[{words.growth(interval[0])}, {words.growth(interval[1])}]"
    assert f"unpruned perplexity {sample.baseline.value:.4g}" in captions(app)
    assert not any("plain text" in one.value for one in app.caption), "it is no job beside the title"
    assert "Plain text" not in figures(open_page("Prune")), "the bundled model knows no prose"
