"""Forward and backward in turn: `verified`, then whatever the mask does better without goes back into the model.

Proposals are made together, since measuring every value alone would take too long; some come along that do harm beside
the others. What a mask removes are few values, and each of these can be measured alone.

1. Forward: rounds of `verified` from the best mask so far.
2. Backward: measure the mask without each of its values, at most CANDIDATES of them, those first whose return is
   predicted to lower the loss most. Restore together all without which the validation loss is lower and the train loss
   no higher; if that is no better than the best of them alone, half as many, and so on. Again, until none is left.
3. Again from 1, as the budget has room and scores are others now. End when neither way has changed anything.
"""

from __future__ import annotations

from explorer.masks.mask import Mask
from explorer.search.outcome import Point
from explorer.search.problem import Problem
from explorer.search.verified import better, improved

CANDIDATES = 64
Member = tuple[str, int]  # matrix and index of a removed value


def stepwise(problem: Problem) -> None:
    """Go forward and backward until neither finds a better mask."""
    best = problem.start()
    while True:
        forward = improved(problem, best)
        back = restored(problem, forward)
        if forward is best or back is forward:
            return
        best = back


def restored(problem: Problem, best: Point) -> Point:
    """The mask without the values that it does better without."""
    while best.removed > 1:
        alone = []
        for member in _candidates(problem, best.mask):
            point = problem.measure(best.mask.without({member}), rival=best)
            if better(problem, point, best):
                alone.append((point.validation.mean_loss.value, member, point))
        if not alone:
            break
        alone.sort(key=lambda one: one[:2])
        best = _together(problem, best, [member for _, member, _ in alone], single=alone[0][2])
    return best


def _together(problem: Problem, best: Point, helpful: list[Member], *, single: Point) -> Point:
    """The mask without as many helpful members as are better together than the best of them alone, `single`."""
    count = len(helpful)
    while count > 1:
        point = problem.measure(best.mask.without(helpful[:count]), rival=single)
        if better(problem, point, single):
            return point
        count //= 2
    return single


def _candidates(problem: Problem, mask: Mask) -> list[Member]:
    """The members to measure, those first whose return is predicted to lower the loss most."""
    scores = problem.score(mask)
    ranked = [(str(key), index) for _, key, index in scores.ranking() if index in mask.indices(key)]
    return ranked[:CANDIDATES]
