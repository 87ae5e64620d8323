"""How each architecture's checkpoint stores its Q, K, V, O, IN, GATE and OUT matrices, and which models are refused.

Nothing here needs a loaded model. Most checkpoints keep one module per matrix. Where several kinds share one (`fused`),
their outputs lie in it one after the other: either all of Q, then all of K, then all of V (GPT-2's columns, Phi-3's
rows, and Phi-3's GATE before IN), or so within each group of one KV head and its query heads (`grouped`: GPT-NeoX,
BLOOM, Falcon).

Memory: the hooked model runs on split Q, K and V. For GPT-2 and Phi-3 these are views of the checkpoint's own weights;
grouped storage cannot be viewed that way, so GPT-NeoX, BLOOM and Falcon hold their Q, K and V twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from explorer.core.errors import ModelError
from explorer.core.keys import Kind


@dataclass(frozen=True)
class Architecture:
    """Storage of one Hugging Face class.

    Attributes:
        blocks: name of the list of blocks in the Hugging Face model.
        modules: the module inside a block that stores each kind; kinds that share one are in the order of storage.
        grouped: whether kinds that share a module alternate, one KV head and its query heads at a time.
        conv1d: whether weights are stored as `[d_in, d_out]` instead of `[d_out, d_in]`.
    """

    blocks: str
    modules: Mapping[Kind, str]
    grouped: bool = False
    conv1d: bool = False

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of matrix there are, in canonical order."""
        return tuple(kind for kind in Kind if kind in self.modules)

    def module(self, layer: int, kind: Kind) -> str:
        """Full name of the module that stores a matrix; its parameters are `<module>.weight` and `<module>.bias`."""
        return f"{self.blocks}.{layer}.{self.modules[kind]}"

    def sharing(self, kind: Kind) -> tuple[Kind, ...]:
        """The kinds that are stored in the same module as `kind`, itself among them, in the order of storage."""
        return tuple(other for other, module in self.modules.items() if module == self.modules[kind])

    def outputs(self, kind: Kind, widths: Mapping[Kind, int], kv_heads: int) -> Int[Tensor, " d_out"]:
        """Which output coordinates of its module are those of a kind, in the kind's own order (heads one by one).

        Args:
            kind: the kind.
            widths: `d_out` of every kind that shares the module.
            kv_heads: number of KV heads.
        """
        groups = kv_heads if self.grouped and kind.has_heads else 1
        parts = {other: widths[other] // groups for other in self.sharing(kind)}
        before = sum(list(parts.values())[: list(parts).index(kind)])
        starts = torch.arange(groups) * sum(parts.values()) + before
        return (starts[:, None] + torch.arange(parts[kind])).flatten()


def _modules(qkv: str, o: str, mlp_in: str, mlp_out: str, gate: str | None = None) -> dict[Kind, str]:
    """Modules by kind; `qkv` names one module for all three, or holds a `?` where q, k and v differ."""
    attention = {kind: qkv.replace("?", kind.lower()) for kind in (Kind.Q, Kind.K, Kind.V)}
    gated = {} if gate is None else {Kind.GATE: gate}
    return {**attention, Kind.O: o, **gated, Kind.IN: mlp_in, Kind.OUT: mlp_out}


_LLAMA = Architecture(
    "model.layers",
    _modules("self_attn.?_proj", "self_attn.o_proj", "mlp.up_proj", mlp_out="mlp.down_proj", gate="mlp.gate_proj"),
)
_HALVES = ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h")

# By the name of the Hugging Face class: every one is tested against plain transformers.
ARCHITECTURES: dict[str, Architecture] = {
    "GPT2LMHeadModel": Architecture(
        "transformer.h", _modules("attn.c_attn", "attn.c_proj", "mlp.c_fc", mlp_out="mlp.c_proj"), conv1d=True
    ),
    "GPTNeoForCausalLM": Architecture(
        "transformer.h",
        _modules("attn.attention.?_proj", "attn.attention.out_proj", "mlp.c_fc", mlp_out="mlp.c_proj"),
    ),
    "GPTJForCausalLM": Architecture(
        "transformer.h", _modules("attn.?_proj", "attn.out_proj", "mlp.fc_in", mlp_out="mlp.fc_out")
    ),
    "GPTNeoXForCausalLM": Architecture(
        "gpt_neox.layers", _modules("attention.query_key_value", "attention.dense", *_HALVES), grouped=True
    ),
    "OPTForCausalLM": Architecture(
        "model.decoder.layers", _modules("self_attn.?_proj", "self_attn.out_proj", "fc1", mlp_out="fc2")
    ),
    "PhiForCausalLM": Architecture(
        "model.layers", _modules("self_attn.?_proj", "self_attn.dense", "mlp.fc1", mlp_out="mlp.fc2")
    ),
    "Phi3ForCausalLM": Architecture(
        "model.layers",
        _modules(
            "self_attn.qkv_proj",
            "self_attn.o_proj",
            "mlp.gate_up_proj",
            mlp_out="mlp.down_proj",
            gate="mlp.gate_up_proj",
        ),
    ),
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "Qwen2ForCausalLM": _LLAMA,
    "Qwen3ForCausalLM": _LLAMA,
    "GemmaForCausalLM": _LLAMA,
    "Gemma2ForCausalLM": _LLAMA,
    "Gemma3ForCausalLM": _LLAMA,
    "Olmo2ForCausalLM": _LLAMA,
    "FalconForCausalLM": Architecture(
        "transformer.h", _modules("self_attention.query_key_value", "self_attention.dense", *_HALVES), grouped=True
    ),
    "BloomForCausalLM": Architecture(
        "transformer.h", _modules("self_attention.query_key_value", "self_attention.dense", *_HALVES), grouped=True
    ),
}

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_experts_per_tok")
# Configurations of supported classes that the hooks would run wrongly or not at all: class, test, reason.
_REFUSED: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "GPT2LMHeadModel",
        lambda config: not config.scale_attn_weights,
        "attention scores that are not scaled (scale_attn_weights is false), which the hooks would scale",
    ),
    (
        "PhiForCausalLM",
        lambda config: bool(config.qk_layernorm),
        "norms on its queries and keys (qk_layernorm), which the hooks would leave out",
    ),
    (
        "GPTNeoXForCausalLM",
        lambda config: not config.attention_bias,
        "attention without biases (attention_bias is false), which the hooks cannot split into Q, K and V",
    ),
    (
        "FalconForCausalLM",
        lambda config: bool(config.alibi),
        "ALiBi positions, which the hooks would add to the attention scores twice",
    ),
    (
        "FalconForCausalLM",
        lambda config: bool(config.new_decoder_architecture) and config.num_ln_in_parallel_attn == 1,
        "one layer norm before both halves of a block, which the hooks do not know in its new decoder",
    ),
    (
        "OPTForCausalLM",
        lambda config: (
            config.word_embed_proj_dim == config.hidden_size
            and (not config.do_layer_norm_before or config._remove_final_layer_norm)
        ),
        "no final layer norm, which the hooks expect where the embedding is as wide as the blocks",
    ),
)


def architecture(model: str, class_name: str) -> Architecture:
    """The entry of a Hugging Face class.

    Args:
        model: the model's name, for the message.
        class_name: for example `LlamaForCausalLM`.

    Raises:
        ModelError: there is none.
    """
    if class_name not in ARCHITECTURES:
        raise ModelError(
            f"{model} is a {class_name}, whose matrices are not in the registry: "
            f"supported are {', '.join(ARCHITECTURES)}."
        )
    return ARCHITECTURES[class_name]


def check_config(model: str, class_name: str, config: Any) -> None:
    """Refuse, by name and with the reason, a model whose weights cannot be edited faithfully.

    Args:
        model: the model's name, for the message.
        class_name: the Hugging Face class that the configuration builds.
        config: the Hugging Face configuration.

    Raises:
        ModelError: mixture of experts, quantised weights, an unknown class, a model that sees what comes later, or an
            unsupported variant of a known class.
    """
    quantised = getattr(config, "quantization_config", None)
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise ModelError(
            f"{model} stores quantised weights ({method or type(quantised).__name__}), whose rounding would swallow an "
            "edit: give the model with its full-precision weights."
        )
    experts = [getattr(config, name, None) for name in _EXPERTS]
    if any(isinstance(count, int) and count > 1 for count in experts):
        raise ModelError(
            f"{model} is a {class_name}, a mixture of experts: a router sends each token to a few of many IN and OUT "
            "matrices, so they have no single mean input to freeze; give a dense model."
        )
    architecture(model, class_name)
    if not getattr(config, "is_causal", True) or getattr(config, "use_bidirectional_attention", False):
        raise ModelError(
            f"{model} is a {class_name} whose positions see later ones (is_causal is false or "
            "use_bidirectional_attention is set): it does not predict next tokens; give a causal model."
        )
    for name, applies, reason in _REFUSED:
        if class_name == name and applies(config):
            raise ModelError(f"{model} is a {class_name} with {reason}: its matrices cannot be edited faithfully.")
