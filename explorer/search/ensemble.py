"""Values on which several searches agree: over halves of the train examples, over seeds, or over tasks.

1. A base strategy searches several times. Over `splits` (the default) the train examples are cut into two halves, by
   seeds derived from the problem's, and each search has one half as its train split and the other as its validation
   split. Over `seeds` all have the problem's own splits and the seeds from its own on, which matters to strategies and
   scorers that draw at random. Over tasks the first search is about the problem's task, and each other one about
   another of the same model; what those have in common with the problem's test examples is up to who names them.
2. Combine the masks found: for every k the values that at least k of them remove, from all of them (the intersection)
   to one (the union).
3. Measure each combination within the budget on the problem's validation split, which no search over halves has seen,
   with frozen means over all train examples. The lowest validation loss wins, as always.

A value that was chosen for the sake of a few examples is chosen by few of the searches (stability selection,
Meinshausen and Buehlmann 2010).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from explorer.attribution import Scores
from explorer.core.errors import SettingsError, Stopped, TaskError
from explorer.core.keys import MatrixKey
from explorer.core.progress import part
from explorer.masks.mask import Mask
from explorer.masks.sets import vote
from explorer.search.adaptive import adaptive
from explorer.search.laser import laser
from explorer.search.learned import learned
from explorer.search.paper import paper
from explorer.search.problem import Problem, Search, solve
from explorer.search.stepwise import stepwise
from explorer.search.thorough import thorough
from explorer.search.verified import verified
from explorer.tasks import Example, Task

BASES: dict[str, Search] = {
    "paper": paper,
    "adaptive": adaptive,
    "verified": verified,
    "stepwise": stepwise,
    "learned": learned,
    "thorough": thorough,
    "laser": laser,
}
Over = Literal["splits", "seeds"]
Halves = tuple[tuple[Example, ...], tuple[Example, ...]]


@dataclass(frozen=True)
class EnsembleSettings:
    """Settings of the `ensemble` strategy.

    Attributes:
        base: name of the strategy whose masks are combined.
        resamples: how many pairs of halves, or seeds, it searches with.
        at_least: how many of the masks must remove a value (1 for the union, all for the intersection); None to
            measure every number.
        over: what the searches differ in, if there are no `tasks`.
        tasks: other tasks, one more search for each; their test splits are not used.

    Raises:
        SettingsError: no such strategy, fewer than 2 searches, or more masks asked for than there are.
    """

    base: str = "paper"
    resamples: int = 5
    at_least: int | None = None
    over: Over = "splits"
    tasks: tuple[Task, ...] = ()

    def __post_init__(self) -> None:
        if self.base not in BASES:
            raise SettingsError(f"{self.base!r} cannot be combined: choose one of {', '.join(BASES)}.")
        if self.resamples < 2:
            raise SettingsError(f"{self.resamples} resamples leave nothing to combine: give 2 or more.")
        if self.at_least is not None and not 1 <= self.at_least <= self.members:
            raise SettingsError(f"{self.at_least} of {self.members} masks: give a number from 1 to {self.members}.")

    @property
    def members(self) -> int:
        """How many searches there are."""
        return 1 + len(self.tasks) if self.tasks else self.resamples


def ensemble(problem: Problem, settings: EnsembleSettings | None = None) -> None:
    """Search several times and measure what the masks found agree on; see the module docstring.

    Raises:
        TaskError: halves of fewer than two different train prompts.
    """
    given = settings or EnsembleSettings()
    found = [_member(problem, given, number) for number in range(given.members)]
    if not any(map(len, found)):
        return
    scores = problem.score()  # for the frozen means over all train examples
    for mask in _combined(found, given.at_least):
        if 0 < len(mask) <= problem.budget.removed:
            problem.measure(problem.mask(scores.removed(*value) for value in _usable(scores, mask)))


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
    """The mask that one of the searches finds, within an even share of the time that is left."""
    task, limit, seed = _asked(problem, given, number)
    budget, parts = problem.budget, given.members + 1  # the searches, and measuring the combinations
    if budget.seconds is not None:
        left = parts - number
        budget = replace(budget, seconds=max(0.0, budget.seconds - problem.seconds) / left)
    smaller = Problem(
        problem.view, task, problem.svds, keys=problem.keys, budget=budget,
        mode=problem.mode, scorer=problem.scorer, limit=limit, seed=seed, text=problem.text, compute=problem.compute,
        progress=part(problem.progress, number / parts, (number + 1) / parts),
        journal=None if problem.journal is None else problem.journal.part(str(number)),
    )  # fmt: skip
    found = solve(smaller, BASES[given.base])
    problem.forwards += smaller.forwards
    problem.at(number + 1, parts)
    if found.stopped == "stopped":
        raise Stopped
    return found.best.mask


def _asked(problem: Problem, given: EnsembleSettings, number: int) -> tuple[Task, int | None, int]:
    """Task, limit of its train examples, and seed of one of the searches."""
    if given.tasks:
        return (problem.task, *given.tasks)[number], problem.limit, problem.seed
    if given.over == "seeds":
        return problem.task, problem.limit, problem.seed + number
    train, validation = halves(problem.examples, problem.seed, number)
    return replace(problem.task, train=train, validation=validation), None, problem.seed


def _usable(scores: Scores, mask: Mask) -> list[tuple[MatrixKey, int]]:
    """The values of a mask whose numbers are finite on all train examples, too."""
    usable = {key: set(indices) for key, indices in scores.usable.items()}
    return [(one.key, one.index) for one in mask.removed if one.index in usable[one.key]]


def _combined(found: list[Mask], at_least: int | None) -> Iterator[Mask]:
    """Every different combination, the smallest first."""
    seen = set()
    for count in range(len(found), 0, -1) if at_least is None else (at_least,):
        mask = vote(found, count)
        places = frozenset((one.matrix, one.index) for one in mask.removed)
        if places not in seen:
            seen.add(places)
            yield mask
