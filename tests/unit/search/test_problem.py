"""What a problem answers: exact frozen means, and measurements that end where they decide nothing more."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from explorer.attribution import score
from explorer.core.keys import Kind
from explorer.masks.apply import apply
from explorer.masks.mask import Mask
from explorer.measure.batches import batches
from explorer.measure.evaluate import evaluate
from explorer.models import Model
from explorer.models.matrices import input_hook, matrices, parts_of
from explorer.search.anchor import HELD
from explorer.search.outcome import Budget
from explorer.search.problem import Problem
from explorer.spectra.cache import SvdCache
from explorer.tasks import load_task

TEXT = tuple(torch.tensor([[1, 2, 3, 4, place]]) for place in range(HELD + 1))


def problem(model: Model, **given: object) -> Problem:
    view = model.view()
    settings = {"budget": Budget(30, growth=1e9), "limit": 24, "text": TEXT, **given}
    return Problem(view, load_task("int-mult", 0), SvdCache(None), matrices(view, (Kind.Q, Kind.O), [0, 2]), **settings)  # type: ignore[arg-type]


def lowest(given: Problem, count: int) -> Mask:
    scores = given.score()
    return given.mask(scores.removed(key, index) for _, key, index in scores.ranking()[:count])


def slow_means(given: Problem, mask: Mask) -> dict[str, list[float]]:
    """m . u_i of every matrix at a mask, example by example, token by token."""
    view = given.view
    apply(view, mask, given.svds)
    rows: dict[str, list[torch.Tensor]] = {}
    for batch in batches(view, given.task, given.examples, 1):
        for key in given.keys:

            def note(x: torch.Tensor, hook: object, name: str = str(key), of: object = parts_of(view, key)[0]) -> None:
                rows.setdefault(name, []).extend(x.flatten(2)[0][:, of].double())  # type: ignore[index]

            with view.bridge.hooks(fwd_hooks=[(input_hook(key.stacked), note)]), torch.no_grad():
                view.logits(batch.tokens)
    return {
        str(key): (torch.stack(rows[str(key)]).mean(dim=0) @ given.svds.get(view, key).u.double()).tolist()
        for key in given.keys
    }


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_frozen_means_are_exact_whatever_proposals_are_computed_in(bundled: Model, compute: str) -> None:
    given = problem(bundled, compute=compute)
    mask = lowest(given, 5)
    scores = given.score(mask)
    slow = slow_means(given, mask)
    for key, one in scores.matrices.items():
        own = {removed.index: removed.c for removed in mask.by_matrix.get(key, ())}
        expected = [own.get(index, value) for index, value in enumerate(slow[str(key)])]
        assert one.c.double().tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_scores_are_proposals_in_the_type_that_was_chosen(bundled: Model) -> None:
    given = problem(bundled, compute="bfloat16")
    rounded, exact = given.score(), problem(bundled).score()
    narrow = score(bundled.view("bfloat16"), given.task, given.svds, given.keys, limit=24)
    assert given.view.bridge.original_model.dtype == torch.float32
    for key in given.keys:
        assert torch.equal(rounded.matrices[key].score, narrow.matrices[key].score)
        assert not torch.equal(rounded.matrices[key].score, exact.matrices[key].score)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_what_is_measured_is_measured_in_the_models_type(bundled: Model, compute: str) -> None:
    given = problem(bundled, compute=compute)
    mask = lowest(given, 5)
    point = given.measure(mask)
    view = bundled.view()
    apply(view, mask, given.svds)
    assert point.validation == evaluate(view, given.task, "validation")
    assert point.train == evaluate(view, given.task, "train", limit=24)
    assert given.with_means(given.score(), mask).matrices[given.keys[0]].c.dtype == torch.float32


def test_a_mask_that_is_no_better_than_its_rival_is_not_measured_further(bundled: Model) -> None:
    given = problem(bundled)
    unpruned, mask = given.start(), lowest(given, 5)
    whole = given.measure(mask)
    worse = replace(unpruned, validation=replace(unpruned.validation, loss=(0.0,) * unpruned.validation.n))
    rising = replace(unpruned, train=replace(whole.train, loss=(0.0,) * 24))  # type: ignore[type-var]
    assert whole.validation.mean_loss.value < unpruned.validation.mean_loss.value
    assert given.measure(mask, rival=unpruned) == whole
    found = given.measure(mask, rival=worse)
    assert (found.validation, found.train, found.growth) == (whole.validation, None, None)
    found = given.measure(mask, rival=rising)
    assert (found.validation, found.train, found.growth) == (whole.validation, whole.train, None)
    assert given.measure(mask, train=False, rival=unpruned) == replace(whole, train=None)
