"""What `activations` prints with --json, and how it follows from the two readings of the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from explorer.masks.activations import Contrast, Reading, Written
    from explorer.models import View


class TokenText(TypedDict):
    """One token: its id, and its text as the tokenizer cut it."""

    id: int
    text: str


class NextToken(TokenText):
    """One of the most likely next tokens."""

    probability: float


class NextTokens(TypedDict):
    """The most likely next tokens of the unpruned model and with the mask."""

    baseline: list[NextToken]
    masked: list[NextToken]


class LensToken(TokenText):
    """Log-probabilities (nats) of one next token by the logit lens: before the first block, then after each one."""

    baseline: list[float]
    masked: list[float]


class Pattern(TypedDict):
    """The attention of one query head, [query][key]; each row sums to 1."""

    layer: int
    head: int
    baseline: list[list[float]]
    masked: list[list[float]]


class WrittenValue(TypedDict):
    """What one removed value wrote along its v at each token, `(x . u_i) s_i`, and what stands there with the mask."""

    matrix: str
    index: int
    sigma: float
    baseline: list[float]
    masked: list[float]


class ActivationsReport(TypedDict):
    """`activations`: `baseline` is the unpruned model; `mode`, `gain` and `mask_digest` are null without a mask.

    `residual_change[i][n]` is the norm of the change of the residual stream at token n, relative to its norm before: at
    the input of the first block (i = 0), then after each block. `first_changed_layer` is the first block whose output
    differs, null if none does. `head_changes[layer][head]` is the share of its attention that a query head moved to
    other tokens. `attention` holds the heads asked for with `--head`, `lens` the most likely next tokens and, first,
    the one of `--answer`. `written` begins with the values whose writing the mask changes most.
    """

    model: str
    model_digest: str
    basis: str
    dtype: str
    prompt: str
    bos: str
    chat: bool
    system: str | None
    turns: list[str]
    tokens: list[TokenText]
    mode: str | None
    gain: float | None
    mask_digest: str | None
    removed: int
    next: NextTokens
    first_changed_layer: int | None
    residual_change: list[list[float]]
    lens: list[LensToken]
    head_changes: list[list[float]]
    attention: list[Pattern]
    written: list[WrittenValue]


def next_tokens(view: View, reading: Reading, k: int) -> list[NextToken]:
    """The k most likely next tokens."""
    from explorer.measure.tokens import token_texts

    likely = reading.top(k)
    texts = token_texts(view.model.tokenizer, [token for token, _ in likely])
    return [
        {"id": token, "text": text, "probability": probability}
        for (token, probability), text in zip(likely, texts, strict=True)
    ]


def lens(view: View, contrast: Contrast, tokens: Sequence[int]) -> list[LensToken]:
    """Some next tokens through the layers."""
    from explorer.masks.activations import answer_lens
    from explorer.measure.tokens import token_texts

    return [
        {
            "id": token,
            "text": text,
            "baseline": answer_lens(contrast.before, [token]),
            "masked": answer_lens(contrast.after, [token]),
        }
        for token, text in zip(tokens, token_texts(view.model.tokenizer, tokens), strict=True)
    ]


def pattern(contrast: Contrast, layer: int, head: int) -> Pattern:
    """The attention of one head."""
    before, after = (reading.attention[layer][head] for reading in (contrast.before, contrast.after))
    return {"layer": layer, "head": head, "baseline": before.tolist(), "masked": after.tolist()}


def written_values(found: Written) -> list[WrittenValue]:
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
