"""`verified` goes by what predictions have been worth so far: its reach, and what it passes over."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from explorer.attribution import Scores
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import empty_mask
from explorer.masks.mask import Mask
from explorer.models import Model
from explorer.models.matrices import matrices
from explorer.search.outcome import Budget, Point
from explorer.search.problem import Problem, solve
from explorer.search.verified import GOOD, LEAST, POOR, _flipped, _within, verified
from explorer.spectra.cache import SvdCache
from explorer.tasks import load_task

PLANTED = {("L0.Q.H3", 0), ("L0.K.H3", 0)}
Q, K = MatrixKey.parse("L0.Q.H0"), MatrixKey.parse("L0.K.H0")
RANKED = [(-4.0, Q, 0), (-2.0, K, 3), (-1.0, Q, 1), (-0.5, Q, 2)]


class Watched(Problem):
    """Keeps what was predicted for every measured mask, and can be told to overrate one value."""

    overrated: tuple[MatrixKey, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.steps: list[tuple[float, bool, Point]] = []  # with whether scores were of the mask they were compared to
        self.scores: Scores | None = None

    def score(self, mask: Mask | None = None) -> Scores:
        found = super().score(mask)
        if self.overrated is not None:
            key, index = self.overrated
            matrix = found.matrices[key]
            score = matrix.score.index_fill(0, torch.tensor([index]), -1000.0)
            found = replace(found, matrices={**found.matrices, key: replace(matrix, score=score)})
        self.scores = found
        return found

    def measure(self, mask: Mask, *, train: bool = True, rival: Point | None = None) -> Point:
        point = super().measure(mask, train=train, rival=rival)
        if self.scores is not None and rival is not None:
            predicted = [self.scores.predicted(one) or 0.0 for one in (rival.mask, mask)]
            scored = self.scores.mask or self.mask()
            self.steps.append((predicted[0] - predicted[1], scored.digest == rival.mask.digest, point))
        return point


def train_loss(point: Point) -> float:
    assert point.train is not None
    return point.train.mean_loss.value


@pytest.fixture
def problem(bundled: Model) -> Watched:
    view = bundled.view()
    keys = matrices(view, (Kind.Q, Kind.K))
    return Watched(view, load_task("int-mult", 0), SvdCache(None), keys, Budget(30), limit=48)


@pytest.mark.parametrize(
    ("reach", "most", "count", "places"),
    [
        (math.inf, 9, 9, [0, 1, 2, 3]),
        (math.inf, 9, 2, [0, 1]),
        (math.inf, 3, 9, [0, 1, 2]),
        (6.0, 9, 9, [0, 1]),
        (5.9, 9, 9, [0]),
        (3.9, 9, 9, [1, 2, 3]),  # the first is beyond it
        (0.7, 9, 9, [3]),
        (0.4, 9, 9, []),
        (math.inf, 0, 9, []),
    ],
)
def test_a_proposal_is_within_reach_and_budget(
    bundled: Model, reach: float, most: int, count: int, places: list[int]
) -> None:
    chosen, predicted = _within(reach, RANKED, empty_mask(bundled), most, count)
    assert chosen == [RANKED[place][1:] for place in places]
    assert predicted == pytest.approx(-sum(RANKED[place][0] for place in places))


def test_restoring_makes_room_in_the_budget(problem: Watched) -> None:
    scores = problem.score()
    mask = problem.mask([scores.removed(K, 3), scores.removed(Q, 7)])
    chosen, _ = _within(math.inf, RANKED, mask, 2, 9)
    assert chosen == [(K, 3), (Q, 1)]  # one goes back, one more can go; Q 0 came when there was no room
    assert {(one.matrix, one.index) for one in _flipped(scores, mask, chosen).removed} == {(str(Q), 7), (str(Q), 1)}


def test_the_reach_follows_what_came_true(problem: Watched) -> None:
    unpruned = problem.start()
    found = solve(problem, verified)
    assert len(problem.steps) == len(found.curve) - 1 >= 4
    best, reach = unpruned, math.inf
    refused = 0
    for predicted, fresh, point in problem.steps:
        assert LEAST * train_loss(unpruned) <= predicted + 1e-9
        assert predicted <= reach + 1e-9
        lower = point.validation.mean_loss.value < best.validation.mean_loss.value
        if lower and (fell := train_loss(best) - train_loss(point)) >= 0:
            reach = predicted * (2 if fell >= GOOD * predicted else 1 if fell >= POOR * predicted else 0.5)
            best = point
        else:
            assert lower == (point.train is not None), "a mask that is not better is not measured any further"
            reach = predicted / 2 if fresh else reach
            refused += 1
    assert refused
    assert any(not fresh for _, fresh, _ in problem.steps), "scores propose again while predictions come true"
    assert found.best.validation.mean_loss.value <= best.validation.mean_loss.value


def test_a_value_that_is_overrated_is_passed_over(problem: Watched) -> None:
    """Its prediction of 1000 nats is refused with company and alone; the others are found all the same."""
    problem.overrated = (MatrixKey.parse("L1.K.H0"), 0)
    found = solve(problem, verified)
    removed = {(one.matrix, one.index) for one in found.best.mask.removed}
    assert removed & PLANTED
    assert found.best.validation.accuracy >= 0.75
    assert problem.steps[-1][0] < 1000
