"""How stable a mask is: the same search with other seeds, on other cuts of its examples into train and validation.

The test split stays what it is: no search reads it. Its other examples are shuffled, cluster by cluster, and cut into
train and validation parts of the sizes that they had; twins stay together.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean

from explorer.core.progress import Progress, part
from explorer.masks.apply import apply
from explorer.masks.mask import Mask
from explorer.masks.sets import MaskOverlap, overlaps, vote
from explorer.measure.evaluate import Evaluation
from explorer.measure.figures import Figures
from explorer.search.evidence.claim import Claim
from explorer.search.evidence.figures import ChosenValue, StabilityFigures
from explorer.search.evidence.searched import again
from explorer.tasks import Example, Task


def stability(claim: Claim, repeats: int, progress: Progress | None = None) -> StabilityFigures:
    """Search `repeats` times in all, the claim's own search among them."""
    masks = [claim.mask]
    problem = claim.problem
    for number in range(1, repeats):
        bar = part(progress, (number - 1) / repeats, number / repeats)
        task, seed = recut(problem.task, problem.seed + number), problem.seed + number
        found = again(claim, f"repeat {number}", problem.svds, task=task, seed=seed, progress=bar)
        masks.append(found.reported.mask)
    tests = [claim.comparison.masked, *(_test(claim, mask) for mask in masks[1:])]
    core, majority = vote(masks, repeats), vote(masks, (repeats + 1) // 2)
    figures = StabilityFigures(
        removed=tuple(map(len, masks)), chosen=_chosen(masks), overlap=overlap(masks),
        accuracy=tuple(one.accuracy for one in tests), core=len(core),
        core_test=Figures.of(_test(claim, core)) if len(core) else None, majority=len(majority),
        majority_test=Figures.of(_test(claim, majority)) if len(majority) else None,
    )  # fmt: skip
    claim.unprune()
    return figures


def recut(task: Task, seed: int) -> Task:
    """The task with its train and validation examples cut anew by seed, as many in each; twins stay together."""
    clusters: dict[str, list[Example]] = {}
    for one in (*task.train, *task.validation):
        clusters.setdefault(one.case.twins, []).append(one)
    groups = list(clusters.values())
    random.Random(f"recut {seed}").shuffle(groups)
    validation: list[Example] = []
    train: list[Example] = []
    for group in groups:
        fits = len(validation) + len(group) <= max(len(task.validation), len(group) if not validation else 0)
        (validation if fits else train).extend(group)
    for examples in (train, validation):
        random.Random(f"recut {seed}").shuffle(examples)
    return replace(task, train=tuple(train), validation=tuple(validation))


def overlap(masks: Sequence[Mask]) -> float:
    """Mean over pairs of masks of the values that both remove, by those that any of the two removes (Jaccard)."""
    pairs = combinations(masks, 2)
    return fmean(sum(overlaps(a, b).values(), MaskOverlap(0, 0, 0)).jaccard for a, b in pairs)


def _chosen(masks: Sequence[Mask]) -> tuple[ChosenValue, ...]:
    times = Counter((one.key, one.index) for mask in masks for one in mask.removed)
    ranked = sorted(times.items(), key=lambda item: (-item[1], item[0]))
    return tuple(ChosenValue(matrix=str(key), index=index, times=count) for (key, index), count in ranked)


def _test(claim: Claim, mask: Mask) -> Evaluation:
    apply(claim.view, mask, claim.problem.svds)
    return claim.test()
