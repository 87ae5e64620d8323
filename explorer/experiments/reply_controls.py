"""What random masks of the same size do to replies: the control of `generate`.

Any mask makes a long enough reply part from the unpruned one; how soon says something only beside chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import fmean, median

from explorer.core.progress import Progress, part, track
from explorer.core.records import Record
from explorer.core.texts import percent
from explorer.masks.apply import apply
from explorer.masks.mask import Mask
from explorer.masks.replies import ReplyPair
from explorer.measure.generation import Decoding, stream
from explorer.models import View
from explorer.search.controls import DEFAULT, beaten, draws, means_of
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task

DRAWS = 10
Heard = tuple[Sequence[int], ReplyPair]  # the tokens of a prompt, and what was said behind it


@dataclass(frozen=True)
class ReplyControls(Record):
    """Random masks, as many values in each matrix as the mask has, on the same prompts with the same decoding.

    Attributes:
        strategy: the control's name.
        seeds: one per draw.
        prompts: how many there are.
        parted, kept: of the mask: how many replies part, and the mean share of the unpruned reply's tokens that come
            before that, 1 where it does not part.
        drawn_parted, drawn_kept: the same of each draw.
        percentile: percent of the draws that keep less than the mask, ties counted half.
    """

    strategy: str
    seeds: tuple[int, ...]
    prompts: int
    parted: int
    kept: float
    drawn_parted: tuple[int, ...]
    drawn_kept: tuple[float, ...]
    percentile: float


def reply_controls(
    view: View,
    mask: Mask,
    svds: SvdCache,
    *,
    task: Task,
    heard: Sequence[Heard],
    decoding: Decoding,
    count: int = DRAWS,
    progress: Progress | None = None,
) -> ReplyControls:
    """Let the model speak under random masks of a mask's size.

    Args:
        view: is left with the last of them on it.
        mask: what they are as large and as soft as.
        svds: decompositions.
        task: whose train examples give their frozen means, as many as the mask's own.
        heard: what the unpruned model and the mask have said.
        decoding: how tokens are taken.
        count: how many masks; draw i uses the task's seed + i.
        progress: told (done, total).

    Raises:
        TaskError, MatrixError, ModelError: the examples, a matrix or its weights cannot be used.
    """
    scores = means_of(view, task, svds, mask=mask, progress=part(progress, 0.0, 0.2))
    seeds = tuple(range(task.seed, task.seed + count))
    shares: list[list[float]] = []
    for drawn in track(draws(scores, mask, DEFAULT, seeds=seeds), part(progress, 0.2, 1.0)):
        apply(view, drawn, svds)
        shares.append([_kept(view, prompt, pair, decoding=decoding) for prompt, pair in heard])
    own = [_share(pair.same, pair) for _, pair in heard]
    kept = tuple(map(fmean, shares))
    return ReplyControls(
        DEFAULT, seeds, len(heard), parted=sum(pair.parting is not None for _, pair in heard), kept=fmean(own),
        drawn_parted=tuple(sum(one < 1 for one in row) for row in shares), drawn_kept=kept,
        percentile=beaten(fmean(own), kept),
    )  # fmt: skip


def _kept(view: View, prompt: Sequence[int], pair: ReplyPair, *, decoding: Decoding) -> float:
    """The share of the unpruned reply that the view says, too; it need not go on behind where they part."""
    pairs = zip(stream(view, prompt, decoding), pair.baseline.tokens, strict=False)
    return _share(sum(1 for _ in takewhile(lambda one: one[0].id == one[1].id, pairs)), pair)


def _share(same: int, pair: ReplyPair) -> float:
    tokens = len(pair.baseline.tokens)
    return same / tokens if tokens else 1.0


def controls_sentence(found: ReplyControls) -> str:
    """The mask beside chance."""
    low, high = min(found.drawn_kept), max(found.drawn_kept)
    return (
        f"With the mask {found.parted:,} of {found.prompts:,} replies part, and {percent(found.kept)} of the unpruned "
        f"tokens come before that; with {len(found.seeds):,} random masks of the same size ({found.strategy}) "
        f"{median(found.drawn_parted):g} in the median, and {percent(median(found.drawn_kept))} ({percent(low)} to "
        f"{percent(high)}). It keeps more than {found.percentile:.0f} % of them."
    )
