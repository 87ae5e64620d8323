"""What a view does inside on one prompt: attention, residual stream, logit lens, next tokens, what a value wrote.

Removed value i of a matrix that reads x_n at token n writes `s_i (x_n . u_i)` along v_i, and under the mask `s_i c_i`
(freeze) or nothing (zero) instead, the same at every token. A mask of gain g leaves the share g of what was written and
puts 1 - g times that beside it.

The logit lens (nostalgebraist 2020) puts the residual stream after each block through the model's own final norm and
unembedding, and OPT's projection or Gemma's soft cap where there is one: what the model would say if it stopped there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from explorer.core.keys import MatrixKey
from explorer.masks.apply import apply, check_values
from explorer.masks.fitting import fitting
from explorer.masks.mask import Mask, Removed
from explorer.measure.generation import prompt_ids
from explorer.measure.tokens import known_rows, token_texts
from explorer.models import View
from explorer.models.matrices import check, input_hook, parts_of
from explorer.spectra.cache import SvdCache
from explorer.tasks import AS_USUAL, Example, Framing

Prompt = str | Example  # text, or an example's prompt with what is shown before it


@dataclass(frozen=True, eq=False)
class PromptReading:
    """One forward pass over one prompt.

    Attributes:
        ids: what the model read; `tokens` are the same as the tokenizer cut them.
        attention: per layer [head, query, key], rows sum to 1.
        residual: residual stream [layer + 1, position, d_model]; entry 0 is what the first block reads.
        lens: log-probabilities of the next token after the last position, per entry of `residual`; the last one is the
            model's own prediction.
        known: which rows of the vocabulary are tokens; others are never listed.
    """

    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    attention: tuple[Float[Tensor, "head query key"], ...]
    residual: Float[Tensor, "layer position d_model"]
    lens: Float[Tensor, "layer vocabulary"]
    known: Bool[Tensor, " vocabulary"]

    def top(self, k: int, layer: int = -1) -> list[tuple[int, float]]:
        """The k most likely next tokens as (id, probability), by the lens at `layer` (default: the model's own).

        Rows that are no token, and tokens without a probability, are left out: none is left where the stream is not
        finite.
        """
        probabilities = self.lens[layer].exp()
        listed = self.known & probabilities.isfinite()
        values, ids = probabilities.masked_fill(~listed, -1.0).topk(min(k, int(listed.sum())))
        return list(zip(ids.tolist(), values.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Contrast:
    """The same prompt through the unpruned view and the masked one."""

    before: PromptReading
    after: PromptReading

    def attention_difference(self, layer: int, head: int) -> Float[Tensor, "query key"]:
        """Pattern after minus before."""
        return self.after.attention[layer][head] - self.before.attention[layer][head]

    def head_changes(self) -> Float[Tensor, "layer head"]:
        """How much of its attention each head moved to other tokens, from 0 to 1.

        The total variation distance between its patterns, averaged over queries.
        """
        moved = [after - before for after, before in zip(self.after.attention, self.before.attention, strict=True)]
        return torch.stack([0.5 * one.float().abs().sum(dim=-1).mean(dim=-1) for one in moved]).cpu()

    def most_changed_head(self) -> tuple[int, int] | None:
        """Layer and head that moved most attention; None if none moved any."""
        changes = self.head_changes()
        changes = changes.nan_to_num(nan=0.0)
        if float(changes.max()) == 0:
            return None
        layer, head = divmod(int(changes.argmax()), changes.shape[1])
        return layer, head

    def next_tokens(self, k: int) -> list[int]:
        """Ids of the k most likely next tokens with the mask and of the unpruned view, in this order, each once."""
        return list(dict.fromkeys(token for reading in (self.after, self.before) for token, _ in reading.top(k)))

    def residual_change(self) -> Float[Tensor, "layer position"]:
        """Norm of the change of the residual stream, relative to its norm before."""
        change = torch.linalg.vector_norm(self.after.residual - self.before.residual, dim=-1)
        relative: Tensor = change / torch.linalg.vector_norm(self.before.residual, dim=-1).clamp_min(1e-12)
        return relative

    def first_changed_layer(self) -> int | None:
        """First block after which the residual stream differs at all; None if it never does."""
        changed = (self.after.residual != self.before.residual).flatten(1).any(dim=1).nonzero()
        return max(int(changed[0]) - 1, 0) if len(changed) else None


@dataclass(frozen=True, eq=False)
class Written:
    """What removed values wrote along their v into the output of their matrix, on one prompt.

    Attributes:
        tokens: the prompt as the tokenizer cut it.
        values: the removed values.
        before: `s_i (x_n . u_i)` in the unpruned model, per token.
        after: what stands in its place under the mask; the same at every token, unless the mask has a gain.
    """

    tokens: tuple[str, ...]
    values: tuple[Removed, ...]
    before: Float[Tensor, "value position"]
    after: Float[Tensor, "value position"]

    def by_change(self) -> list[int]:
        """Positions in `values`, those first whose writing the mask changes most (root mean square over tokens)."""
        change = (self.before - self.after).square().mean(dim=-1)
        order: list[int] = change.argsort(descending=True, stable=True).tolist()
        return order


def written(view: View, mask: Mask, svds: SvdCache, prompt: Prompt, framing: Framing = AS_USUAL) -> Written:
    """What each value that a mask removes writes on a prompt in the unpruned model; the view is left unpruned.

    Raises:
        TaskError: the prompt is empty, longer than the model reads, or cannot be put into the framing.
        MaskError, MatrixError: another model's mask, or values that the model does not have.
    """
    ids = prompt_ids(view, prompt, framing)
    kept: dict[str, Tensor] = {}
    with view.lock, torch.no_grad():
        apply(view, mask.without_all(), svds)
        for key in mask.by_matrix:
            check(view, key)
        hooks = {input_hook(key): str(key.stacked) for key in mask.by_matrix}
        with view.bridge.hooks(fwd_hooks=[(hook, _keep(kept, name)) for hook, name in hooks.items()]):
            view.logits(torch.tensor([ids], device=view.device), keep=torch.tensor([len(ids) - 1], device=view.device))
    wrote = [_wrote(view, key, mask, svds=svds, x=kept[str(key.stacked)]) for key in mask.by_matrix]
    before = torch.cat(wrote) if wrote else torch.zeros(0, len(ids))
    frozen = torch.tensor([one.sigma * one.c if mask.mode == "freeze" else 0.0 for one in mask.removed])
    return Written(
        tokens=tuple(token_texts(view.model.tokenizer, ids)),
        values=mask.removed,
        before=before,
        after=mask.gain * before + (1.0 - mask.gain) * frozen[:, None],
    )


def _wrote(view: View, key: MatrixKey, mask: Mask, svds: SvdCache, x: Tensor) -> Float[Tensor, "value position"]:
    """`s_i (x_n . u_i)` of a mask's values of one matrix, from what its stacked matrix read."""
    decomposition = fitting(view, key, mask.by_matrix[key], svds=svds)
    check_values(decomposition, key, mask=mask)
    indices = [one.index for one in mask.by_matrix[key]]
    read = x.flatten(1)[:, parts_of(view, key)[0]].double().cpu()
    return ((read @ decomposition.left(indices).double()) * decomposition.s[indices].double()).T.float()


def read_prompt(view: View, prompt: Prompt, framing: Framing = AS_USUAL) -> PromptReading:
    """Run a prompt through the view as it is now and keep what happened inside.

    Raises:
        TaskError: the prompt is empty, longer than the model reads, or cannot be put into the framing.
    """
    ids = prompt_ids(view, prompt, framing)
    n_layers = int(view.config.n_layers)
    kept: dict[str, Tensor] = {}
    names = {
        **{f"blocks.{layer}.attn.hook_pattern": f"pattern{layer}" for layer in range(n_layers)},
        **{f"blocks.{layer}.hook_out": f"out{layer}" for layer in range(n_layers)},
        "blocks.0.hook_in": "in",
    }
    with view.lock, torch.no_grad():
        with view.bridge.hooks(fwd_hooks=[(hook, _keep(kept, name)) for hook, name in names.items()]):
            view.logits(torch.tensor([ids], device=view.device), keep=torch.tensor([len(ids) - 1], device=view.device))
        residual = torch.stack([kept["in"], *(kept[f"out{layer}"] for layer in range(n_layers))])
        lens = _unembedded(view, residual[:, None, -1])[:, 0]
    return PromptReading(
        ids=tuple(ids),
        tokens=tuple(token_texts(view.model.tokenizer, ids)),
        attention=tuple(kept[f"pattern{layer}"] for layer in range(n_layers)),
        residual=residual.cpu(),
        lens=lens.float().log_softmax(dim=-1).cpu(),
        known=known_rows(view.model.tokenizer, lens.shape[-1]),
    )


def contrast(view: View, mask: Mask, svds: SvdCache, prompt: Prompt, framing: Framing = AS_USUAL) -> Contrast:
    """Run a prompt through the unpruned view and through the masked one; the view is left with the mask on it.

    Raises:
        TaskError: the prompt is empty, longer than the model reads, or cannot be put into the framing.
        MaskError, MatrixError: another model's mask, or values that the model does not have.
    """
    with view.lock:
        apply(view, mask.without_all(), svds)
        before = read_prompt(view, prompt, framing)
        apply(view, mask, svds)
        return Contrast(before, read_prompt(view, prompt, framing))


def answer_lens(reading: PromptReading, answer: Sequence[int]) -> list[float]:
    """Log-probability (nats) of an answer's first token by the lens, before the first block and after each one."""
    return [float(value) for value in reading.lens[:, answer[0]]]


def _unembedded(view: View, residual: Tensor) -> Tensor:
    """Logits of a residual stream [..., d_model] by the model's own way out."""
    x = residual
    for name in ("ln_final", "project_out"):  # an OPT may have no first, and the second with a narrower embedding
        module = getattr(view.bridge, name, None)
        x = x if module is None else module(x)
    logits: Tensor = view.bridge.unembed(x)
    cap = getattr(view.bridge.original_model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _keep(kept: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(value: Tensor, hook: Any) -> None:
        kept[name] = value[0].detach().clone()

    return hook
