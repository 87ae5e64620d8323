"""The table of nulls and baselines: what a mask is compared with that is no mask of its size.

| name | in reports | what it is |
|---|---|---|
| `shuffled` | `searched-shuffled` | the same search with the right answers permuted |
| `rotated` | `searched-rotated` | the same search in random bases |
| `mean-only` | `mean-only` | the mask's frozen means in the biases, nothing removed |
| `bias-only`, `lora-1`, `scaling` | the same | trained with the same examples, steps and text |
| `shots` | `shots-3`, `shots-5` | solved examples in front, the unpruned model |
| `chat` | `chat` | the chat template, the unpruned model |

What cannot be measured says why: a search is not lost because its model has no chat template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from explorer.core.errors import ExplorerError
from explorer.core.progress import Progress, part
from explorer.search.evidence.choice import BASELINE_NAMES, EvidenceChoice
from explorer.search.evidence.claim import Claim
from explorer.search.evidence.figures import OF_CHANGE, ClusteredFigures, RivalFigures
from explorer.search.evidence.means import mean_only
from explorer.search.evidence.prompts import chat, shots
from explorer.search.evidence.searched import searched_rotated, searched_shuffled
from explorer.search.evidence.trained import bias_only, lora_1, scaling

Rival = Callable[[Claim, Progress | None], RivalFigures]
SHOTS = (3, 5)
NULLS: dict[str, Mapping[str, Rival]] = {
    "shuffled": {"searched-shuffled": searched_shuffled},
    "rotated": {"searched-rotated": searched_rotated},
    "mean-only": {"mean-only": mean_only},
}
BASELINES: dict[str, Mapping[str, Rival]] = {
    "bias-only": {"bias-only": bias_only},
    "lora-1": {"lora-1": lora_1},
    "scaling": {"scaling": scaling},
    "shots": {f"shots-{count}": partial(shots, count=count) for count in SHOTS},
    "chat": {"chat": chat},
}


def rivals(claim: Claim, choice: EvidenceChoice, progress: Progress | None = None) -> dict[str, RivalFigures]:
    """The nulls and baselines that are asked for, by their names in reports; each is kept once it is measured."""
    asked = {
        name: (rival, "baseline" if one in BASELINE_NAMES else "null")
        for one in (*choice.nulls, *choice.baselines)
        for name, rival in {**NULLS, **BASELINES}[one].items()
    }
    found = {}
    for number, (name, (rival, role)) in enumerate(asked.items()):
        bar = part(progress, number / len(asked), (number + 1) / len(asked))
        figures = claim.remembered(
            name, RivalFigures, role, compute=partial(_measured, claim, rival, role, progress=bar)
        )
        found[name] = replace(figures, lead=_lead(claim, figures))
        if bar is not None:
            bar(1, 1)
    return found


def _measured(claim: Claim, rival: Rival, role: str, progress: Progress | None) -> RivalFigures:
    try:
        return rival(claim, progress)
    except ExplorerError as error:
        return RivalFigures(role="null" if role == "null" else "baseline", why=str(error))
    finally:
        claim.unprune()


def _lead(claim: Claim, rival: RivalFigures) -> ClusteredFigures | None:
    """The mask's accuracy less the rival's, on the new examples."""
    if not rival.hits:
        return None
    mask = claim.comparison.masked.correct
    return ClusteredFigures.of(
        [float(mask[place]) - rival.hits[place] for place in claim.places],
        [claim.clusters[place] for place in claim.places],
        OF_CHANGE,
    )
