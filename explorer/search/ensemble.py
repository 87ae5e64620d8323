"""Values on which searches over different halves of the train examples agree.

1. Cut the train examples into two halves, `resamples` times, by seeds derived from the problem's. Each time a base
   strategy searches with one half as its train split and the other as its validation split.
2. Combine the masks found: for every k the values that at least k of them remove, from all of them (the intersection)
   to one (the union).
3. Measure each combination within the budget on the validation split, which no base search has seen, with frozen means
   over all train examples. The lowest validation loss wins, as always.

A value that was chosen for the sake of a few examples is chosen by few of the searches (stability selection,
Meinshausen and Buehlmann 2010).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from explorer.errors import SettingsError, Stopped, TaskError
from explorer.mask_sets import vote
from explorer.masks import Mask
from explorer.progress import part
from explorer.search.adaptive import adaptive
from explorer.search.laser import laser
from explorer.search.learned import learned
from explorer.search.paper import paper
from explorer.search.problem import Problem, Search, solve
from explorer.search.verified import verified
from explorer.tasks import Example

BASES: dict[str, Search] = {
    "paper": paper,
    "adaptive": adaptive,
    "verified": verified,
    "learned": learned,
    "laser": laser,
}
Halves = tuple[tuple[Example, ...], tuple[Example, ...]]


@dataclass(frozen=True)
class EnsembleSettings:
    """Settings of the `ensemble` strategy.

    Attributes:
        base: name of the strategy whose masks are combined.
        resamples: how many pairs of halves it searches on.
        at_least: how many of the masks must remove a value; None to measure every number.

    Raises:
        SettingsError: no such strategy, fewer than 2 resamples, or more masks asked for than there are.
    """

    base: str = "paper"
    resamples: int = 5
    at_least: int | None = None

    def __post_init__(self) -> None:
        if self.base not in BASES:
            raise SettingsError(f"{self.base!r} cannot be combined: choose one of {', '.join(BASES)}.")
        if self.resamples < 2:
            raise SettingsError(f"{self.resamples} resamples leave nothing to combine: give 2 or more.")
        if self.at_least is not None and not 1 <= self.at_least <= self.resamples:
            raise SettingsError(f"{self.at_least} of {self.resamples} masks: give a number from 1 to {self.resamples}.")


def ensemble(problem: Problem, settings: EnsembleSettings | None = None) -> None:
    """Search on halves and measure what the masks found agree on; see the module docstring.

    Raises:
        TaskError: fewer than two different train prompts.
    """
    given = settings or EnsembleSettings()
    found = [_member(problem, given, number) for number in range(given.resamples)]
    if not any(map(len, found)):
        return
    scores = problem.score()  # for the frozen means over all train examples
    for mask in _combined(found, given.at_least):
        if 0 < len(mask) <= problem.budget.removed:
            problem.measure(problem.mask(scores.removed(one.key, one.index) for one in mask.removed))


def halves(examples: tuple[Example, ...], seed: int, number: int) -> Halves:
    """The examples in two random halves; those with one prompt stay together.

    Raises:
        TaskError: fewer than two different prompts.
    """
    prompts = list(dict.fromkeys(example.prompt for example in examples))
    if len(prompts) < 2:
        raise TaskError(f"{len(prompts)} train prompt cannot be cut into halves: give two or more.")
    random.Random(f"{seed} {number}").shuffle(prompts)
    first = set(prompts[: (len(prompts) + 1) // 2])
    return tuple(one for one in examples if one.prompt in first), tuple(e for e in examples if e.prompt not in first)


def _member(problem: Problem, given: EnsembleSettings, number: int) -> Mask:
    """The mask that one search on halves finds, within an even share of the time that is left."""
    train, validation = halves(problem.examples, problem.seed, number)
    budget = problem.budget
    if budget.seconds is not None:
        left = given.resamples - number + 1  # the other searches, and measuring the combinations
        budget = replace(budget, seconds=max(0.0, budget.seconds - problem.seconds) / left)
    smaller = Problem(
        problem.view, replace(problem.task, train=train, validation=validation), problem.svds, problem.keys, budget,
        mode=problem.mode, scorer=problem.scorer, seed=problem.seed, text=problem.text,
        progress=part(problem.progress, number / (given.resamples + 1), (number + 1) / (given.resamples + 1)),
        journal=None if problem.journal is None else problem.journal.part(str(number)),
    )  # fmt: skip
    found = solve(smaller, BASES[given.base])
    problem.forwards += smaller.forwards
    problem.at(number + 1, given.resamples + 1)
    if found.stopped == "stopped":
        raise Stopped
    return found.best.mask


def _combined(found: list[Mask], at_least: int | None) -> Iterator[Mask]:
    """Every different combination, the smallest first."""
    seen = set()
    for count in range(len(found), 0, -1) if at_least is None else (at_least,):
        mask = vote(found, count)
        places = frozenset((one.matrix, one.index) for one in mask.removed)
        if places not in seen:
            seen.add(places)
            yield mask
