"""What a result licenses, in one sentence that its figures make: the first rule that holds decides.

1. Nothing is removed, no test example is new, or the accuracy on new examples does not rise beyond its interval: no
   claim.
2. Where there are choices, the accuracy is not above guessing: no claim of an ability.
3. A search on permuted answers or the frozen means alone do as well: no claim of the task, or of removal.
4. Else the mask "takes away something that keeps the model from" the task. That singular directions matter is left out
   where a search in random bases does as well. That the ability was there before is added only where
   shots show it, and that it is more than one wording only where other wordings show it; baselines that do as well are
   named, and so is everything that was not measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from explorer.masks.damage import TextDamageFigures
from explorer.measure.figures import Figures
from explorer.search.evidence.choice import NULL_NAMES
from explorer.search.evidence.figures import ClusteredFigures, EvidenceFigures, RivalFigures

SAID = {
    "searched-shuffled": "the same search on permuted answers does as well, so that the gain is not the task's",
    "mean-only": "the frozen means alone do as well, so that the gain is not one of removal",
}
IN_REPORTS = {"shuffled": "searched-shuffled", "rotated": "searched-rotated", "mean-only": "mean-only"}
TRAINED = ("bias-only", "lora-1", "scaling")


@dataclass(frozen=True)
class Facts:
    """What a sentence is made of.

    Attributes:
        task: its name.
        removed: number of removed values.
        test: the mask on all test examples.
        evidence: what was measured beside.
        text: what the mask does to plain text; None if that is not known.
        controls: whether random masks of its size were measured.
    """

    task: str
    removed: int
    test: Figures
    evidence: EvidenceFigures
    text: TextDamageFigures | None = None
    controls: bool = True


def licensed(facts: Facts) -> str:
    """The sentence."""
    if (reason := _no_claim(facts)) is not None:
        return f"This licenses no claim: {reason}."
    evidence = facts.evidence
    values = "one value" if facts.removed == 1 else f"{facts.removed:,} values"
    claim = (
        f"Removing {values} takes away something that keeps the model from {facts.task}: "
        f"{_percent(evidence.baseline.value)} to {_percent(evidence.masked.value)} on {evidence.new:,} new examples, "
        f"{_points(evidence.change)}"
    )
    return "; ".join([claim, *_additions(facts)]) + "."


def _no_claim(facts: Facts) -> str | None:
    """Why nothing may be claimed; None if something may."""
    evidence = facts.evidence
    if not facts.removed:
        return "nothing is removed"
    if not evidence.new:
        return "no test example is new to the search, which has read all of them or their twins"
    if not evidence.change.above:
        likelier = ", though right answers become likelier" if evidence.loss_change.below else ""
        return (
            f"on {evidence.new:,} new examples the accuracy changes by {_points(evidence.change)}, which may be "
            f"chance{likelier}"
        )
    guessing = facts.test.guessing
    if guessing is not None and facts.test.metric != "exact" and facts.test.accuracy_interval[0] <= guessing:
        return f"{_percent(facts.test.accuracy)} is not above guessing among the choices, {_percent(guessing)}"
    equal = [name for name in SAID if (one := evidence.rivals.get(name)) and _does_as_well(one)]
    return " and ".join(f"{SAID[name]} ({_percent(evidence.rivals[name].median)})" for name in equal) or None


def _additions(facts: Facts) -> Iterator[str]:
    """What is added to a claim: each as a clause."""
    evidence = facts.evidence
    ability = evidence.ability
    if ability is None:
        yield "whether the ability was there before is open, as no shots were measured"
    elif ability.recovered is None or ability.interval is None:
        yield "whether the ability was there before is open, as shots do no better than none beyond chance"
    else:
        low, high = (100 * bound for bound in ability.interval)
        yield (
            f"that is {100 * ability.recovered:.0f} % [{low:.0f}, {high:.0f}] of what shots show that it can "
            f"({_percent(ability.shots)})"
        )
    rotated = evidence.rivals.get("searched-rotated")
    if rotated is not None and _does_as_well(rotated):
        yield (
            "singular directions are nothing special at this number of values, as the same search in random bases "
            f"gives {_percent(rotated.median)}"
        )
    better = [name for name in TRAINED if (one := evidence.rivals.get(name)) and one.lead and one.lead.below]
    level = [name for name in TRAINED if name not in better and (one := evidence.rivals.get(name)) and _ties(one)]
    if better:
        yield f"{_listed(better)} of as many numbers {'does' if len(better) == 1 else 'do'} better"
    if level:
        yield f"{_listed(level)} of as many numbers cannot be told from it"
    if evidence.wordings:
        helped, total = sum(one.change.above for one in evidence.wordings), len(evidence.wordings)
        if helped:
            rest = "" if helped == total else ", and not in the rest"
            yield f"it helps in {helped} of {total} wordings that were never searched with{rest}"
        else:
            yield f"it teaches the model nothing in {total} other wordings, which were never searched with"
    if facts.text is not None and math.isfinite(facts.text.growth.value):
        yield f"at {100 * facts.text.growth.value:+.1f} % perplexity of plain text"
    if evidence.stability is not None:
        yield f"{evidence.stability.repeats} searches agree on {evidence.stability.core:,} of its values"
    if missing := [*([] if facts.controls else ["random masks"]), *_missing(evidence)]:
        yield f"not measured: {', '.join(missing)}"


def _missing(evidence: EvidenceFigures) -> Iterator[str]:
    for name in NULL_NAMES:
        one = evidence.rivals.get(IN_REPORTS[name])
        if one is None or one.why:
            yield IN_REPORTS[name]
    for name in TRAINED:
        if name not in evidence.rivals or evidence.rivals[name].why:
            yield name
    if evidence.members is None:
        yield "its single members"
    if evidence.stability is None:
        yield "other seeds and splits"


def _does_as_well(rival: RivalFigures) -> bool:
    """Whether the mask is not better than it beyond chance."""
    return rival.lead is not None and not rival.lead.above


def _ties(rival: RivalFigures) -> bool:
    return rival.lead is not None and not rival.lead.above and not rival.lead.below


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(change: ClusteredFigures) -> str:
    low, high = (f"{100 * bound:+.1f}" for bound in change.interval)
    return f"{100 * change.value:+.1f} points [{low}, {high}]"
