"""Nulls that are searches: what the same search finds where the answers, or the singular bases, say nothing.

- `shuffled`: the right answers are permuted among the train and validation examples. Its mask is measured on the true
  test split: a gain there is one of form (answers of that kind become likelier), or of chance.
- `rotated`: every matrix is taken apart in a random orthogonal basis (`explorer.spectra.rotated`). A mask that does as
  well shows that the singular directions are nothing special at this number of values. A part in a random basis is a
  smaller step than a singular value, and a search takes many small steps more easily than few large ones: beside the
  number of values stands the size of the change, and a search with fewer values tells more than one with many.

Both have the search's own strategy, budget, seed and examples.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import replace

from explorer.core.errors import SettingsError, Stopped
from explorer.core.progress import Progress
from explorer.masks.apply import apply
from explorer.masks.mask import Mask
from explorer.measure.evaluate import evaluate
from explorer.measure.figures import Figures
from explorer.search.evidence.claim import Claim, hits
from explorer.search.evidence.figures import OwnTaskFigures, RivalFigures
from explorer.search.outcome import Found
from explorer.search.problem import Problem, solve
from explorer.spectra.cache import SvdCache
from explorer.spectra.rotated import RotatedBases
from explorer.tasks import Example, Task


def searched_shuffled(claim: Claim, progress: Progress | None = None) -> RivalFigures:
    """The same search on permuted answers; its mask on the true test split."""
    problem = claim.problem
    task = shuffled(problem.task, problem.seed)
    found = again(claim, "shuffled search", problem.svds, task=task, progress=progress)
    return _figures(claim, found, problem.svds, task=task)


def searched_rotated(claim: Claim, progress: Progress | None = None) -> RivalFigures:
    """The same search in random bases."""
    bases = RotatedBases(claim.problem.svds, claim.problem.seed)
    return _figures(claim, again(claim, "rotated search", bases, task=claim.problem.task, progress=progress), bases)


def again(
    claim: Claim, name: str, svds: SvdCache, *, task: Task, seed: int | None = None, progress: Progress | None = None
) -> Found:
    """The claim's search once more, recorded under a name; the view is left unpruned.

    Raises:
        SettingsError: the claim's mask comes from no search.
        Stopped: it was stopped.
    """
    problem = claim.problem
    if problem.decided is not None:
        raise SettingsError("No search has chosen this mask, so that there is none to run again.")
    posed = Problem(
        problem.view, task, svds, keys=problem.keys, budget=problem.budget, mode=problem.mode, scorer=problem.scorer,
        limit=problem.limit, seed=problem.seed if seed is None else seed, text=problem.text, compute=problem.compute,
        progress=progress, journal=claim.part(name),
    )  # fmt: skip
    found = solve(posed, claim.strategy)
    if found.stopped == "stopped":
        raise Stopped
    return found


def shuffled(task: Task, seed: int) -> Task:
    """The task with the right answers permuted, by seed, among its train and validation examples.

    Twins keep one answer. Open answers are permuted as texts. Where an example has choices, it is their place that is
    permuted, among the examples with as many: each answer stays one of its example's choices.
    """
    examples = [*task.train, *task.validation]
    groups: dict[int, dict[tuple[str, str], list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, one in enumerate(examples):
        groups[len(one.choices)][one.case.twins, one.answer].append(place)
    made = list(examples)
    for clusters in groups.values():
        places = list(clusters.values())
        order = random.Random(f"{seed} {len(places)}").sample(places, len(places))
        for own, source in zip(places, order, strict=True):
            for place in own:
                made[place] = _answered_as(examples[place], examples[source[0]])
    count = len(task.train)
    return replace(task, train=tuple(made[:count]), validation=tuple(made[count:]))


def _answered_as(example: Example, other: Example) -> Example:
    """An example with the answer of another one, or the choice at the same place."""
    answer = example.choices[other.choices.index(other.answer)] if example.choices else other.answer
    distractor = None if example.distractor == answer else example.distractor
    return replace(example, answer=answer, distractor=distractor, origin=example.case)


def _figures(claim: Claim, found: Found, svds: SvdCache, *, task: Task | None = None) -> RivalFigures:
    """The mask of a search on the true test split; and on the validation split of its own task, if that is another."""
    mask, view = found.reported.mask, claim.view
    before = claim.text_before
    try:
        apply(view, mask, svds)
        test = claim.test()
        growth = None if before is None else claim.growth()
        own = None
        if task is not None:
            own = OwnTaskFigures(
                baseline=Figures.of(found.curve[0].validation), masked=Figures.of(evaluate(view, task, "validation"))
            )
    finally:
        apply(view, mask.without_all(), svds)
    stopped = " Its time was up." if found.stopped == "time" else ""
    change, own_change = change_of(mask), change_of(claim.mask)
    size = f" Its change of the weights has the norm {change:.3g}, the mask's {own_change:.3g}."
    return RivalFigures(
        role="null", accuracy=(test.accuracy,), loss=(test.mean_loss.value,), hits=hits((test,)), growth=growth,
        numbers=len(mask), change=change, own=own, note=f"{len(found.curve):,} masks measured.{size}{stopped}",
    )  # fmt: skip


def change_of(mask: Mask) -> float:
    """Frobenius norm of what a mask takes from the weights: sqrt(sum of (1 - gain)^2 s_i^2).

    The parts of a matrix are orthogonal to each other, in a random basis as well, since their left sides are.
    """
    return (1 - mask.gain) * math.sqrt(math.fsum(one.sigma**2 for one in mask.removed))
