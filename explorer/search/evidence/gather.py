"""All evidence for a mask, in one go: what was asked for is measured, and a sentence says what it licenses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from explorer.core.errors import TaskError
from explorer.core.executor import Executor
from explorer.core.progress import Progress, part
from explorer.masks.apply import apply
from explorer.masks.damage import TextDamageFigures, damage
from explorer.measure.clustered import Array, clustered_interval
from explorer.measure.evaluate import Comparison, evaluate
from explorer.measure.figures import ComparisonFigures, Figures
from explorer.measure.perplexity import CODE, TOKENS, read_text, tokens_of
from explorer.search.evidence.choice import EvidenceChoice
from explorer.search.evidence.claim import Claim
from explorer.search.evidence.figures import (
    OF_ACCURACY,
    OF_CHANGE,
    AbilityFigures,
    ClusteredFigures,
    EvidenceFigures,
    MinimalityFigures,
    RivalFigures,
    StabilityFigures,
    SubsetFigures,
    WordingFigures,
)
from explorer.search.evidence.members import minimality, subsets
from explorer.search.evidence.repeats import stability
from explorer.search.evidence.rivals import SHOTS, rivals
from explorer.tasks import Wording


@dataclass(frozen=True)
class _Parts:
    """What is measured only where the parts of a mask are asked for."""

    wordings: tuple[WordingFigures, ...] = ()
    code: TextDamageFigures | None = None
    members: MinimalityFigures | None = None
    subsets: tuple[SubsetFigures, ...] = ()


def gather(
    claim: Claim, choice: EvidenceChoice, executor: Executor, *, draws: str = "", progress: Progress | None = None
) -> EvidenceFigures:
    """Measure what is asked for; the view is left unpruned.

    Args:
        claim: the mask.
        choice: what is asked for.
        executor: who measures masks that need no search and no training.
        draws: how often random controls were drawn, in a sentence.
        progress: told (done, total); may raise `Stopped`. What was measured until then is in the journal.
    """
    _ = claim.text_before
    found = rivals(claim, choice, part(progress, 0.0, 0.5))
    parts = _parts(claim, executor, part(progress, 0.5, 0.7)) if choice.parts else _Parts()
    stable = stability(claim, choice.repeats, part(progress, 0.7, 1.0)) if choice.repeats > 1 else None
    return figures_of(claim, found, parts, stable=stable, draws=draws)


def figures_of(
    claim: Claim,
    found: dict[str, RivalFigures],
    parts: _Parts | None = None,
    *,
    stable: StabilityFigures | None = None,
    draws: str = "",
) -> EvidenceFigures:
    """What was measured, with clustered figures of the new examples; the sentence is still to be said."""
    measured = parts or _Parts()
    clusters = [claim.clusters[place] for place in claim.places]
    masked, baseline = (
        [float(one.correct[place]) for place in claim.places]
        for one in (claim.comparison.masked, claim.comparison.baseline)
    )
    losses = [claim.comparison.masked.loss[place] - claim.comparison.baseline.loss[place] for place in claim.places]
    return EvidenceFigures(
        new=len(claim.new), masked=ClusteredFigures.of(masked, clusters, OF_ACCURACY),
        baseline=ClusteredFigures.of(baseline, clusters, OF_ACCURACY),
        change=ClusteredFigures.of([a - b for a, b in zip(masked, baseline, strict=True)], clusters, OF_CHANGE),
        loss_change=ClusteredFigures.of(losses, clusters), rivals=found,
        ability=_ability(claim, found, masked, zero=baseline), wordings=measured.wordings, code=measured.code,
        members=measured.members, subsets=measured.subsets, stability=stable, draws=draws,
    )  # fmt: skip


def _parts(claim: Claim, executor: Executor, progress: Progress | None) -> _Parts:
    bar = part(progress, 0.2, 0.8)
    members = claim.remembered(
        "members", MinimalityFigures, None, compute=lambda: minimality(claim, executor, bar)
    )  # fmt: skip
    found = _Parts(
        wordings=tuple(wording(claim, one) for one in claim.task.unseen), code=_code(claim),
        members=members, subsets=subsets(claim, executor, part(progress, 0.8, 1.0)),
    )  # fmt: skip
    claim.unprune()
    return found


def wording(claim: Claim, asked: Wording) -> WordingFigures:
    """The mask and the unpruned model on the test cases in another wording."""
    task = replace(claim.task, test=asked.examples, template=asked.template)
    found = []
    for mask in (claim.mask, claim.mask.without_all()):
        apply(claim.view, mask, claim.problem.svds)
        found.append(evaluate(claim.view, task, "test", limit=claim.limit))
    compared = Comparison(*found)
    changes = [float(a) - float(b) for a, b in zip(found[0].correct, found[1].correct, strict=True)]
    return WordingFigures(
        template=asked.template, masked=Figures.of(found[0]), baseline=Figures.of(found[1]),
        comparison=ComparisonFigures.of(compared),
        change=ClusteredFigures.of(changes, [one.case.twins for one in found[0].examples], OF_CHANGE),
    )  # fmt: skip


def _code(claim: Claim) -> TextDamageFigures | None:
    """Damage on program text; None for a model that does not read it."""
    text = read_text(CODE)
    try:
        tokens_of(claim.view.model.tokenizer, text, TOKENS)
    except TaskError:
        return None
    return damage(claim.view, claim.mask, claim.problem.svds, text=text).figures.text


def _ability(
    claim: Claim, found: dict[str, RivalFigures], masked: Sequence[float], zero: Sequence[float]
) -> AbilityFigures | None:
    """How much of what shots show the mask gives; None without shots."""
    names = [f"shots-{count}" for count in SHOTS if found.get(f"shots-{count}") and found[f"shots-{count}"].hits]
    if not names:
        return None
    clusters = [claim.clusters[place] for place in claim.places]
    shots = [[found[name].hits[place] for place in claim.places] for name in names]
    columns = [list(masked), list(zero), *shots]
    a, z, *k = (float(np.mean(one)) for one in columns)
    best = max(k)

    def gap(means: Array) -> Array:
        return np.asarray(means[:, 2:].max(axis=1) - means[:, 1])

    def recovered(means: Array) -> Array:
        return np.asarray((means[:, 0] - means[:, 1]) / gap(means))

    of_best = shots[k.index(best)]
    interval = clustered_interval(columns, clusters, gap)
    figures = ClusteredFigures.of([s - b for s, b in zip(of_best, zero, strict=True)], clusters)
    shown = interval[0] > 0  # shots that do no better show no ability
    return AbilityFigures(
        n=len(clusters), clusters=len(set(clusters)), zero=z, masked=a, shots=best,
        gap=replace(figures, interval=interval), recovered=(a - z) / (best - z) if shown else None,
        interval=clustered_interval(columns, clusters, recovered) if shown else None,
    )  # fmt: skip
