"""Accuracy where examples have choices, against plain transformers on one prompt with one choice at a time."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.core.errors import SettingsError, TaskError
from explorer.core.files import digest
from explorer.core.keys import Kind
from explorer.masks.apply import apply
from explorer.measure.evaluate import Comparison, Evaluation, evaluate, evaluate_kept, keep_split
from explorer.measure.metrics import pick
from explorer.measure.readers import measured_batches
from explorer.measure.residuals import keep
from explorer.measure.sampling import draw_sample
from explorer.models import Model, View
from explorer.models.matrices import matrices
from explorer.search import SEARCHES, prune
from explorer.search.outcome import Budget
from explorer.search.problem import Problem
from explorer.search.records import pack_point, unpack_point
from explorer.search.report import Evidence, search
from explorer.search.report_file import load_report
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task, load_task, with_metric
from explorer.ui.overview import tour
from tests import plain
from tests.commands import refused, report, run


def made_up(count: int, seed: int = 0) -> tuple[Example, ...]:
    """Prompts of 1 to 6 words with 2 to 4 choices of 1 to 3 words, some of which begin alike."""
    draw = random.Random(seed)

    def words(most: int) -> str:
        return " ".join(f"w{draw.randrange(20)}" for _ in range(draw.randint(1, most)))

    found = []
    for _ in range(count):
        choices = tuple(dict.fromkeys(f" {words(3)}" for _ in range(draw.randint(2, 4))))
        choices = choices if len(choices) > 1 else (" w1", " w2 w3")
        found.append(Example(words(6), draw.choice(choices), choices))
    return tuple(found)


EXAMPLES = made_up(40)
TASK = Task("choices", "", EXAMPLES[:10], EXAMPLES[10:20], EXAMPLES[20:], seed=0)
OPEN = Example("w1 w2", " w3")


@torch.no_grad()
def slow(model: Any, example: Example, text: str) -> tuple[float, int]:
    """log p(text | prompt), summed over its tokens, and how many they are: one run of the plain model."""
    one = plain.encode_words(Example(example.prompt, text))
    return -float(plain.example_loss(model, one)), len(one.answer)


def expected(model: Any, examples: tuple[Example, ...], *, per_token: bool) -> list[str]:
    found = []
    for example in examples:
        scores = []
        for text in example.choices:
            total, tokens = slow(model, example, text)
            scores.append(total / tokens if per_token else total)
        found.append(example.choices[scores.index(max(scores))])
    return found


def test_choices_are_those_of_plain_transformers(view64: View, plain64: Any) -> None:
    found = evaluate(view64, TASK)
    summed, meaned = (expected(plain64, TASK.test, per_token=mean) for mean in (False, True))
    assert (list(found.picked), list(found.picked_mean)) == (summed, meaned)
    assert summed != meaned  # or the rules would not be told apart
    right = [text == one.answer for text, one in zip(summed, TASK.test, strict=True)]
    assert (found.metric, list(found.correct), found.accuracy) == ("choice", right, sum(right) / 20)
    losses = [-slow(plain64, one, one.answer)[0] for one in TASK.test]
    assert found.loss == pytest.approx(losses, rel=1e-6)
    by_token = evaluate(view64, with_metric(TASK, "choice-mean"))
    assert list(by_token.correct) == [text == one.answer for text, one in zip(meaned, TASK.test, strict=True)]
    exact = evaluate(view64, with_metric(TASK, "exact"))
    open_ended = replace(TASK, test=tuple(replace(one, choices=()) for one in TASK.test))
    assert exact.correct == exact.exact == found.exact == evaluate(view64, open_ended).correct
    assert exact.answers == evaluate(view64, open_ended).answers
    assert (exact.picked, by_token.loss) == (found.picked, found.loss)


def test_a_choice_can_be_right_where_another_word_is_the_most_probable(view64: View, plain64: Any) -> None:
    prompt = "w3 w4"
    by_probability = sorted(
        (f" w{i}" for i in range(20)), key=lambda text: -slow(plain64, Example(prompt, text), text)[0]
    )
    best, second, last = by_probability[0], by_probability[1], by_probability[-1]
    found = evaluate(
        view64, replace(TASK, test=(Example(prompt, second, (last, second)), Example(prompt, best, (last, best))))
    )
    assert (found.exact, found.correct) == ((False, True), (True, True))
    assert (found.says(0), found.answers[0].strip()) == (second, best.strip())


def test_a_tie_and_what_is_no_number_is_never_picked() -> None:
    assert pick({"a": -2.0, "b": -1.0}) == "b"
    assert pick({"a": -1.0, "b": -1.0, "c": -3.0}) is None
    assert pick({"a": -1.0, "b": -3.0, "c": -3.0}) == "a"
    assert pick({"a": -1.0, "b": math.nan}) is None
    assert pick({"a": math.nan, "b": -1.0}) is None
    assert pick({"a": -math.inf, "b": -1.0}) == "b"
    assert pick({"a": -math.inf, "b": -math.inf}) is None
    assert pick({"a": math.inf, "b": -1.0}) is None


def test_equal_and_broken_models_have_nothing_right(model: Model) -> None:
    for value in (0.0, math.nan):
        view = model.view()
        head = view.bridge.original_model.get_output_embeddings()
        assert head is not None
        with torch.no_grad():
            head.weight = torch.nn.Parameter(torch.full_like(head.weight, value), requires_grad=False)
        alike = tuple(Example("w1 w2", " w3", order) for order in ((" w3", " w4"), (" w4", " w3")))
        found = evaluate(view, replace(TASK, test=alike))
        assert (found.accuracy, found.picked, found.picked_mean) == (0.0, (None, None), (None, None))
        assert (found.hits("sum"), found.says(0)) == ((False, False), "")


def test_the_metric_follows_the_choices_of_a_split() -> None:
    assert [TASK.metric_of(split) for split in ("train", "validation", "test")] == ["choice"] * 3
    mixed = replace(TASK, test=(*TASK.test, OPEN))
    assert (mixed.metric_of("train"), mixed.metric_of("test")) == ("choice", "exact")
    assert with_metric(mixed, "exact").metric_of("train") == "exact"
    with pytest.raises(TaskError, match="choice-mean needs choices, and 1 of 21 test examples of choices have none"):
        with_metric(mixed, "choice-mean")
    with pytest.raises(TaskError, match="'accuracy' is not a metric: choose one of auto, exact, choice, choice-mean"):
        with_metric(TASK, "accuracy")
    with pytest.raises(TaskError, match="metric choice needs choices"):
        load_task("int-mult-12", metric="choice")
    assert load_task("greater-than").metric_of("test") == "choice"
    assert load_task("int-mult-12").metric_of("test") == "exact"
    assert TASK.accuracy_name("test") == "accuracy (choice)"
    assert mixed.accuracy_name("test") == "accuracy (exact match)"
    assert load_task("int-mult-12").accuracy_name("test") == "accuracy"


def test_digests_of_tasks_with_their_usual_metric_are_those_of_before() -> None:
    splits = [
        [(one.prompt, one.answer, one.choices, one.distractor) for one in part]
        for part in (TASK.train, TASK.validation, TASK.test)
    ]
    before = digest([json.dumps([True, splits]).encode()])
    assert TASK.digest == with_metric(TASK, "choice").digest == before
    others = {with_metric(TASK, metric).digest for metric in ("exact", "choice-mean")}
    assert len({before, *others}) == 3
    whole = load_task("int-mult-12")
    assert with_metric(whole, "exact").digest == whole.digest


def test_a_mixed_split_counts_exact_matches_and_says_how_the_choices_went(view: View) -> None:
    found = evaluate(view, replace(TASK, test=(*TASK.test[:4], OPEN)))
    assert (found.metric, found.correct) == ("exact", found.exact)
    assert (len(found.picked), found.picked[4]) == (5, None)
    assert found.as_dict()["choice"]["sum"]["n"] == len(found.hits("sum")) == 4
    assert found.picked[:4] == evaluate(view, TASK, limit=4).picked


def test_guessing_stands_beside_the_accuracy() -> None:
    examples = tuple(
        Example("p", answer, (" a", " b", " c")[:count]) for answer, count in ((" a", 2), (" a", 3), (" b", 3))
    )
    found = Evaluation(examples, (1.0,) * 3, (False,) * 3, ("",) * 3, "choice", (" a", None, " b"), (" a", " b", " b"))
    figures = found.as_dict()
    assert figures["guessing"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 3) / 3)
    assert figures["majority"] == pytest.approx(2 / 3)
    assert (figures["metric"], figures["accuracy"], figures["exact"]["accuracy"]) == ("choice", 2 / 3, 0.0)
    assert {rule: one["accuracy"] for rule, one in figures["choice"].items()} == {"sum": 2 / 3, "mean": 2 / 3}
    assert (found.only([2, 1]).correct, found.first(1).picked) == ((True, False), (" a",))
    plainly = replace(found, metric="exact")
    with pytest.raises(SettingsError, match="the metric choice cannot be compared with exact"):
        Comparison(found, plainly)
    flipped = Comparison(replace(found, picked=(None, " a", " b")), found)
    assert (flipped.repaired, flipped.broken) == ((1,), (0,))
    assert Comparison(plainly, plainly).choice_test() is not None


def test_kept_streams_give_the_same_choices(model: Model, svds: SvdCache) -> None:
    """Short and long shared beginnings, portions, and the live sample: what a click on a value runs."""
    shared = "w1 w2 w3 w4 w5 w6 w7 w8"
    long = tuple(replace(one, prompt=f"{shared} {' '.join(one.prompt.split()[:2])}") for one in made_up(20, seed=1))
    for examples in (TASK.test, long):
        task = replace(TASK, test=examples)
        view = model.view()
        before = evaluate(view, task)
        kept, sample = keep_split(view, task), draw_sample(view, task, most=64, seconds=1e9)
        portions = keep(view, measured_batches(view, task, examples, portion=6))
        for kind in (Kind.K, Kind.OUT):
            apply(view, prune(model.view(), task, svds, kinds=[kind], count=8), svds)
            expected = evaluate(view, task)
            grown: list[Evaluation] = []
            by_portions = evaluate_kept(view, examples, portions, so_far=grown.append, metric="choice")
            assert {6, 12, 18, 20} <= {one.n for one in grown}
            assert all(one == by_portions.first(one.n) for one in grown)
            for found in (evaluate(view, task, kept=kept), sample.measure(view).masked, by_portions):
                assert (found.picked, found.picked_mean, found.exact) == (
                    expected.picked,
                    expected.picked_mean,
                    expected.exact,
                )
                assert (found.answers, found.metric) == (expected.answers, "choice")
                assert found.loss == pytest.approx(expected.loss, abs=1e-5)
        assert sample.baseline.picked == before.picked


def test_kept_streams_of_other_choices_are_refused(view: View) -> None:
    fewer = tuple(
        replace(one, choices=one.choices[:2] if one.answer in one.choices[:2] else one.choices) for one in TASK.test
    )
    kept = keep_split(view, TASK)
    with pytest.raises(SettingsError, match="belong to other examples"):
        evaluate(view, replace(TASK, test=fewer), kept=kept)
    with pytest.raises(SettingsError, match="answers and choices, not of"):
        evaluate_kept(view, fewer, kept, metric="choice")
    with pytest.raises(SettingsError, match="needs choices that were measured"):
        evaluate_kept(view, (OPEN,), keep_split(view, replace(TASK, test=(OPEN,))), metric="choice")


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["auto", "exact", "choice-mean"])
def test_a_search_its_controls_and_its_report_follow_the_metric(
    metric: str, model: Model, svds: SvdCache, tmp_path: Path
) -> None:
    view, task = model.view(), with_metric(TASK, metric)
    problem = Problem(view, task, svds, matrices(view, [Kind.OUT], per_head=True), Budget(4))
    found = search(problem, task, "paper", SEARCHES["paper"], evidence=Evidence(control_draws=3))
    by = "choice" if metric == "auto" else metric
    runs = [run for control in found.controls.values() for run in control.runs]
    for one in (
        found.train,
        found.validation,
        found.test,
        found.baseline,
        *runs,
        *(point.validation for point in found.found.curve),
    ):
        assert one.metric == by
    apply(view, found.mask, svds)
    assert found.test.accuracy == evaluate(view, task).accuracy
    file = found.file
    assert (file.metric, file.test.metric, file.test.accuracy) == (by, by, found.test.accuracy)
    assert file.test.exact is not None
    assert file.test.choice is not None
    assert file.test.exact.accuracy == sum(found.test.exact) / found.test.n
    assert file.test.choice["mean"].accuracy == sum(found.test.hits("mean")) / found.test.n
    assert found.mask.provenance.metric == (None if metric == "auto" else metric)
    old = json.loads(file.to_json())
    del old["metric"]
    old["test"] = {name: old["test"][name] for name in ("n", "accuracy", "accuracy_interval", "loss", "loss_stderr")}
    (tmp_path / "report.json").write_text(json.dumps(old), encoding="utf-8")
    assert load_report(tmp_path).test.metric == "exact"


def test_a_journal_keeps_choices(view: View, svds: SvdCache) -> None:
    found = evaluate(view, TASK, "validation")
    mask = prune(view, TASK, svds, kinds=[Kind.OUT], count=2)
    removed, train, validation, growth = unpack_point(pack_point(mask, None, found), (), TASK.validation)
    assert (removed, train, validation, growth) == (mask.removed, None, found, None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A task of sums with choices, for the bundled model."""
    path = tmp_path / "sums.jsonl"
    with path.open("w", encoding="utf-8") as lines:
        for i in range(2, 32):
            choices = [f" {2 * i}", f" {2 * i + 1}"][:: 1 if i % 2 else -1]
            lines.write(json.dumps({"prompt": f"{i} x 2 =", "answer": f" {2 * i}", "choices": choices}) + "\n")
    return path


@pytest.mark.slow
def test_commands_follow_the_metric(file: Path, tmp_path: Path) -> None:
    asked = ("eval", "--model", "bundled", "--task", file, "--split", "train")
    found, exact = report(*asked), report(*asked, "--metric", "exact")
    assert (found["metric"], exact["metric"]) == ("choice", "exact")
    assert found["accuracy"] == found["choice"]["sum"]["baseline"]["accuracy"] == found["baseline"]["accuracy"]
    assert exact["accuracy"] == exact["exact"]["accuracy"] == found["exact"]["accuracy"]
    assert found["guessing"] == 0.5
    assert found["task_digest"] != exact["task_digest"]
    by_token = report(*asked, "--metric", "choice-mean")
    assert by_token["accuracy"] == found["choice"]["mean"]["baseline"]["accuracy"]
    shown = run(*asked).stdout
    assert "accuracy (choice)" in shown
    assert re.search(r"exact\s.*\n.*match", shown)
    assert "Guessing among the choices gives 50.0 %" in shown
    assert "accuracy (exact match)" in run(*asked, "--metric", "exact").stdout
    assert "'best' is not a metric" in refused(*asked, "--metric", "best")
    plainly = ("eval", "--model", "bundled", "--task", "int-mult", "--limit", "4")
    assert "needs choices" in refused(*plainly, "--metric", "choice")
    assert report(*plainly)["choice"] is None


@pytest.mark.slow
def test_masks_and_their_damage_follow_the_metric(file: Path, tmp_path: Path) -> None:
    mask, task = tmp_path / "mask.json", ("--model", "bundled", "--task", file)
    report("prune", *task, "--kinds", "OUT", "--count", "4", "--out", mask)
    masked = report("eval", *task, "--mask", mask, "--controls", "2")
    counted = masked["choice"]["sum"]
    assert (masked["accuracy"], masked["accuracy_test"]) == (counted["masked"]["accuracy"], counted["test"])
    for metric, accuracy in (("auto", counted["masked"]["accuracy"]), ("exact", masked["exact"]["accuracy"])):
        (damage,) = report("mask", "damage", *task, "--mask", mask, "--text", "none", "--metric", metric)["tasks"]
        assert damage["masked"]["accuracy"] == accuracy
    stops = report("curve", *task, "--kinds", "OUT", "--counts", "1,4", "--split", "test")
    assert stops["stops"][1]["accuracy"] == counted["masked"]["accuracy"]
    assert stops["baseline"]["metric"] == "choice"
    assert "exact match, as the released code does" in refused(
        "search", *task, "--strategy", "paper", "--as-released", "--metric", "choice", "--out", mask
    )


@pytest.mark.parametrize(
    ("metric", "before", "told"),
    [
        ("exact", " 9", "it said 9, now it says **12**."),
        ("choice", " 13", "it chose 13, now it chooses **12**."),
        ("choice", None, "several choices were equally probable, now it chooses **12**."),
    ],
)
def test_the_tour_tells_a_chosen_answer_from_a_written_one(metric: str, before: str | None, told: str) -> None:
    example = Example("3 x 4 =", " 12", choices=(" 12", " 13"))
    exact = metric == "exact"
    after = Evaluation((example,), (1.0,), (exact,), (" 12" if exact else " 7",), metric, (" 12",), (" 12",))  # type: ignore[arg-type]
    unpruned = Evaluation((example,), (2.0,), (False,), (" 9",), metric, (before,), (before,))  # type: ignore[arg-type]
    assert tour._example(Comparison(after, unpruned)).endswith(f": {told}")
