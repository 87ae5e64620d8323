"""`stepwise` leaves nothing in a mask that the mask does better without."""

from __future__ import annotations

import pytest

from explorer.core.keys import Kind
from explorer.masks.apply import apply
from explorer.measure.evaluate import evaluate
from explorer.models import Model
from explorer.models.matrices import matrices
from explorer.search.outcome import Budget
from explorer.search.problem import Problem, solve
from explorer.search.stepwise import _together, stepwise
from explorer.search.verified import verified
from explorer.spectra.cache import SvdCache
from explorer.tasks import load_task

EXAMPLES = 64
TOLERANCE = 1e-5  # runs of one example differ by rounding


@pytest.fixture(scope="module")
def svds() -> SvdCache:
    return SvdCache(None)


def problem(model: Model, svds: SvdCache, kinds: tuple[Kind, ...] = (Kind.K, Kind.O, Kind.OUT)) -> Problem:
    view = model.view()
    return Problem(view, load_task("int-mult", 0), svds, matrices(view, kinds), Budget(12), limit=EXAMPLES)


def test_no_value_of_its_mask_is_better_put_back(bundled: Model, svds: SvdCache) -> None:
    found, forward = (solve(problem(bundled, svds), one) for one in (stepwise, verified))
    view, task = bundled.view(), load_task("int-mult", 0)

    def losses(removed: set[tuple[str, int]]) -> tuple[float, float]:
        mask = best.mask.without({place for place in members if place not in removed})
        apply(view, mask, svds)
        validation, train = (
            evaluate(view, task, split, limit=n) for split, n in (("validation", None), ("train", EXAMPLES))
        )
        return validation.mean_loss.value, train.mean_loss.value

    best = found.best
    members = {(one.matrix, one.index) for one in best.mask.removed}
    validation, train = losses(members)
    for member in members if len(members) > 1 else ():
        without = losses(members - {member})
        assert without[0] > validation - TOLERANCE or without[1] > train - TOLERANCE, member
    assert validation <= forward.best.validation.mean_loss.value + TOLERANCE
    assert len(members) < forward.best.removed
    assert found.best.validation.accuracy >= 0.95


def test_members_go_back_together_as_far_as_that_is_better_than_the_best_alone(bundled: Model, svds: SvdCache) -> None:
    given = problem(bundled, svds, (Kind.K,))
    scores = given.score()
    planted = next((key, 0) for key in given.keys if str(key) == "L0.K.H3")
    others = [(key, index) for _, key, index in scores.ranking()[-4:]]  # what the task needs most
    best = given.measure(given.mask(scores.removed(*value) for value in (planted, *others)))
    helpful = [(str(key), index) for key, index in others]
    single = given.measure(best.mask.without(helpful[:1]))
    assert _together(given, best, helpful, single=single).mask == given.mask([scores.removed(*planted)])
    assert _together(given, best, helpful[:1], single=single) is single
    habit = (str(planted[0]), planted[1])  # with it, nothing helps any more
    assert _together(given, best, [helpful[0], habit, helpful[1], helpful[2]], single=single) is single
