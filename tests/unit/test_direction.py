"""The card of a direction: every part against plain transformers, or against the part of the engine that it shows."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explorer import LoadedModel, Task
from explorer.actions.direction import MOST_CONTEXTS, DirectionResult
from explorer.actions.loaded import load
from explorer.attribution import Options, score
from explorer.attribution.exact import EffectsJob, exact_effects
from explorer.core.errors import MatrixError, SettingsError
from explorer.core.keys import Kind, MatrixKey
from explorer.core.records import json_text
from explorer.experiments.direction import GAINS, Direction
from explorer.masks.apply import empty_mask
from explorer.masks.library import Library
from explorer.measure.batches import batches
from explorer.measure.context_store import ContextStore
from explorer.measure.contexts import TOP
from explorer.measure.corpora import Corpus, task_corpus
from explorer.measure.readout import readouts
from explorer.models import Model
from explorer.models.matrices import kinds
from explorer.spectra.cache import SvdCache
from explorer.tasks import load_task
from tests import plain
from tests.commands import keys_of, refused, report, run

CARD = ("direction", "L0.K.H1", "0", "--model", "bundled", "--task", "int-mult", "--limit", "16", "--eval-limit", "16")


def scaled(model: Any, key: MatrixKey, index: int, gain: float, mean: plain.Array) -> Any:
    """The plain model with one singular value scaled about its frozen mean, in the weight and the bias, by hand."""
    u, s, vh = plain.svd(model, key)
    edited = copy.deepcopy(model)
    where = plain.site(edited, key)
    where.weight().add_(torch.tensor((gain - 1.0) * s[index] * np.outer(u[:, index], vh[index])))
    if where.module.bias is None:
        where.module.bias = torch.nn.Parameter(torch.zeros(where.module.weight.shape[0], dtype=torch.float64))
    frozen = torch.tensor((1.0 - gain) * s[index] * (mean @ u[:, index]) * vh[index])
    where.module.bias.data[where.columns] += frozen
    return edited


@pytest.mark.slow
def test_the_gain_curve_is_that_of_scaled_weights(
    model64: Model, plain64: Any, svds: SvdCache, tiny_task: Task
) -> None:
    encoded = [plain.encode_words(one) for one in tiny_task.train]
    unpruned = plain.mean_loss(plain64, encoded)
    view = model64.view()
    for kind, index in zip(kinds(view), (0, 2, 1, 3, 0, 2, 1), strict=False):
        key = MatrixKey(0, kind, 1 if kind.has_heads else None)
        found = Direction(view, svds, key, index=index).effects(tiny_task)
        mean = plain.record(plain64, key, encoded).x.mean(axis=0)
        assert [one.gain for one in found.gains] == list(GAINS)
        for one in found.gains[::4]:
            wanted = plain.mean_loss(scaled(plain64, key, index, one.gain, mean), encoded) - unpruned
            assert one.change == pytest.approx(wanted, abs=1e-6)
        assert [(one.change, one.stderr) for one in found.gains if one.gain == 1.0] == [(0.0, 0.0)]
    assert not view.applied


@pytest.fixture(scope="module")
def own(folder: Path) -> LoadedModel:
    return load(str(folder), dtype="float32", device="cpu")


def test_effects_elsewhere_have_this_tasks_frozen_mean(own: LoadedModel, svds: SvdCache, tiny_task: Task) -> None:
    view, key = own.view(), MatrixKey(1, Kind.V, 0)
    other = Task("other", "words", tiny_task.train[2:4], tiny_task.validation, tiny_task.test, seed=0)
    found = Direction(view, svds, key, index=1).effects(tiny_task, [other])
    here, there = (batches(view, one, one.train) for one in (tiny_task, other))
    job = EffectsJob.begin(view, here, svds, mask=empty_mask(own), keys=[key])
    wanted = exact_effects(view, there, svds, [(key, 1)], means=job.inputs).values[key, 1]
    assert [(one.task, one.n) for one in found.tasks] == [("tiny", 6), ("other", 2)]
    assert (found.tasks[1].exact, found.tasks[1].stderr) == (wanted.value, wanted.stderr)
    assert wanted.value != exact_effects(view, there, svds, [(key, 1)]).values[key, 1].value


def test_score_flips_tokens_and_masks_are_the_engines(
    own: LoadedModel, svds: SvdCache, tiny_task: Task, tmp_path: Path
) -> None:
    view, key = own.view(), MatrixKey(0, Kind.O, 1)
    scores = score(view, tiny_task, svds, [key], options=Options(bootstrap=50))
    one = scores.matrices[key]
    assert one.stderr is not None
    direction = Direction(view, svds, key, index=2)
    found = direction.score(tiny_task, bootstrap=50)
    assert (found.score, found.stderr, found.c) == (float(one.score[2]), float(one.stderr[2]), float(one.c[2]))
    mask = empty_mask(own).with_removed([scores.removed(key, 2)])
    both = own.compare(mask, tiny_task, split="test")
    flips = direction.flips(tiny_task, found.c, "test")
    assert (flips.loss_change, flips.n) == (both.loss_change.value, both.baseline.n)
    assert (flips.accuracy_before, flips.accuracy_after) == (both.baseline.accuracy, both.masked.accuracy)
    assert len(flips.examples) == len(both.repaired) + len(both.broken)
    assert list(direction.tokens(3)) == readouts(view, key, svds.get(view, key), [2], k=3)
    library = Library(tmp_path)
    assert direction.library(library).holding == ()
    library.save(mask, "holds it")
    library.save(mask.scaled(0.5), "halves it")
    library.save(empty_mask(own).with_removed([scores.removed(key, 1)]), "holds another")
    held = direction.library(library)
    assert held.masks == 3
    assert {(each.name, each.gain, each.removed) for each in held.holding} == {
        ("holds it", 0.0, 1),
        ("halves it", 0.5, 1),
    }
    assert not view.applied


def test_examples_that_flip_are_told_with_both_answers(own: LoadedModel, svds: SvdCache, tiny_task: Task) -> None:
    """On a task whose answers are the model's own: removing the largest value of a matrix breaks some."""
    told = own.evaluate(tiny_task, split="test")
    rows = [
        type(one)(one.prompt, f" {said.split()[0]}")
        for one, said in zip(told.examples, told.answers, strict=True)
        if said.split()
    ]
    task = Task("own answers", "words", tuple(rows), tuple(rows), tuple(rows), seed=0)
    seen = 0
    for index in range(4):
        direction = Direction(own.view(), svds, MatrixKey(1, Kind.OUT), index=index)
        found = direction.flips(task, direction.score(task, bootstrap=2).c)
        assert found.accuracy_before == 1.0
        assert len(found.examples) == round((1.0 - found.accuracy_after) * found.n)
        for one in found.examples:
            assert not one.repaired
            assert one.before == one.answer.strip() != one.after
        seen += len(found.examples)
    assert seen


def test_place_and_refusals(own: LoadedModel, svds: SvdCache, tiny_task: Task, tmp_path: Path) -> None:
    view, key = own.view(), MatrixKey(0, Kind.K, 0)
    s = svds.get(view, key).s.double()
    place = Direction(view, svds, key, index=1).place()
    assert (place.sigma, place.rank, place.null) == (float(s[1]), len(s), False)
    assert place.energy == pytest.approx(float(s[1] ** 2 / (s**2).sum()))
    with pytest.raises(MatrixError, match=f"has singular values 0 to {len(s) - 1}, not {len(s)}"):
        Direction(view, svds, key, index=len(s))
    with pytest.raises(MatrixError, match="layers 0 to 1"):
        Direction(view, svds, MatrixKey(7, Kind.K, 0), index=0)
    assert MOST_CONTEXTS == TOP
    store = ContextStore(tmp_path, pytest.fail, 10**9)
    with pytest.raises(SettingsError, match=f"give 0 to {TOP}"):
        Direction(view, svds, key, index=0).contexts(Corpus("x", ((1, 2),)), TOP + 1, store=store)


@pytest.mark.slow
def test_python_and_command_give_the_same_card(bundled: Model) -> None:
    found = report(*CARD, "--other", "int-sum", "--shown", "3", "--contexts", "2")
    assert list(found) == keys_of(DirectionResult)
    model, task, others = LoadedModel.of(bundled), load_task("int-mult"), [load_task("int-sum")]
    mine = model.direction(
        "L0.K.H1", 0, task, limit=16, eval_limit=16, others=others, shown=3, contexts_shown=2
    ).as_dict()
    for name, part in mine.items():
        assert found[name] == json.loads(json_text({name: part}))[name], name
    assert [one["corpus"] for one in found["contexts"]] == ["int-mult"]
    assert found["contexts"][0]["tokens"] == task_corpus(bundled, task, limit=16).tokens
    words = run(*CARD).stdout
    for part in ("Gain curve", "int-mult, largest", "reads alike", "masks of this model", "[", "chance"):
        assert part in words


@pytest.mark.slow
def test_what_cannot_be_had_is_said_in_a_sentence(tmp_path: Path) -> None:
    start = ("--model", "bundled", "--task", "int-mult")
    assert "0 to 31, not 99" in refused("direction", "L0.K.H1", "99", *start)
    assert "product of two matrices" in refused("direction", "L0.QK.H1", "0", *start)
    assert "give 0 to 16" in refused("direction", "L0.K.H1", "0", *start, "--contexts", "17", "--limit", "8")
    assert "the task itself" in refused("direction", "L0.K.H1", "0", *start, "--other", "int-mult")
    (tmp_path / "text.txt").write_text("words that the model never saw")
    assert "does not know" in refused("direction", "L0.K.H1", "0", *start, "--text", tmp_path / "text.txt")


def test_a_text_of_ones_own_is_read_beside_the_task(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("3 x 4 = 12 19 + 8 = 27 " * 9)
    found = report(*CARD, "--text", tmp_path / "text.txt", "--contexts", "1")
    assert [one["corpus"] for one in found["contexts"]] == ["int-mult", "text"]
    (best,) = found["contexts"][1]["largest"]
    assert best["value"] == best["values"][best["at"]]
    assert best["value"] == pytest.approx(max(found["contexts"][1]["quantiles"]), rel=1e-5)
