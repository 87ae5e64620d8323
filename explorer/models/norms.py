"""Where each architecture normalises the residual stream: before its matrices read it, and after they write to it.

Nothing here needs a loaded model. A norm in front of a matrix multiplies what it reads by a fixed scale per coordinate
(and a LayerNorm centres and shifts it), which can be folded into the matrix; a norm behind O or OUT cannot, since it
divides by the size of what they write together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.core.keys import Kind

READERS = (Kind.Q, Kind.K, Kind.V, Kind.IN, Kind.GATE)
WRITERS = (Kind.O, Kind.OUT)


@dataclass(frozen=True)
class Norms:
    """The norms of one block, as names of modules inside it.

    Attributes:
        attention: in front of Q, K and V; None if they read the residual stream as it is.
        mlp: in front of IN and GATE; None likewise. May be the same module as `attention`.
        after_attention: between O and the residual stream, if there is one.
        after_mlp: between OUT and the residual stream, if there is one.
        centred: LayerNorm, which subtracts the mean, instead of RMSNorm.
        offset: added to the stored scale (Gemma: 1).
        post: whether the residual stream itself passes through the norms, so that nothing can be folded.
    """

    attention: str | None
    mlp: str | None
    after_attention: str | None = None
    after_mlp: str | None = None
    centred: bool = True
    offset: float = 0.0
    post: bool = False

    def before(self, kind: Kind) -> str | None:
        """The norm in front of a kind that reads the residual stream."""
        return self.attention if kind in (Kind.Q, Kind.K, Kind.V) else self.mlp

    def after(self, kind: Kind) -> str | None:
        """The norm between a kind that writes to the residual stream, and the stream."""
        return self.after_attention if kind is Kind.O else self.after_mlp


_GPT = Norms("ln_1", "ln_2")
_USUAL = ("input_layernorm", "post_attention_layernorm")
_RMS = Norms(*_USUAL, centred=False)
_SANDWICH = Norms(
    "input_layernorm",
    "pre_feedforward_layernorm",
    "post_attention_layernorm",
    after_mlp="post_feedforward_layernorm",
    centred=False,
    offset=1.0,
)
_NORMS: dict[str, Norms] = {
    "GPT2LMHeadModel": _GPT,
    "GPTNeoForCausalLM": _GPT,
    "GPTJForCausalLM": Norms("ln_1", "ln_1"),
    "GPTNeoXForCausalLM": Norms(*_USUAL),
    "PhiForCausalLM": Norms("input_layernorm", "input_layernorm"),
    "Phi3ForCausalLM": _RMS,
    "LlamaForCausalLM": _RMS,
    "MistralForCausalLM": _RMS,
    "Qwen2ForCausalLM": _RMS,
    "Qwen3ForCausalLM": _RMS,
    "GemmaForCausalLM": Norms(*_USUAL, centred=False, offset=1.0),
    "Gemma2ForCausalLM": _SANDWICH,
    "Gemma3ForCausalLM": _SANDWICH,
    "Olmo2ForCausalLM": Norms(
        None, None, "post_attention_layernorm", after_mlp="post_feedforward_layernorm", centred=False
    ),
}


def norms(class_name: str, config: Any) -> Norms:
    """The norms of a Hugging Face class of `explorer.models.architectures` with this configuration."""
    if class_name == "OPTForCausalLM":
        first = bool(config.do_layer_norm_before)
        return Norms("self_attn_layer_norm", "final_layer_norm") if first else Norms(None, None, post=True)
    if class_name == "BloomForCausalLM":
        return Norms(*_USUAL, post=bool(config.apply_residual_connection_post_layernorm))
    if class_name == "FalconForCausalLM":
        if config.new_decoder_architecture:
            return Norms("ln_attn", "ln_mlp")
        return Norms("input_layernorm", "input_layernorm" if config.parallel_attn else "post_attention_layernorm")
    return _NORMS[class_name]
