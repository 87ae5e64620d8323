"""The paper's strategy: score once, remove the lowest fraction (paper, section 3); the fraction is read off validation.

The paper removes a fixed fraction p. Here the fractions up to the budget are measured on a geometric grid, so that the
curve over the number removed comes with the answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from explorer.attribution import Scores
from explorer.core.keys import MatrixKey
from explorer.search.problem import Problem

Value = tuple[MatrixKey, int]


def paper(problem: Problem, *, per_kind: bool = False) -> None:
    """Measure the lowest 1, 2, 4, ... values, up to the budget, over all kinds or the same share of each kind."""
    scores = problem.score()
    ranked = proportional(scores) if per_kind else [(key, index) for _, key, index in scores.ranking()]
    steps = tuple(counts(min(problem.budget.removed, len(ranked))))
    for step, count in enumerate(steps, start=1):
        problem.at(step, len(steps))
        problem.measure(problem.mask(scores.removed(*value) for value in ranked[:count]))


def counts(most: int) -> Iterator[int]:
    """1, 2, 4, ... and `most` itself."""
    count = 1
    while count < most:
        yield count
        count *= 2
    if most > 0:
        yield most


def proportional(scores: Scores) -> list[Value]:
    """All values, ordered so that every beginning of the list takes the same share of each kind, its lowest scores."""
    by_kind: dict[str, list[tuple[float, MatrixKey, int]]] = {}
    for entry in scores.ranking():
        by_kind.setdefault(str(entry[1].kind), []).append(entry)
    shares = [
        ((place + 1) / len(entries), key, index)
        for entries in by_kind.values()
        for place, (_, key, index) in enumerate(entries)
    ]
    return [(key, index) for _, key, index in sorted(shares)]
