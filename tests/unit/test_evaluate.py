"""Evaluations against plain transformers, one example at a time."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.stats
import torch

from explorer.core.errors import SettingsError, Stopped, TaskError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply
from explorer.measure.batches import batches
from explorer.measure.evaluate import Comparison, Evaluation, evaluate, evaluate_kept, keep_split
from explorer.measure.residuals import keep
from explorer.models import Model, View
from explorer.search import prune
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task
from tests import plain, tiny


def test_evaluations_agree_with_plain_transformers(view64: View, plain64: Any, tiny_task: Task) -> None:
    found = evaluate(view64, tiny_task, "test")
    assert found.examples == tiny_task.test
    assert found.n == 6
    for place, example in enumerate(tiny_task.test):
        one = plain.encode_words(example)
        with torch.no_grad():
            best = plain64(torch.tensor([one.read])).logits[0].argmax(dim=-1).tolist()[one.first :]
            loss = float(plain.example_loss(plain64, one))
        assert found.loss[place] == pytest.approx(loss, rel=1e-6)
        assert found.correct[place] is (best == one.answer)
        assert found.answers[place] == " ".join(tiny.WORDS[token] for token in best)
    assert found.mean_loss.value == pytest.approx(sum(found.loss) / 6)
    assert found.mean_loss.stderr == pytest.approx(float(scipy.stats.sem(found.loss)))


def right_and_wrong(view: View) -> Task:
    """Examples that this model answers right, by asking it, and some that it does not."""
    rows = []
    for i in range(6):
        one = plain.encode_words(Example(f"w{i} w{i + 3}", " w0"))
        best = int(view.logits(torch.tensor([one.prompt]))[0, -1].argmax())
        other = "w7" if tiny.WORDS[best] != "w7" else "w8"
        rows.append(Example(f"w{i} w{i + 3}", f" {tiny.WORDS[best] if i % 2 else other}"))
    return Task("mixed", "", tuple(rows), tuple(rows), tuple(rows), seed=0)


def test_accuracy_counts_the_right_answers(view: View) -> None:
    task = right_and_wrong(view)
    found = evaluate(view, task)
    assert found.correct == (False, True, False, True, False, True)
    assert found.accuracy == 0.5
    interval = scipy.stats.binomtest(3, 6).proportion_ci(method="wilson")
    assert found.accuracy_interval == pytest.approx((interval.low, interval.high), abs=1e-9)
    report = found.as_dict()
    choices = {"metric": "exact", "choice": None, "guessing": None, "majority": None}
    assert report.items() >= choices.items()
    assert set(report) == {"n", "accuracy", "accuracy_interval", "loss", "loss_stderr", "exact", *choices}
    assert report["exact"] == {name: report[name] for name in ("n", "accuracy", "accuracy_interval")}
    assert report["accuracy_interval"] == list(found.accuracy_interval)
    assert (report["n"], report["accuracy"], report["loss"]) == (6, 0.5, found.mean_loss.value)


def test_evaluations_are_bit_equal_when_repeated(model: Model, tiny_task: Task) -> None:
    assert evaluate(model.view(), tiny_task) == evaluate(model.view(), tiny_task)


def test_a_limit_takes_the_first_examples(view: View, tiny_task: Task) -> None:
    whole, part = evaluate(view, tiny_task), evaluate(view, tiny_task, limit=2)
    assert part.n == 2
    assert part.examples == whole.examples[:2]
    assert part.loss == pytest.approx(whole.loss[:2], abs=1e-5)


def made_up(correct: list[bool], loss: list[float]) -> Evaluation:
    examples = tuple(Example(f"p{i}", f" a{i}") for i in range(len(loss)))
    return Evaluation(examples, tuple(loss), tuple(correct), ("?",) * len(loss))


def test_comparisons_say_what_flipped_and_by_how_much() -> None:
    before = made_up([True, True, False, False, True], [1.0, 2.0, 3.0, 4.0, 5.0])
    after = made_up([True, False, True, False, False], [0.5, 2.5, 1.0, 4.0, 6.0])
    found = Comparison(after, before)
    assert found.repaired == (2,)
    assert found.broken == (1, 4)
    assert found.accuracy_change.value == pytest.approx(-0.2)
    assert found.loss_change.value == pytest.approx((-0.5 + 0.5 - 2.0 + 0.0 + 1.0) / 5)
    assert found.loss_change.stderr == pytest.approx(float(scipy.stats.sem([-0.5, 0.5, -2.0, 0.0, 1.0])))


def test_a_masked_evaluation_differs_and_its_comparison_is_consistent(
    view: View, tiny_task: Task, svds: SvdCache
) -> None:
    before = evaluate(view, tiny_task)
    apply(view, prune(view, tiny_task, svds, kinds=[Kind.OUT], count=8), svds)
    after = evaluate(view, tiny_task)
    change = Comparison(after, before).loss_change
    assert change.value == pytest.approx(after.mean_loss.value - before.mean_loss.value)
    assert change.value != 0
    nothing = Comparison(before, before)
    assert (nothing.repaired, nothing.broken, nothing.loss_change.value) == ((), (), 0.0)


def test_kept_streams_give_the_same_evaluation(view: View, tiny_task: Task, svds: SvdCache) -> None:
    kept = keep_split(view, tiny_task)
    for kind in (Kind.K, Kind.OUT):
        apply(view, prune(view, tiny_task, svds, kinds=[kind], count=4), svds)
        told: list[tuple[int, int]] = []
        found = evaluate(view, tiny_task, kept=kept, progress=lambda done, total: told.append((done, total)))  # noqa: B023
        assert found == evaluate(view, tiny_task)
        assert told == [(0, 1), (1, 1)]
        assert evaluate_kept(view, tiny_task.split("test"), kept) == found
    part = keep_split(view, tiny_task, limit=2)
    assert evaluate(view, tiny_task, limit=2, kept=part).n == 2


def test_an_evaluation_grows_by_portions_of_the_split(view: View, tiny_task: Task) -> None:
    examples, grown = tiny_task.split("train"), []
    cut = batches(view, tiny_task, examples, batch_size=1, portions=[i // 2 for i in range(len(examples))])
    whole = evaluate_kept(view, examples, keep(view, cut), so_far=grown.append)
    assert [one.n for one in grown] == sorted({one.n for one in grown})
    assert {2, 4, 6} <= {one.n for one in grown}
    assert all(one == whole.first(one.n) for one in grown)
    assert whole.loss == pytest.approx(evaluate(view, tiny_task, "train").loss, abs=1e-5)


def test_kept_streams_of_other_examples_are_refused(view: View, tiny_task: Task) -> None:
    kept = keep_split(view, tiny_task, "test")
    for split, limit in (("train", None), ("test", 3), ("validation", None)):
        with pytest.raises(SettingsError, match="belong to other examples: keep them again"):
            evaluate(view, tiny_task, split, limit=limit, kept=kept)
    with pytest.raises(SettingsError, match=f"of {kept.n} examples, not of 3"):
        evaluate_kept(view, tiny_task.split("test", 3), kept)


def test_stopping_leaves_the_view_as_it_was(view: View, tiny_task: Task) -> None:
    before = evaluate(view, tiny_task)

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        evaluate(view, tiny_task, progress=stop)
    assert evaluate(view, tiny_task) == before
    assert MatrixKey(0, Kind.Q) not in view.applied


def test_what_cannot_be_evaluated_is_refused(view: View, tiny_task: Task) -> None:
    with pytest.raises(TaskError, match="'dev' is not a split: choose one of train, validation, test"):
        evaluate(view, tiny_task, "dev")
    empty = Task("empty", "", tiny_task.train, (), tiny_task.test, seed=0)
    with pytest.raises(TaskError, match="the validation split of empty is empty"):
        evaluate(view, empty, "validation")
