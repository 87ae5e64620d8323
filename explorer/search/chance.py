"""Controls in place of scores: how far a search comes that knows only how many values to take, and from where.

1. Take the masks that `paper` would measure: the lowest 1, 2, 4, ... scores, up to the budget.
2. In place of each one measure a control of it (`explorer.search.controls`): DRAWS draws of a random one, by the seeds
   that follow the problem's, or the single one that knows no chance.
3. The lowest validation loss wins, as always. A random one is the best of many draws: chance with the help of the
   validation split, a harder rival than a single draw.
"""

from __future__ import annotations

from functools import partial

from explorer.search.controls import DRAWS, PER_MATRIX, RANDOM_SEARCH, draws
from explorer.search.paper import counts
from explorer.search.problem import Problem, Search


def _drawn(problem: Problem, control: str) -> None:
    """Measure the draws of a control of every mask that `paper` would measure."""
    scores = problem.score()
    ranked = [(key, index) for _, key, index in scores.ranking()]
    steps = tuple(counts(min(problem.budget.removed, len(ranked))))
    seeds = range(problem.seed, problem.seed + DRAWS)
    for step, count in enumerate(steps, start=1):
        problem.at(step, len(steps))
        matched = problem.mask(scores.removed(*value) for value in ranked[:count])
        for mask in draws(scores, matched, control, seeds=seeds):
            if 0 < len(mask) <= problem.budget.removed:
                problem.measure(mask)


DRAWN = {RANDOM_SEARCH: PER_MATRIX, "random-energy": "random-energy", "smallest": "smallest", "largest": "largest"}
CHANCE: dict[str, Search] = {name: partial(_drawn, control=control) for name, control in DRAWN.items()}
SUMMARIES = {
    RANDOM_SEARCH: "Control: the best of many draws of as many values as `paper` takes from each matrix.",
    "random-energy": "Control: values drawn at random in the matrices that `paper` takes from, with as much energy.",
    "smallest": "Control: as many values as `paper` takes from each matrix, its smallest.",
    "largest": "Control: as many values as `paper` takes from each matrix, its largest.",
}
