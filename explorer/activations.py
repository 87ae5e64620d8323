"""What a view does inside on one prompt: attention patterns, residual stream, logit lens, next tokens.

The logit lens (nostalgebraist 2020) puts the residual stream after each block through the model's own final norm and
unembedding, and OPT's projection or Gemma's soft cap where there is one: what the model would say if it stopped there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.batches import encode_prompt, token_texts
from explorer.errors import TaskError
from explorer.models import View


@dataclass(frozen=True, eq=False)
class Reading:
    """One forward pass over one prompt.

    Attributes:
        ids: what the model read; `tokens` are the same as the tokenizer cut them.
        attention: per layer [head, query, key], rows sum to 1.
        residual: residual stream [layer + 1, position, d_model]; entry 0 is what the first block reads.
        lens: log-probabilities of the next token after the last position, per entry of `residual`; the last one is the
            model's own prediction.
    """

    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    attention: tuple[Float[Tensor, "head query key"], ...]
    residual: Float[Tensor, "layer position d_model"]
    lens: Float[Tensor, "layer vocabulary"]

    def top(self, k: int, layer: int = -1) -> list[tuple[int, float]]:
        """The k most likely next tokens as (id, probability), by the lens at `layer` (default: the model's own)."""
        values, ids = self.lens[layer].exp().topk(k)
        return list(zip(ids.tolist(), values.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Contrast:
    """The same prompt through the unpruned view and the masked one."""

    before: Reading
    after: Reading

    def attention_difference(self, layer: int, head: int) -> Float[Tensor, "query key"]:
        """Pattern after minus before."""
        return self.after.attention[layer][head] - self.before.attention[layer][head]

    def residual_change(self) -> Float[Tensor, "layer position"]:
        """Norm of the change of the residual stream, relative to its norm before."""
        change = torch.linalg.vector_norm(self.after.residual - self.before.residual, dim=-1)
        relative: Tensor = change / torch.linalg.vector_norm(self.before.residual, dim=-1).clamp_min(1e-12)
        return relative

    def first_changed_layer(self) -> int | None:
        """First block after which the residual stream differs at all; None if it never does."""
        changed = (self.after.residual != self.before.residual).flatten(1).any(dim=1).nonzero()
        return max(int(changed[0]) - 1, 0) if len(changed) else None


def read_prompt(view: View, prompt: str, *, bos: bool = True) -> Reading:
    """Run a prompt through the view as it is now and keep what happened inside.

    Raises:
        TaskError: the prompt is empty or longer than the model reads.
    """
    ids = encode_prompt(view.model.tokenizer, prompt, bos=bos)
    longest = int(view.config.n_ctx)
    if not prompt.strip() or not 0 < len(ids) <= longest:
        raise TaskError(f"the prompt has {len(ids)} tokens: type some text of 1 to {longest} tokens for this model.")
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
    return Reading(
        ids=tuple(ids),
        tokens=tuple(token_texts(view.model.tokenizer, ids)),
        attention=tuple(kept[f"pattern{layer}"] for layer in range(n_layers)),
        residual=residual.cpu(),
        lens=lens.float().log_softmax(dim=-1).cpu(),
    )


def answer_lens(reading: Reading, answer: Sequence[int]) -> list[float]:
    """Log-probability (nats) of an answer's first token by the lens, before the first block and after each one."""
    return [float(value) for value in reading.lens[:, answer[0]]]


def _unembedded(view: View, residual: Tensor) -> Tensor:
    """Logits of a residual stream [..., d_model] by the model's own way out."""
    x = residual
    for name in ("ln_final", "project_out"):  # OPT has the second where its embedding is narrower than its blocks
        x = getattr(view.bridge, name)(x) if hasattr(view.bridge, name) else x
    logits: Tensor = view.bridge.unembed(x)
    cap = getattr(view.bridge.original_model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _keep(kept: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(value: Tensor, hook: Any) -> None:
        kept[name] = value[0].detach().clone()

    return hook
