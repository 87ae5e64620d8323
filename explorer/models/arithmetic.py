"""What plain blocks compute, in their own numbers: enough to run them many at a time without modules and hooks.

A family is listed in `PLAIN` if a block of it is `x + attention(norm(x))`, then `x + mlp(norm(x))`, with nothing
between: causal attention over all that comes before, scaled by the root of a head's width, heads in groups or not,
queries and keys normalised head by head or not, positions rotated (fully) or in the embedding. A configuration of one
that does more (a narrow window, scales by layer) is not read: `arithmetic` gives None, and the model has to be run as
it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from explorer.core.keys import Kind, MatrixKey
from explorer.models.matrices import heads, kinds, norm_of, read, read_bias
from explorer.models.model import View
from explorer.models.norms import norms
from explorer.models.rotary import limits

# Hugging Face class: the name of its table of positions, None where positions are rotated.
PLAIN: dict[str, str | None] = {
    "GPT2LMHeadModel": "transformer.wpe",
    "LlamaForCausalLM": None,
    "GemmaForCausalLM": None,
    "MistralForCausalLM": None,
    "Phi3ForCausalLM": None,
    "Qwen2ForCausalLM": None,
    "Qwen3ForCausalLM": None,
}
# Norms over each head of what Q and K give, as modules of a block.
OF_HEADS: dict[str, dict[Kind, str]] = {
    "Qwen3ForCausalLM": {Kind.Q: "self_attn.q_norm", Kind.K: "self_attn.k_norm"},
}


@dataclass(frozen=True, eq=False)
class PlainNorm:
    """A norm over the last axis, LayerNorm or RMSNorm, in the type of what it is given.

    Attributes:
        module: its Hugging Face module.
        offset: added to an RMSNorm's scale.
    """

    module: Any
    offset: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise x: [..., d_model]."""
        if isinstance(self.module, nn.LayerNorm):
            normed: Tensor = self.module(x)
            return normed
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = (size.square() / x.shape[-1] + self._epsilon).rsqrt()
        weight = self.module.weight
        scaled: Tensor = (x * scale).mul_(weight + self.offset if self.offset else weight)
        return scaled

    @property
    def _epsilon(self) -> float:
        return float(self.module.eps if hasattr(self.module, "eps") else self.module.variance_epsilon)


@dataclass(frozen=True, eq=False)
class Linear:
    """`y = x @ W + b`; W: [d_in, d_out], which shares memory with the view's weight."""

    W: Tensor
    b: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply x: [..., d_in]."""
        return torch.nn.functional.linear(x, self.W.T, self.b)

    def added(self, to: Tensor, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """`to` plus what `rows` of W make of x, without the bias; both 2-dimensional, `to` stays as it is."""
        return torch.addmm(to, x, self.W[rows])

    def add(self, to: Tensor, x: Tensor) -> None:
        """Add `x @ W + b` to `to`, both [..., width] and `to` contiguous."""
        flat = to.view(-1, to.shape[-1])
        flat.addmm_(x.reshape(-1, x.shape[-1]), self.W)
        if self.b is not None:
            flat.add_(self.b)


@dataclass(frozen=True, eq=False)
class PlainBlock:
    """One block's norms and matrices, as they are on the view.

    Attributes:
        before_attention, before_mlp: over the residual stream.
        of_heads: over each head of Q and K, where there are such norms.
        matrices: by kind, heads stacked.
    """

    before_attention: PlainNorm
    before_mlp: PlainNorm
    of_heads: dict[Kind, PlainNorm]
    matrices: dict[Kind, Linear]

    def __getitem__(self, kind: Kind) -> Linear:
        return self.matrices[kind]


@dataclass(frozen=True, eq=False)
class Arithmetic:
    """A plain model in its own numbers, on a view that must stay as it is meanwhile.

    Attributes:
        blocks: in order.
        heads, kv_heads, d_head: of attention.
        activation: of the MLP.
        final: the norm in front of the unembedding.
        unembedding: to logits.
    """

    view: View
    blocks: tuple[PlainBlock, ...]
    heads: int
    kv_heads: int
    d_head: int
    activation: Callable[[Tensor], Tensor]
    final: PlainNorm
    unembedding: Linear

    @cached_property
    def gated(self) -> bool:
        """Whether the MLP multiplies IN's outputs with GATE's after the activation, or has no GATE."""
        return Kind.GATE in self.blocks[0].matrices

    def embedded(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """The residual stream at the input of block 0 for tokens [n] at positions [n]: [n, d_model]."""
        model = self.view.bridge.original_model
        x: Tensor = model.get_input_embeddings()(tokens[None])[0]
        table = PLAIN[self.view.model.architecture]
        return x.clone() if table is None else x + model.get_submodule(table)(positions[None])[0]

    def rotation(self, positions: Tensor, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines at positions [n], each [n, 1, d_head], in the type of `like`; None without rotation."""
        if PLAIN[self.view.model.architecture] is not None:
            return None
        cos, sin = self.view.bridge.original_model.model.rotary_emb(like[None], positions[None])
        return cos[0][:, None], sin[0][:, None]

    def hidden(self, up: Tensor, gate: Tensor | None) -> Tensor:
        """What OUT reads of IN's outputs (and GATE's); those of one of them may have copies in front."""
        if gate is None:
            return self.activation(up)
        active = self.activation(gate)
        return active.mul_(up) if active.ndim >= up.ndim else active * up


def arithmetic(view: View, longest: int) -> Arithmetic | None:
    """The view's model in its own numbers, for runs of at most `longest` tokens; None for one that is not plain.

    Only for weights in float32 or float64: what is computed in half types depends on the order of every rounding. In
    float64 everything is, where transformers computes some norms and patterns in float32.
    """
    name, config = view.model.architecture, view.bridge.original_model.config
    if name not in PLAIN or view.model.dtype not in ("float32", "float64") or not _usual(config, longest):
        return None
    if PLAIN[name] is None and not hasattr(view.bridge.original_model.model, "rotary_emb"):
        return None
    unembed, places = view.bridge.unembed.original_component, norms(name, config)
    blocks = []
    for layer in range(int(view.config.n_layers)):
        found = {kind: MatrixKey(layer, kind) for kind in kinds(view)}
        linears = {kind: Linear(read(view, key), read_bias(view, key)) for kind, key in found.items()}
        before = [_bare(norm_of(view, layer, place)) for place in (places.attention, places.mlp)]
        attention, mlp = (PlainNorm(norm, places.offset) for norm in before)
        inner = {kind: _bare(norm_of(view, layer, place)) for kind, place in OF_HEADS.get(name, {}).items()}
        of_heads = {kind: PlainNorm(norm) for kind, norm in inner.items()}
        blocks.append(PlainBlock(attention, mlp, of_heads, matrices=linears))
    return Arithmetic(
        view,
        tuple(blocks),
        heads=heads(view, Kind.Q),
        kv_heads=heads(view, Kind.K),
        d_head=int(view.config.d_head),
        activation=ACT2FN[getattr(config, "hidden_act", None) or config.activation_function],
        final=PlainNorm(_bare(view.bridge.ln_final), places.offset),
        unembedding=Linear(unembed.weight.T, getattr(unembed, "bias", None)),
    )


def _usual(config: Any, longest: int) -> bool:
    """Whether this configuration of a plain family computes nothing beside."""
    window = getattr(config, "sliding_window", None)
    narrow = window is not None and getattr(config, "use_sliding_window", True) and window < longest
    scaled = getattr(config, "scale_attn_by_inverse_layer_idx", False)
    partial = (getattr(config, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0) != 1.0
    return not (narrow or scaled or partial or limits(config))


def _bare(norm: Any) -> Any:
    """The Hugging Face module behind a hooked norm."""
    return getattr(norm, "original_component", norm)
