"""Layer-selective rank reduction (LASER: Sharma et al. 2023, arXiv 2312.13558), for comparison.

Every matrix on its own, from the last layer to the first: keep only its largest singular values, for each share of
`KEPT`; the truncation with the lowest validation loss stays if it is an improvement. Only what stays is measured on
train, too. LASER does not look at scores, and replaces what it removes by nothing: use it with `zero` removal to have
the method as published.
"""

from __future__ import annotations

from explorer.attribution import Scores
from explorer.core.keys import MatrixKey
from explorer.masks.mask import Removed
from explorer.search.problem import Problem

KEPT = (0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)  # shares of the rank


def laser(problem: Problem) -> None:
    """Truncate matrix by matrix while the budget lasts."""
    scores = problem.score()  # for the frozen means and the singular values only
    best = problem.start()
    for visited, key in enumerate(sorted(scores.matrices, key=lambda key: (-key.layer, key))):
        problem.at(visited, len(scores.matrices))
        found = best
        for share in KEPT:
            smallest = _smallest(scores, key, share)
            if not smallest or best.removed + len(smallest) > problem.budget.removed:
                continue
            point = problem.measure(best.mask.with_removed(smallest), train=False)
            if problem.improves(point, found):
                found = point
        if found is not best:
            best = problem.complete(found)


def _smallest(scores: Scores, key: MatrixKey, share: float) -> list[Removed]:
    first = max(1, round(share * int(scores.matrices[key].present.sum())))
    return [scores.removed(key, index) for index in scores.usable[key] if index >= first]
