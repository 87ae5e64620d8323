"""Mini-batches as the released code cut them: prompts alone, of one length, with one token of each answer.

Prompts of several lengths have one length only if they are filled on the left, as the released code filled CB, COPA and
RTE to 512 tokens (or as far as the model reads). What it does there:

1. Padding is masked: no real token attends to it, and it attends to nothing. What O reads there is zero in weights
   whose V biases are folded into O's, which is the V bias in weights where they are not. Positions are counted from the
   first token that is not masked, and padding has no position embedding. So all padding has one and the same residual
   stream, and real tokens compute what they compute without padding.
2. Where padding and BOS are one token (GPT-2, Phi-2), the last padding token is not masked: prompts are read with a BOS
   in front. So they are where the tokenizer adds one; elsewhere without (`reads_bos`).
3. Scores and means contain padding like any other token.
4. The answer's token is counted in what the tokenizer makes of the answer alone, with its BOS if it adds one
   (`adds_bos`).

So prompts are run as everywhere else, filled on the right, where no real token sees the padding, to one token more than
the longest has; `aligned` moves the padding to the left. Positions further to the left hold the same padding once more:
they add nothing to a maximum, and `summed` counts them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from explorer.attribution.base import Options, ScoringRequest
from explorer.core.errors import TaskError
from explorer.core.keys import Kind, MatrixKey
from explorer.measure.batches import Batch, one_token
from explorer.models import View
from explorer.models.matrices import heads, input_hook, read_bias

POSITION_EMBEDDING = "pos_embed.hook_out"  # of models that add a table of positions to what they read
TAUGHT_BOS = "PhiForCausalLM"  # the one family whose tokenizer adds a BOS only because TransformerLens asks it to


@dataclass(frozen=True, eq=False)
class MiniBatch:
    """Some prompts.

    Attributes:
        tokens: the prompts, filled on the right.
        lengths: how many tokens of each are real.
        answers: for each prompt the token that the loss looks at.
        beyond: how many more padding tokens stand in front of each prompt than are run.
    """

    tokens: Int[Tensor, "batch position"]
    lengths: Int[Tensor, " batch"]
    answers: Int[Tensor, " batch"]
    beyond: int = 0

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
        moved = ((self._places + self.lengths[:, None]) % self.tokens.shape[1]).to(x.device)
        return x[torch.arange(len(self), device=x.device)[:, None], moved]

    def summed(self, x: Float[Tensor, "batch position *rest"]) -> Float[Tensor, "*rest"]:
        """The mean over prompts, summed over all positions, of something aligned."""
        means = x.mean(dim=0)
        return means.sum(dim=0) + self.beyond * means[0]

    def logits(self, view: View) -> Float[Tensor, "batch vocabulary"]:
        """Logits at each prompt's last token; run it inside `padding`."""
        rows = torch.arange(len(self), device=self.tokens.device)
        return view.logits_at(self.tokens, rows, self.lengths - 1)

    @contextmanager
    def padding(self, view: View) -> Iterator[None]:
        """Let padding compute what it computed there (step 1); enter it before other hooks, so that they see that."""

        def replace(x: Tensor, hook: Any, value: Tensor) -> Tensor:
            filled = self._filled.to(x.device).view(*self._filled.shape, *[1] * (x.ndim - 2))
            return torch.where(filled, value.to(x).view(*x.shape[2:]), x)

        nothing = torch.zeros(int(view.config.d_model))
        hooks = [(POSITION_EMBEDDING, partial(replace, value=nothing))]
        hooks = [one for one in hooks if one[0] in view.bridge.hook_dict]
        hooks += [
            (input_hook(MatrixKey(layer, Kind.O)), partial(replace, value=_unattended(view, layer)))
            for layer in range(view.config.n_layers)
        ]
        with view.bridge.hooks(fwd_hooks=hooks if self.padded else []):
            yield

    @property
    def _places(self) -> Int[Tensor, "batch position"]:
        return torch.arange(self.tokens.shape[1], device=self.tokens.device).expand_as(self.tokens)

    @property
    def _filled(self) -> Bool[Tensor, "batch position"]:
        return self._places >= self.lengths[:, None]


def _unattended(view: View, layer: int) -> Float[Tensor, " d_in"]:
    """What O reads where nothing is attended to: the V biases."""
    width, groups = int(view.config.d_head), heads(view, Kind.O) // heads(view, Kind.V)
    bias = read_bias(view, MatrixKey(layer, Kind.V))
    if bias is None:
        return torch.zeros(heads(view, Kind.O) * width)
    return bias.detach().view(-1, width).repeat_interleave(groups, dim=0).flatten()


def mini_batches(request: ScoringRequest) -> tuple[MiniBatch, ...]:
    """The request's prompts in their order, cut into mini-batches of `batch_size`; the last one may be smaller.

    Raises:
        TaskError: prompts of several lengths, unless they are to be padded, longer than they are padded to, or on both
            sides of a rotary limit.
        SettingsError: an answer without the token that is asked for.
    """
    options, view = request.options, request.view
    reduced = [asked_for(view, batch, options) for batch in request.batches]
    order = torch.cat([batch.places for batch in reduced]).argsort()
    cut = [prompt for batch in reduced for prompt in _prompts(batch)]
    prompts = [cut[place] for place in order.tolist()]
    answers = torch.cat([batch.targets for batch in reduced])[order]
    lengths = [len(prompt) for prompt in prompts]
    check_lengths(lengths, options)
    width = min(max(lengths) + 1, options.padded_to) if options.padded_to else max(lengths)
    if view.side(min(lengths)) != view.side(width):
        raise TaskError(
            f"the prompts have {min(lengths)} to {max(lengths)} tokens: this model rotates long prompts otherwise than "
            "short ones, and as released all are run together; take prompts of one length, or the corrected method."
        )
    tokens = torch.full((len(prompts), width), padding_token(view), device=answers.device)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = prompt
    real = torch.tensor([len(prompt) for prompt in prompts], device=answers.device)
    cuts = [slice(start, start + options.batch_size) for start in range(0, len(prompts), options.batch_size)]
    beyond = options.padded_to - width if options.padded_to else 0
    return tuple(MiniBatch(tokens[cut], real[cut], answers[cut], beyond=beyond) for cut in cuts)


def check_lengths(lengths: list[int], options: Options) -> None:
    """Raise TaskError unless prompts of these lengths can be run position by position."""
    least, most = min(lengths), max(lengths)
    if options.padded_to and most > options.padded_to:
        raise TaskError(
            f"a prompt has {most} tokens: the released code cuts what is longer than {options.padded_to}; shorten it."
        )
    if least != most and not options.padded_to:
        raise TaskError(
            f"the prompts have {least} to {most} tokens: as released, examples are compared position by position, so "
            "all prompts need one length; take another task or model, or the corrected method."
        )


def asked_for(view: View, batch: Batch, options: Options) -> Batch:
    """A batch's prompts with the one token of each answer that the released code asks for; see step 4.

    Raises:
        SettingsError: an answer without that token.
    """
    begins = view.model.tokenizer.bos_token_id if options.padded_to and adds_bos(view) else None
    return one_token(batch, options.answer_token, begins)


def padding_token(view: View) -> int:
    """The tokenizer's padding token, its end-of-sequence token where it has none, else token 0."""
    tokenizer = view.model.tokenizer
    known = [token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None]
    return int(known[0]) if known else 0


def adds_bos(view: View) -> bool:
    """Whether the tokenizer puts a BOS in front of what it is given, as TransformerLens set it up."""
    tokenizer = view.model.tokenizer
    bos = tokenizer.bos_token_id
    return bos is not None and (view.model.architecture == TAUGHT_BOS or tokenizer("")["input_ids"][:1] == [bos])


def reads_bos(view: View) -> bool:
    """Whether padded prompts are read with a BOS in front; see step 2."""
    bos = view.model.tokenizer.bos_token_id
    return bos is not None and (adds_bos(view) or bos == padding_token(view))


def _prompts(batch: Batch) -> list[Tensor]:
    return [batch.tokens[row, : int(end) + 1] for row, end in enumerate(batch.positions)]
