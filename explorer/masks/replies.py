"""What a model says with a mask and without it, side by side: where the two part, and what each thinks of the other.

Both read the same prompt. Tokens that are drawn are drawn with the same seed, so that two sides with the same
distributions say the same, and a mask that changes little changes few tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from statistics import median
from typing import Literal

from explorer.core.columns import Column
from explorer.core.errors import Stopped
from explorer.core.progress import Progress
from explorer.core.records import Record
from explorer.core.texts import accuracy_text, percent
from explorer.masks.apply import apply
from explorer.masks.mask import Mask
from explorer.measure.generation import GREEDY, Decoding, Ending, SaidToken, ending, logprobs, prompt_ids, stream
from explorer.measure.metrics import wilson_interval
from explorer.measure.tokens import decoded, token_texts
from explorer.models import View
from explorer.spectra.cache import SvdCache
from explorer.tasks import AS_USUAL, Example, Framing

Verdict = Literal["same", "parted", "same so far"]


@dataclass(frozen=True)
class ReplyToken(Record):
    """One token of a reply.

    Attributes:
        id: in the tokenizer's vocabulary.
        text: the token on its own.
        probability: of the side that said it, by its own distribution, whatever the token was drawn by.
        elsewhere: the other side's probability of it behind the same words; null where there is no other side, and
            while it is not known yet.
    """

    id: int
    text: str
    probability: float
    elsewhere: float | None


@dataclass(frozen=True)
class Reply(Record):
    """What one side said.

    Attributes:
        text: the reply without its end token.
        ended: why it ended: with an end token, by its `length`, because the model reads no more (`context`), because
            its logits were `not finite`, or because it was `stopped`; null while it goes on.
        loss, loss_elsewhere: minus the mean log-probability of its tokens, nats per token, by the side that said it
            and by the other one; null without tokens, and where they are not known.
        tokens: one by one.
    """

    text: str
    ended: Ending | None
    loss: float | None
    loss_elsewhere: float | None
    tokens: tuple[ReplyToken, ...]


@dataclass(frozen=True)
class Parting(Record):
    """The first token that differs: what each side says there; `elsewhere` is what the other gives to that."""

    at: int
    baseline: ReplyToken
    masked: ReplyToken


@dataclass(frozen=True)
class ReplyPair(Record):
    """Both replies to one prompt.

    Attributes:
        prompt: as it was given.
        read: how many tokens the model read.
        same: how many tokens are the same before the two part, or end.
        parting: null where they do not part.
        baseline, masked: of the unpruned model, and with the mask; null without one.
    """

    prompt: str
    read: int
    same: int
    parting: Parting | None
    baseline: Reply
    masked: Reply | None

    @property
    def verdict(self) -> Verdict:
        """Whether the replies part; those that were stopped have not parted so far."""
        if self.parting is not None:
            return "parted"
        whole = all(one is None or one.ended not in (None, "stopped") for one in (self.baseline, self.masked))
        return "same" if whole else "same so far"


@dataclass
class _Side:
    """One side while it speaks."""

    view: View
    tokens: Iterator[SaidToken]
    said: list[SaidToken] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    elsewhere: list[float] = field(default_factory=list)
    ended: Ending | None = None

    @property
    def ids(self) -> list[int]:
        return [one.id for one in self.said]

    def speak(self) -> bool:
        """Say a token; False if there is none."""
        said = next(self.tokens, None)
        if said is not None:
            self.said.append(said)
            self.texts += token_texts(self.view.model.tokenizer, [said.id])
        return said is not None

    def reply(self) -> Reply:
        """What it has said so far."""
        ids = self.ids
        known = [*self.elsewhere, *[None] * (len(ids) - len(self.elsewhere))]
        each = zip(self.said, self.texts, known, strict=True)
        return Reply(
            text=decoded(self.view.model.tokenizer, ids[:-1] if self.ended == "end token" else ids),
            ended=self.ended,
            loss=_loss([one.logprob for one in self.said]),
            loss_elsewhere=_loss(self.elsewhere) if len(self.elsewhere) == len(ids) else None,
            tokens=tuple(
                ReplyToken(one.id, text, math.exp(one.logprob), elsewhere=None if other is None else math.exp(other))
                for one, text, other in each
            ),
        )


def replies(
    views: tuple[View, View],
    mask: Mask,
    svds: SvdCache,
    prompts: Sequence[str | Example],
    framing: Framing = AS_USUAL,
    *,
    decoding: Decoding = GREEDY,
    progress: Progress | None = None,
    so_far: Callable[[tuple[ReplyPair, ...]], None] | None = None,
) -> tuple[ReplyPair, ...]:
    """Let a model answer prompts without a mask and with it, one prompt after the other, token by token in turn.

    Args:
        views: two views of the model: the first is left unpruned, the second with the mask on it. Without values to
            remove the first one speaks alone.
        mask: what the second side is under.
        svds: decompositions.
        prompts: texts, or examples whose prompts are asked behind what is shown before them.
        framing: what stands around them, such as a chat.
        decoding: how tokens are taken.
        progress: told (done, total) tokens. If it raises `Stopped`, what has been said is what there is.
        so_far: given what has been said, after each token.

    Raises:
        TaskError: a prompt that is empty, longer than the model reads, or cannot be put into the framing.
        MaskError, MatrixError: another model's mask, or values that the model does not have.
    """
    ids = [prompt_ids(views[0], one, framing) for one in prompts]
    sides: list[_Side] = []
    apply(views[0], mask.without_all(), svds)
    speaking: Sequence[View] = views[:1]
    if len(mask):
        apply(views[1], mask, svds)
        speaking = views
    done: list[ReplyPair] = []
    step, total = decoding.new_tokens * len(speaking), decoding.new_tokens * len(speaking) * len(prompts)
    try:
        for place, (prompt, read) in enumerate(zip(prompts, ids, strict=True)):
            text = prompt if isinstance(prompt, str) else prompt.prompt
            sides = [_Side(view, stream(view, read, decoding)) for view in speaking]
            done.append(_pair(text, read, sides))
            for count in _speak(sides, read, decoding):
                if so_far is not None:
                    so_far((*done[:-1], _pair(text, read, sides)))
                if progress is not None:
                    progress(place * step + count, total)
            _judge(sides, read)
            done[-1] = _pair(text, read, sides)
    except Stopped:
        for side in sides:
            side.ended = side.ended or "stopped"
        _judge(sides, read)
        done[-1] = _pair(text, read, sides)
    return tuple(done)


def _speak(sides: Sequence[_Side], prompt: Sequence[int], decoding: Decoding) -> Iterator[int]:
    """Let all sides say a token each, until all have ended; gives how many there are."""
    while going := [side for side in sides if side.ended is None]:
        for side in going:
            if not side.speak() or len(side.said) == decoding.new_tokens:
                side.ended = ending(side.view, prompt, side.ids, decoding=decoding)
        yield sum(len(side.said) for side in sides)


def _judge(sides: Sequence[_Side], prompt: Sequence[int]) -> None:
    """What each side thinks of the other's tokens: of those that they share it has said so itself."""
    if len(sides) < 2:
        return
    same = _same(sides)
    for side, other in (sides, sides[::-1]):
        shared = [one.logprob for one in other.said[:same]]
        rest = logprobs(other.view, [*prompt, *side.ids[:same]], side.ids[same:])
        side.elsewhere = [*shared, *rest]


def _same(sides: Sequence[_Side]) -> int:
    pairs = zip(*(side.ids for side in sides), strict=False)
    return sum(1 for _ in takewhile(lambda pair: len(set(pair)) == 1, pairs))


def _pair(prompt: str, read: Sequence[int], sides: Sequence[_Side]) -> ReplyPair:
    baseline, masked = sides[0].reply(), sides[1].reply() if len(sides) > 1 else None
    same = _same(sides)
    parting = None
    if masked is not None and same < min(len(baseline.tokens), len(masked.tokens)):
        parting = Parting(same, baseline.tokens[same], masked.tokens[same])
    return ReplyPair(prompt, len(read), same, parting=parting, baseline=baseline, masked=masked)


def _loss(logprobs: Sequence[float]) -> float | None:
    return -math.fsum(logprobs) / len(logprobs) if logprobs else None


# ---- in words


def parting_sentence(pair: ReplyPair) -> str:
    """Where two replies part and how probable either token is to either side, or that they are the same."""
    if pair.masked is None:
        return "There is no mask: the unpruned model speaks alone."
    if pair.parting is None:
        return f"The same {pair.same:,} tokens with the mask and without it{' so far' * (pair.verdict != 'same')}."
    one, other = pair.parting.baseline, pair.parting.masked
    return (
        f"They part at token {pair.parting.at + 1:,}: {one.text!r} unpruned ({percent(one.probability)}; with the mask "
        f"{_known(one.elsewhere)}), {other.text!r} with the mask ({percent(other.probability)}; unpruned "
        f"{_known(other.elsewhere)})."
    )


def summary_sentence(pairs: Sequence[ReplyPair]) -> str:
    """How many of some replies part, with an interval, and after how many tokens."""
    parted = [pair.same for pair in pairs if pair.parting is not None]
    share = accuracy_text(len(parted) / len(pairs), wilson_interval(len(parted), len(pairs)), len(pairs))
    after = f", after {median(parted):g} tokens in the median ({min(parted):,} to {max(parted):,})" if parted else ""
    return f"{len(parted):,} of {len(pairs):,} replies part: {share}{after}."


REPLY_COLUMNS: tuple[Column[ReplyPair], ...] = (
    Column("prompt", lambda row: row.prompt),
    Column("same tokens", lambda row: row.same),
    Column("unpruned says", lambda row: row.parting and row.parting.baseline, lambda one: _said(one, "mask")),
    Column("with the mask", lambda row: row.parting and row.parting.masked, lambda one: _said(one, "unpruned")),
    Column("unpruned reply", lambda row: row.baseline.text),
    Column("reply with the mask", lambda row: "" if row.masked is None else row.masked.text),
)


def _said(token: ReplyToken | None, other: str) -> str:
    if token is None:
        return ""
    return f"{token.text!r} {percent(token.probability)} ({other} {_known(token.elsewhere)})"


def _known(probability: float | None) -> str:
    return "unknown" if probability is None else percent(probability)
