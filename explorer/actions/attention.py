"""`attention`: why a head looks from one token to another, and what it moves from there, by singular directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

from explorer.actions.activations import of_mask, parse_head, turns_of
from explorer.actions.choices import UNFRAMED, FramingChoice, ModelChoice, OfModel, identity, own_mask, read_mask
from explorer.actions.names import Directions
from explorer.actions.request import ALONE, Arg, Request, Tools
from explorer.core.errors import SettingsError
from explorer.tasks import Example

if TYPE_CHECKING:
    from explorer.masks.head_split import HeadSplit, Split


@dataclass(frozen=True)
class AttentionResult(OfModel):
    """Why a head looks from a query to a key, and what it moves; on a prompt, under a mask if there is one.

    `score` and `moved` are sums over pairs of terms: `first` and `second` name the matrix (or product) of either side,
    `first_terms` and `second_terms` each row and column of `here`, by the index of a direction or a name such as
    "bias"; `here` is what each pair adds, `elsewhere` its mean over the other keys that the query sees; `further` are
    terms of no pair (name, here, elsewhere); `own` is the model's own number, to which `here` and `further` add up, and
    `own_elsewhere` its mean over the other keys.

    Attributes:
        turns: earlier turns of the chat.
        tokens: as the tokenizer cut them.
        mode, gain, mask_digest: null without a mask.
        head: such as L0.H3.
        query, key: positions, counted from 0.
        directions: those of the head's matrices, the stacked ones, or its products.
        seen: position, score (before softmax) and attention of each key that the query sees.
        score: of the key.
        moved: what the head moves from the key, along `toward`.
        length: of what it moves from the key.
        toward: what it is measured along.
    """

    prompt: str
    bos: str
    chat: bool
    system: str | None
    turns: Sequence[str]
    tokens: Sequence[str]
    mode: str | None
    gain: float | None
    mask_digest: str | None
    removed: int
    head: str
    query: int
    key: int
    directions: str
    seen: Sequence[Mapping[str, Any]]
    score: Mapping[str, Any]
    moved: Mapping[str, Any]
    length: float
    toward: str


@dataclass(frozen=True, kw_only=True)
class SplitAttention(Request):
    """Split a head's attention score for two tokens, and what it moves, into pairs of singular directions.

    The score is the one before softmax: positions and norms are part of every pair, biases, frozen means, soft caps and
    ALiBi are terms of their own, and all add up to the model's own score. Beside each pair stands its mean over the
    other tokens that the query sees: what is the same for all of them moves no attention.

    Example: `eigenprune attention L0.H1 --model bundled --prompt "3 x 4 =" --toward " 12"`
    """

    command: ClassVar[str] = "attention"

    head: Annotated[str, Arg("Layer and query head, such as L0.H3.", positional=True)]
    model: ModelChoice
    prompt: Annotated[str, Arg("The text that the model reads.")]
    query: Annotated[int | None, Arg("Position of the token that looks, from 0; the last one.", least=0)] = None
    key: Annotated[
        int | None, Arg("Position of the token that is looked at, from 0; the one that gets most attention.", least=0)
    ] = None
    directions: Annotated[
        str, Arg("Of which matrices: head (the head's own), stacked (of all heads) or product (the head's QK and OV).")
    ] = "head"
    toward: Annotated[
        str | None,
        Arg("Measure what is moved by what it adds directly to the logit of this text's first token; its own length."),
    ] = None
    rather_than: Annotated[str | None, Arg("With --toward: minus the logit of this text's first token.")] = None
    mask: Annotated[Path | None, Arg("Mask file; without it the unpruned model is read.")] = None
    top: Annotated[int, Arg("Pairs shown, those that set the key furthest apart; --json has all.", least=0)] = 10
    around: FramingChoice = UNFRAMED
    turn: Annotated[
        tuple[str, ...], Arg("An earlier turn of the chat, the user's or the assistant's by turns; repeatable.")
    ] = ()

    def run(self, tools: Tools = ALONE) -> AttentionResult:
        """Split the score.

        Raises:
            ExplorerError: a model, mask, head or position that cannot be had, or a prompt that this model cannot take.
        """
        directions, texts = self._directions, self._texts
        layer, head = parse_head(self.head)
        if head is None:
            raise SettingsError(f"{self.head[:40]!r} is a layer: give one of its heads, such as L{layer}.H0.")
        from explorer.masks.apply import empty_mask
        from explorer.masks.head_split import HeadPlace, first_tokens, head_split
        from explorer.spectra.cache import default_cache

        mask, framing = None if self.mask is None else read_mask(self.mask), self.around.framing
        example = Example(self.prompt, "", shown=turns_of(self.turn, framing))
        view = self.model.open(tools)
        mask = None if mask is None else own_mask(view, mask, tools)
        place = HeadPlace(layer, head, -1 if self.query is None else self.query, key=self.key)
        with tools.working("Reading the prompt"):
            found = head_split(
                view, mask or empty_mask(view.model), default_cache(tools.notice), prompt=example, place=place,
                directions=directions, toward=first_tokens(view, example, texts, framing=framing), framing=framing,
            )  # fmt: skip
        return AttentionResult(
            **identity(view),
            prompt=example.prompt,
            bos=framing.bos,
            chat=framing.chat,
            system=framing.system,
            turns=list(self.turn),
            **of_mask(mask),
            directions=directions,
            **_fields(found),
        )

    @property
    def _directions(self) -> Directions:
        known: dict[str, Directions] = {one: one for one in get_args(Directions)}
        if self.directions not in known:
            raise SettingsError(
                f"--directions {self.directions[:40]!r} is not known: choose one of {', '.join(known)}."
            )
        return known[self.directions]

    @property
    def _texts(self) -> list[str]:
        if self.rather_than is not None and self.toward is None:
            raise SettingsError("--rather-than needs --toward, from whose logit it is subtracted: give both.")
        return [text for text in (self.toward, self.rather_than) if text is not None]


def _fields(found: HeadSplit) -> dict[str, Any]:
    place, keys = found.place, zip(found.visible, found.scores, found.attention, strict=True)
    return {
        "tokens": list(found.tokens),
        "head": f"L{place.layer}.H{place.head}",
        "query": place.query,
        "key": place.key,
        "seen": [{"position": at, "score": score, "attention": share} for at, score, share in keys],
        "score": _split(found.score),
        "moved": _split(found.moved),
        "length": found.length,
        "toward": found.toward,
    }


def _split(split: Split) -> dict[str, Any]:
    return {
        "first": split.first.matrix,
        "second": split.second.matrix,
        "first_terms": list(split.first.terms),
        "second_terms": list(split.second.terms),
        "here": split.here.tolist(),
        "elsewhere": split.elsewhere.tolist(),
        "further": [vars(one) for one in split.further],
        "own": split.own,
        "own_elsewhere": split.own_elsewhere,
    }
