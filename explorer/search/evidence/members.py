"""What a mask's members do for it: each restored alone, and random subsets restored together.

A member is necessary if the loss rises beyond chance once it is restored and all others stay removed: a one-sided t
test on the paired changes, clustered, with Holm's correction for the members that were measured. If there is no time
for all of them, they are a random sample.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import replace

from explorer.core.executor import Executor
from explorer.core.progress import Progress, part
from explorer.masks.mask import Mask, Removed
from explorer.measure.evaluate import Evaluation
from explorer.measure.multiple import holm_adjusted
from explorer.search.evidence.claim import Claim
from explorer.search.evidence.figures import ClusteredFigures, MemberFigures, MinimalityFigures, SubsetFigures
from explorer.search.mask_cells import measured_masks

LEVEL = 0.05
EXAMPLES = 200  # of the test split, at most
SECONDS = 300.0  # that restoring single members may take
TIMED = 4  # of them tell how long one takes
SHARES, DRAWS = (0.25, 0.5, 0.75), 5


def minimality(claim: Claim, executor: Executor, progress: Progress | None = None) -> MinimalityFigures:
    """Restore every member alone, or as many as there is time for."""
    order = list(claim.mask.removed)
    random.Random(claim.problem.seed).shuffle(order)
    begun = time.monotonic()
    (masked, *found) = _measured(claim, executor, [claim.mask, *(_without(claim.mask, one) for one in order[:TIMED])])
    each = (time.monotonic() - begun) / (1 + len(found))
    count = min(len(order), TIMED + int(SECONDS / max(each, 1e-9)))
    rest = [_without(claim.mask, one) for one in order[TIMED:count]]
    found += _measured(claim, executor, rest, progress=part(progress, 0.05, 1.0)) if rest else []
    measured = [_member(claim, one, after, masked=masked) for one, after in zip(order, found, strict=False)]
    necessary = holm([p for _, p in measured])
    figures = [replace(one, necessary=needed) for (one, _), needed in zip(measured, necessary, strict=True)]
    figures.sort(key=lambda one: (-one.loss.value if math.isfinite(one.loss.value) else math.inf, one.matrix))
    return MinimalityFigures(members=len(order), n=masked.n, measured=tuple(figures))


def subsets(claim: Claim, executor: Executor, progress: Progress | None = None) -> tuple[SubsetFigures, ...]:
    """Random subsets of the mask, of several sizes between nothing and all of it."""
    removed = claim.mask.removed
    counts = sorted({round(share * len(removed)) for share in SHARES} - {0, len(removed)})
    generator = random.Random(claim.problem.seed)
    masks = [
        (count, claim.mask.without_all().with_removed(generator.sample(removed, count)))
        for count in counts
        for _ in range(DRAWS)
    ]
    if not masks:
        return ()
    found = _measured(claim, executor, [mask for _, mask in masks], progress=progress)
    of = [(count, evaluation) for (count, _), evaluation in zip(masks, found, strict=True)]
    return tuple(
        SubsetFigures(
            kept=count, n=found[0].n, accuracy=tuple(one.accuracy for size, one in of if size == count),
            loss=tuple(one.mean_loss.value for size, one in of if size == count),
        )
        for count in counts
    )  # fmt: skip


def holm(p: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which of several hypotheses are rejected at a level that holds for all of them together (Holm 1979)."""
    return [one <= level for one in holm_adjusted(p)]


def _without(mask: Mask, member: Removed) -> Mask:
    return mask.without({(member.matrix, member.index)})


def _measured(
    claim: Claim, executor: Executor, masks: Sequence[Mask], progress: Progress | None = None
) -> list[Evaluation]:
    limit = min(len(claim.examples), EXAMPLES)
    return list(measured_masks(executor, claim.task, masks, split="test", limit=limit, suffix=True, progress=progress))


def _member(claim: Claim, member: Removed, after: Evaluation, masked: Evaluation) -> tuple[MemberFigures, float]:
    """What restoring it changes, and the one-sided p-value of the rise of the loss."""
    changes = [now - then for now, then in zip(after.loss, masked.loss, strict=True)]
    loss = ClusteredFigures.of(changes, claim.clusters[: after.n])
    figures = MemberFigures(
        matrix=member.matrix, index=member.index, loss=loss, accuracy=after.accuracy - masked.accuracy, necessary=False
    )
    return figures, _p(loss)


def _p(change: ClusteredFigures) -> float:
    if not (math.isfinite(change.value) and math.isfinite(change.stderr)) or change.value <= 0:
        return 1.0
    if change.stderr == 0:
        return 0.0
    from scipy.stats import t  # slow to import

    return float(t.sf(change.value / change.stderr, change.clusters - 1))
