"""All that is known to help, one after the other: few values by measuring, many by training, then less of both.

1. Forward and backward as in `stepwise`, for a few rounds: where one or two values do it, this finds them.
2. Gates, trained as in `learned`: where it takes hundreds, whose effects do not add up, this finds those.
3. Whatever is best by then on validation, within the limit to the growth of the perplexity, loses every value without
   which it does better.
"""

from __future__ import annotations

from explorer.search.learned import LearnedSettings, learned
from explorer.search.problem import Problem
from explorer.search.stepwise import restored
from explorer.search.verified import improved

ROUNDS = 3  # forward, before gates are trained


def thorough(problem: Problem, settings: LearnedSettings | None = None) -> None:
    """Search in both ways, and take back what does not help; `settings` are those of the training."""
    restored(problem, improved(problem, problem.start(), ROUNDS))
    learned(problem, settings)
    if problem.best.removed:
        restored(problem, problem.complete(problem.best))
