"""Plain text on which a searched model should go on as before: blocks of tokens that no measurement reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from explorer.core.errors import TaskError
from explorer.measure.perplexity import TOKENS, read_text, tokens_of
from explorer.measure.tokens import front_tokens
from explorer.models import View

LENGTH = 512  # as far as the perplexity of `mask damage` looks back
HELD = 3  # blocks on which nothing is trained


def anchor_blocks(view: View, text: str | None = None) -> tuple[Int[Tensor, "1 position"], ...]:
    """Blocks of LENGTH tokens, BOS included, of a text's part behind what `perplexity` measures by default.

    Empty for a model whose tokenizer does not know the words of the text.
    """
    try:
        ids = tokens_of(view.model.tokenizer, read_text() if text is None else text, None)[TOKENS:]
    except TaskError:
        return ()
    front = front_tokens(view.model)
    length = min(LENGTH, int(view.config.n_ctx)) - len(front)
    starts = range(0, len(ids) - length + 1, length)
    return tuple(torch.tensor([[*front, *ids[start : start + length]]], device=view.device) for start in starts)


def text_loss(view: View, blocks: Sequence[Int[Tensor, "1 position"]]) -> float:
    """Mean loss per predicted token of some blocks, in nats, of the view as it is now."""
    losses = []
    with view.lock, torch.inference_mode():
        for block in blocks:
            logits = view.logits(block)[0, :-1].float()
            losses.append(float(torch.nn.functional.cross_entropy(logits, block[0, 1:])))
    return sum(losses) / len(losses)
