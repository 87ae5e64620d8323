"""One shot with a threshold of its own for every matrix, chosen by validation loss.

1. Score once. Order the matrices by the sum of their negative scores: what removing all of those promises.
2. For each matrix in turn, measure removing its lowest 1, 2, 4, ... negative scores on top of what is removed already,
   and keep the count with the lowest validation loss if that is an improvement. Only what is kept is measured on train.
"""

from __future__ import annotations

from explorer.attribution import Scores
from explorer.core.keys import MatrixKey
from explorer.masks.mask import Removed
from explorer.search.paper import counts
from explorer.search.problem import Problem


def adaptive(problem: Problem) -> None:
    """Visit the matrices until the budget is used up or every one has had its turn."""
    scores = problem.score()
    best = problem.start()
    groups = _harmful(scores)
    for visited, harmful in enumerate(groups):
        problem.at(visited, len(groups))
        found = best
        for count in counts(min(len(harmful), problem.budget.removed - best.removed)):
            point = problem.measure(best.mask.with_removed(harmful[:count]), train=False)
            if problem.improves(point, found):
                found = point
        if found is not best:
            best = problem.complete(found)


def _harmful(scores: Scores) -> list[tuple[Removed, ...]]:
    """Per matrix the values with negative scores, lowest first; the matrices with most to gain first."""
    groups: dict[MatrixKey, list[tuple[float, int]]] = {}
    for value, key, index in scores.ranking():
        if value < 0:
            groups.setdefault(key, []).append((value, index))
    order = sorted(groups, key=lambda key: (sum(value for value, _ in groups[key]), key))
    return [tuple(scores.removed(key, index) for _, index in groups[key]) for key in order]
