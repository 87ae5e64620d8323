"""What a loaded model can be asked gives what the functions behind it give, and leaves the model as it was."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import torch

import explorer
from explorer import Kind, LoadedModel, Mask, MatrixKey, Task, load_mask
from explorer.actions import names
from explorer.actions.loaded import SearchOptions, as_kinds, load
from explorer.attribution import SCORERS, score
from explorer.attribution.exact import exact_effects
from explorer.core.errors import ExplorerError, MatrixError
from explorer.masks.apply import apply, empty_mask
from explorer.masks.head_split import Directions
from explorer.measure.batches import batches
from explorer.measure.evaluate import evaluate
from explorer.models.compute import COMPUTE
from explorer.models.matrices import kinds, matrices
from explorer.search import SEARCHES
from explorer.search.request import SearchRequest
from explorer.tasks import SPLITS
from tests import tiny


@pytest.fixture(scope="module")
def own(folder: Path) -> LoadedModel:
    return load(str(folder), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def task() -> Task:
    return tiny.task()


@pytest.fixture(scope="module")
def mask(own: LoadedModel, task: Task) -> Mask:
    return own.prune(task, own.score(task, kinds="QK"), 3)


def test_scores_are_those_of_the_function(own: LoadedModel, task: Task) -> None:
    view = own.view()
    wanted = score(view, task, own.svds, matrices(view, [Kind.Q, Kind.K]), limit=4)
    found = own.score(task, kinds="QK", limit=4)
    assert list(found.matrices) == list(wanted.matrices)
    for key, one in wanted.matrices.items():
        assert torch.equal(found.matrices[key].score, one.score)


def test_a_mask_is_measured_as_by_the_function(own: LoadedModel, task: Task, mask: Mask) -> None:
    view = own.view()
    apply(view, mask, own.svds)
    wanted = evaluate(view, task, "validation")
    with own.pruned(mask) as pruned:
        assert pruned.evaluate(task, split="validation") == wanted
        assert pruned.mask == mask
    assert own.compare(mask, task, split="validation").masked == wanted
    assert own.evaluate(task, split="validation") == evaluate(own.view(), task, "validation")


def test_what_is_lent_comes_back_unpruned_even_after_an_error(own: LoadedModel, task: Task, mask: Mask) -> None:
    seen = []

    def fail() -> None:
        with own.pruned(mask) as pruned:
            seen.append((pruned.view, len(pruned.view.applied)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    ((view, edited),) = seen
    assert edited
    assert not view.applied
    assert own.current_digest() == own.digest


def test_effects_are_those_of_the_function(own: LoadedModel, task: Task) -> None:
    view, values = own.view(), [(MatrixKey.parse("L0.Q.H0"), 0), (MatrixKey.parse("L0.OUT"), 1)]
    wanted = exact_effects(view, batches(view, task, task.train), own.svds, values)
    found = own.effects(task, values)
    assert list(found) == list(wanted.values)
    for value, effect in found.items():  # what runs together may round otherwise
        assert vars(effect) == pytest.approx(vars(wanted.values[value]), rel=1e-5, abs=1e-6)
    named = own.effects(task, [("L0.Q.H0", 0), ("L0.OUT", 1)])
    assert list(named.values()) == list(found.values())
    assert list(named) == [("L0.Q.H0", 0), ("L0.OUT", 1)]
    with pytest.raises(MatrixError, match="is not a matrix key"):
        own.effects(task, [("L0.Z", 0)])


def test_a_search_ends_with_a_report_and_a_file(own: LoadedModel, task: Task, tmp_path: Path) -> None:
    report = own.search(task, kinds="QK", strategy="paper", max_removed=4, controls=1)
    assert len(report.mask) <= 4
    report.mask.save(str(tmp_path / "m.json"))
    assert load_mask(str(tmp_path / "m.json")) == report.mask
    again = own.search(task, kinds="QK", strategy="paper", max_removed=4, controls=1)
    assert again.mask.digest == report.mask.digest


def test_every_option_of_a_search_is_one_of_python(own: LoadedModel, task: Task) -> None:
    """Each under the name that the request has for it, but for a few that are named otherwise or say the task's own."""
    named = {"growth": "max_growth", "control_names": None, "seed": None}
    wanted = {named.get(one.name, one.name) for one in fields(SearchRequest)} - {None}
    found = {*inspect.signature(LoadedModel.search).parameters, *SearchOptions.__annotations__}
    assert wanted - found == set()
    report = own.search(task, kinds="Q", strategy="paper", max_removed=1, controls=0, compute="bfloat16")
    settings = report.file.settings
    assert (settings.dtype, settings.compute) == ("float32", "bfloat16")


def test_damage_and_spectra(own: LoadedModel, task: Task, mask: Mask) -> None:
    found = own.damage(mask, [task], split="validation")
    assert found.tasks[0].comparison.masked.loss == own.compare(mask, task, split="validation").masked.loss
    for name in ("L0.Q.H0", "L0.QK.H0"):
        s = own.svd(name).s
        assert torch.equal(s, s.sort(descending=True).values)
    with pytest.raises(ExplorerError):
        own.svd("L99.Q.H0")


def test_attention_is_split_as_by_the_function(own: LoadedModel, task: Task, mask: Mask) -> None:
    found = own.attention("L0.H1", "w1 w2 w3", query=2, key=1, directions="product", toward=(" w4",), mask=mask)
    assert (found.place.query, found.place.key) == (2, 1)
    assert found.score.total == pytest.approx(found.score.own, abs=1e-5)
    assert found.moved.total == pytest.approx(found.moved.own, abs=1e-5)
    assert found.toward == "the logit of 'w4'"
    with pytest.raises(ExplorerError, match="is no head"):
        own.attention("L0", "w1 w2")


def test_kinds_may_be_letters_words_or_kinds(own: LoadedModel) -> None:
    assert as_kinds("QK") == as_kinds("q,k") == as_kinds([Kind.Q, Kind.K]) == (Kind.Q, Kind.K)
    assert as_kinds("OUT") == (Kind.OUT,)
    assert as_kinds("Q,OUT") == (Kind.Q, Kind.OUT)
    assert as_kinds("all") is None
    view = own.view()
    assert own.matrices() == matrices(view, kinds(view))
    for wrong in ("QX", "", "Q,X"):
        with pytest.raises(MatrixError):
            as_kinds(wrong)


def test_closed_choices_are_those_of_the_tables() -> None:
    assert set(get_args(names.Scorer)) == set(SCORERS)
    assert set(get_args(names.Strategy)) == set(SEARCHES)
    assert get_args(names.Split) == SPLITS
    assert get_args(names.Compute) == COMPUTE
    assert get_args(names.Directions) == get_args(Directions)


def test_the_package_says_its_version_and_gives_such_a_model() -> None:
    assert explorer.__version__.split(".")[0].isdigit()
    assert explorer.load is load


def test_an_empty_mask_is_the_model_itself(own: LoadedModel, task: Task) -> None:
    with own.pruned(empty_mask(own)) as view:
        assert view.evaluate(task) == own.evaluate(task)
