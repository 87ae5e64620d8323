"""Layer-selective rank reduction (LASER: Sharma et al. 2023, arXiv 2312.13558), for comparison.

Every matrix on its own, from the last layer to the first: keep only its largest singular values, for each share of
`KEPT`; the truncation with the lowest validation loss stays if it is an improvement. Only what stays is measured on
train, too. LASER does not look at scores, and replaces what it removes by nothing: use it with `zero` removal to have
the method as published.
"""

from __future__ import annotations

from explorer.attribution import MatrixScores
from explorer.keys import MatrixKey
from explorer.masks import Removed
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
            smallest = _smallest(key, scores.matrices[key], share)
            if not smallest or best.removed + len(smallest) > problem.budget.removed:
                continue
            point = problem.measure(best.mask.with_removed(smallest), train=False)
            if problem.improves(point, found):
                found = point
        if found is not best:
            best = problem.complete(found)


def _smallest(key: MatrixKey, matrix: MatrixScores, share: float) -> list[Removed]:
    rank = len(matrix.s)
    first = max(1, round(share * rank))
    return [
        Removed(matrix=str(key), index=index, sigma=float(matrix.s[index]), c=float(matrix.c[index]))
        for index in range(first, rank)
    ]
