"""Mini-batches as the released code cut them: prompts alone, of one length, with one token of each answer.

Prompts of several lengths have one length only if they are filled on the left, as the released code filled CB, COPA and
RTE to 512 tokens. Here they are filled to one token more than the longest prompt has: positions further to the left
hold the same padding and add nothing, neither to a maximum nor to a mean.

What padding does: no real token attends to it, positions are counted from the first real token, and its own attention
output is set to zero. So real tokens compute what they compute without padding, and every padding token has the
same residual stream, which the released scores and means contain like any other.

So the prompts can be run as everywhere else, filled on the right, where no real token sees the padding; `aligned` then
moves it to the left.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from explorer.attribution.base import Request
from explorer.batches import Batch, one_token
from explorer.errors import TaskError
from explorer.keys import Kind, MatrixKey
from explorer.models import View
from explorer.registry import input_hook


@dataclass(frozen=True, eq=False)
class MiniBatch:
    """Some prompts.

    Attributes:
        tokens: the prompts, filled on the right.
        lengths: how many tokens of each are real.
        answers: for each prompt the token that the loss looks at.
    """

    tokens: Int[Tensor, "batch position"]
    lengths: Int[Tensor, " batch"]
    answers: Int[Tensor, " batch"]

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def real(self) -> Bool[Tensor, "batch position"]:
        """Which tokens are not padding, once aligned."""
        return self._places >= self.tokens.shape[1] - self.lengths[:, None]

    @property
    def padded(self) -> bool:
        """Whether there is any padding."""
        return bool((self.lengths < self.tokens.shape[1]).any())

    def aligned(self, x: Float[Tensor, "batch position *rest"]) -> Float[Tensor, "batch position *rest"]:
        """What was computed for each token, with the padding on the left."""
        if not self.padded:
            return x
        moved = (self._places + self.lengths[:, None]) % self.tokens.shape[1]
        return x[torch.arange(len(self), device=x.device)[:, None], moved]

    def logits(self, view: View) -> Float[Tensor, "batch vocabulary"]:
        """Logits at each prompt's last token; run it inside `padding`."""
        options: dict[str, Tensor] = {}
        if self.padded and "position_ids" in inspect.signature(type(view.bridge.original_model).forward).parameters:
            options["position_ids"] = torch.where(self._filled, 0, self._places)
        rows = torch.arange(len(self), device=self.tokens.device)
        return view.logits_at(self.tokens, rows, self.lengths - 1, **options)

    @contextmanager
    def padding(self, view: View) -> Iterator[None]:
        """Set the attention output of padding to zero; enter it before other hooks, so that they see that."""

        def silence(z: Tensor, hook: Any) -> Tensor:
            return z.masked_fill(self._filled.view(*self._filled.shape, *[1] * (z.ndim - 2)), 0.0)

        sites = [MatrixKey(layer, Kind.O) for layer in range(view.config.n_layers)] if self.padded else []
        with view.bridge.hooks(fwd_hooks=[(input_hook(site), silence) for site in sites]):
            yield

    @property
    def _places(self) -> Int[Tensor, "batch position"]:
        return torch.arange(self.tokens.shape[1], device=self.tokens.device).expand_as(self.tokens)

    @property
    def _filled(self) -> Bool[Tensor, "batch position"]:
        return self._places >= self.lengths[:, None]


def mini_batches(request: Request) -> tuple[MiniBatch, ...]:
    """The request's prompts in their order, cut into mini-batches of `batch_size`; the last one may be smaller.

    Raises:
        TaskError: prompts of several lengths, unless they are to be padded.
        SettingsError: an answer without the token that is asked for.
    """
    options = request.options
    reduced = [one_token(batch, options.answer_token) for batch in request.batches]
    order = torch.cat([batch.places for batch in reduced]).argsort()
    found = [prompt for batch in reduced for prompt in _prompts(batch)]
    prompts = [found[place] for place in order.tolist()]
    answers = torch.cat([batch.targets for batch in reduced])[order]
    lengths = sorted({len(prompt) for prompt in prompts})
    if len(lengths) > 1 and not options.pad:
        raise TaskError(
            f"the prompts have {lengths[0]} to {lengths[-1]} tokens: the scorer as-released compares examples position "
            "by position and needs prompts of one length; use another scorer, or such a task."
        )
    length = lengths[-1] + 1 if options.pad else lengths[-1]
    tokens = torch.full((len(prompts), length), _filler(request.view), device=answers.device)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = prompt
    real = torch.tensor([len(prompt) for prompt in prompts], device=answers.device)
    cuts = [slice(start, start + options.batch_size) for start in range(0, len(prompts), options.batch_size)]
    return tuple(MiniBatch(tokens[cut], real[cut], answers[cut]) for cut in cuts)


def _prompts(batch: Batch) -> list[Tensor]:
    return [batch.tokens[row, : int(end) + 1] for row, end in enumerate(batch.positions)]


def _filler(view: View) -> int:
    """The tokenizer's padding token, its end-of-sequence token where it has none, else token 0."""
    tokenizer = view.model.tokenizer
    known = [token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None]
    return int(known[0]) if known else 0
