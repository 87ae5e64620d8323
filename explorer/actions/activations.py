"""`activations`: what happens inside on one prompt, unpruned and with a mask."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from explorer.actions.choices import UNFRAMED, FramingChoice, ModelChoice, OfModel, identity, own_mask, read_mask
from explorer.actions.request import ALONE, Arg, Request, Tools
from explorer.core.errors import SettingsError
from explorer.tasks import Example, Framing

if TYPE_CHECKING:
    from explorer.masks.activations import Contrast, PromptReading, Written
    from explorer.masks.mask import Mask
    from explorer.models import View

HEAD = re.compile(r"L(\d{1,4})(?:\.H(\d{1,4}))?", re.ASCII)


@dataclass(frozen=True)
class ActivationsResult(OfModel):
    """One prompt; `baseline` is the unpruned model, `masked` the one with the mask.

    Attributes:
        turns: earlier turns of the chat.
        tokens: id and text of each, as the tokenizer cut it.
        mode, gain, mask_digest: null without a mask.
        next: the most likely next tokens of both, with probabilities.
        first_changed_layer: the first block whose output differs; null if none does.
        residual_change: [i][n] is the norm of the change of the residual stream at token n, relative to its norm
            before: at the input of the first block (i = 0), then after each block.
        lens: the most likely next tokens and, first, the one of `--answer`: log-probabilities (nats) by the logit lens,
            before the first block and after each one.
        head_changes: [layer][head] is the share of its attention that a query head moved to other tokens.
        attention: of the heads asked for with `--head`, [query][key]; each row sums to 1.
        written: what each removed value wrote along its v at each token, `(x . u_i) s_i`, and what stands there with
            the mask; those whose writing the mask changes most come first.
    """

    prompt: str
    bos: str
    chat: bool
    system: str | None
    turns: Sequence[str]
    tokens: Sequence[Mapping[str, Any]]
    mode: str | None
    gain: float | None
    mask_digest: str | None
    removed: int
    next: Mapping[str, Any]
    first_changed_layer: int | None
    residual_change: Sequence[Sequence[float]]
    lens: Sequence[Mapping[str, Any]]
    head_changes: Sequence[Sequence[float]]
    attention: Sequence[Mapping[str, Any]]
    written: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ReadActivations(Request):
    """Run one prompt through the unpruned model and through a mask, and show what differs inside.

    Most likely next tokens; the logit lens per layer; how far the residual stream moves per layer and token, and the
    first block that differs; how much of its attention each head moves; what each removed value wrote per token.

    Example: `eigenprune activations --model bundled --mask mask.json --prompt "3 x 4 =" --answer " 12"`
    """

    command: ClassVar[str] = "activations"

    model: ModelChoice
    prompt: Annotated[str, Arg("The text that the model reads.")]
    mask: Annotated[Path | None, Arg("Mask file; without it the unpruned model alone is read.")] = None
    answer: Annotated[str | None, Arg("What should follow: its first token comes first in the logit lens.")] = None
    head: Annotated[tuple[str, ...], Arg("Also the attention of L0.H3, or of all query heads of L0; repeatable.")] = ()
    top: Annotated[int, Arg("Most likely next tokens, and tokens of the lens.", least=1)] = 5
    values: Annotated[int, Arg("Removed values shown, the most changed; --json has all.", least=0)] = 3
    around: FramingChoice = UNFRAMED
    turn: Annotated[
        tuple[str, ...], Arg("An earlier turn of the chat, the user's or the assistant's by turns; repeatable.")
    ] = ()

    def run(self, tools: Tools = ALONE) -> ActivationsResult:
        """Read the prompt.

        Raises:
            ExplorerError: a model, mask or head that cannot be had, or a prompt that this model cannot take.
        """
        heads = [parse_head(text) for text in self.head]
        from explorer.masks.activations import contrast, written
        from explorer.masks.apply import empty_mask
        from explorer.measure.tokens import check_rows, encode, words_notice
        from explorer.spectra.cache import default_cache

        mask, framing = None if self.mask is None else read_mask(self.mask), self.around.framing
        example = Example(self.prompt, "", shown=turns_of(self.turn, framing))
        view = self.model.open(tools)
        mask = None if mask is None else own_mask(view, mask, tools)
        places = list(_places(view, heads))
        tokenizer, svds = view.model.tokenizer, default_cache(tools.notice)
        first = [] if self.answer is None else [encode(tokenizer, example.answered(self.answer), framing).answer[0]]
        check_rows(view.model, first, self.answer or "")
        if (sentence := words_notice(tokenizer, [example.prompt], "the prompt")) is not None:
            tools.notice(sentence)
        with tools.working("Reading the prompt"):
            found = contrast(view, mask or empty_mask(view.model), svds, prompt=example, framing=framing)
            wrote = None if mask is None else written(view, mask, svds, prompt=example, framing=framing)
        return ActivationsResult(
            **identity(view),
            prompt=example.prompt,
            bos=framing.bos,
            chat=framing.chat,
            system=framing.system,
            turns=[text for turns in example.shown for text in turns],
            **of_mask(mask),
            attention=[_pattern(found, *place) for place in places],
            written=[] if wrote is None else _written(wrote),
            **_figures(view, found, first, top=self.top),
        )


def of_mask(mask: Mask | None) -> dict[str, Any]:
    """The fields of a result that say which mask there is, if there is one."""
    if mask is None:
        return {"mode": None, "gain": None, "mask_digest": None, "removed": 0}
    return {"mode": mask.mode, "gain": mask.gain, "mask_digest": mask.digest, "removed": len(mask)}


def _figures(view: View, found: Contrast, first: Sequence[int], top: int) -> dict[str, Any]:
    """The fields of a result that come from the two readings; the lens begins with the tokens of `first`."""
    before, after = found.before, found.after
    return {
        "tokens": [{"id": token, "text": text} for token, text in zip(before.ids, before.tokens, strict=True)],
        "next": {"baseline": _next(view, before, top), "masked": _next(view, after, top)},
        "first_changed_layer": found.first_changed_layer(),
        "residual_change": found.residual_change().tolist(),
        "lens": _lens(view, found, list(dict.fromkeys((*first, *found.next_tokens(top))))),
        "head_changes": found.head_changes().tolist(),
    }


def turns_of(texts: Sequence[str], framing: Framing) -> tuple[tuple[str, str], ...]:
    """Earlier turns in pairs; raises SettingsError for some outside of a chat, and for one without its answer."""
    if texts and not framing.chat:
        raise SettingsError("--turn is a turn of a chat: add --chat, or leave it out.")
    if len(texts) % 2:
        raise SettingsError(f"--turn is given {len(texts)} times: give every turn of the user's its assistant's.")
    return tuple(zip(texts[::2], texts[1::2], strict=True))


def parse_head(text: str) -> tuple[int, int | None]:
    """Layer and query head, or None for all of them, from `L0.H3` or `L0`."""
    found = HEAD.fullmatch(text.strip())
    if found is None:
        raise SettingsError(f"{text[:40]!r} is no head: give one such as L0.H3, or a layer such as L0.")
    return int(found[1]), None if found[2] is None else int(found[2])


def _places(view: View, heads: Sequence[tuple[int, int | None]]) -> Iterable[tuple[int, int]]:
    """Every (layer, query head) asked for, each once; refuses what the model does not have."""
    n_layers, n_heads = int(view.config.n_layers), int(view.config.n_heads)
    for layer, head in heads:
        if layer >= n_layers or (head or 0) >= n_heads:
            raise SettingsError(
                f"--head L{layer}{'' if head is None else f'.H{head}'}: the model has layers 0 to {n_layers - 1} and "
                f"query heads 0 to {n_heads - 1}."
            )
    return dict.fromkeys((layer, one) for layer, head in heads for one in (range(n_heads) if head is None else (head,)))


def _next(view: View, reading: PromptReading, k: int) -> list[dict[str, Any]]:
    """The k most likely next tokens."""
    from explorer.measure.tokens import token_texts

    likely = reading.top(k)
    texts = token_texts(view.model.tokenizer, [token for token, _ in likely])
    return [
        {"id": token, "text": text, "probability": probability}
        for (token, probability), text in zip(likely, texts, strict=True)
    ]


def _lens(view: View, found: Contrast, tokens: Sequence[int]) -> list[dict[str, Any]]:
    """Some next tokens through the layers."""
    from explorer.masks.activations import answer_lens
    from explorer.measure.tokens import token_texts

    return [
        {
            "id": token,
            "text": text,
            "baseline": answer_lens(found.before, [token]),
            "masked": answer_lens(found.after, [token]),
        }
        for token, text in zip(tokens, token_texts(view.model.tokenizer, tokens), strict=True)
    ]


def _pattern(found: Contrast, layer: int, head: int) -> dict[str, Any]:
    """The attention of one head."""
    before, after = (reading.attention[layer][head] for reading in (found.before, found.after))
    return {"layer": layer, "head": head, "baseline": before.tolist(), "masked": after.tolist()}


def _written(found: Written) -> list[dict[str, Any]]:
    """What every removed value wrote, the most changed first."""
    return [
        {
            "matrix": found.values[place].matrix,
            "index": found.values[place].index,
            "sigma": found.values[place].sigma,
            "baseline": found.before[place].tolist(),
            "masked": found.after[place].tolist(),
        }
        for place in found.by_change()
    ]
