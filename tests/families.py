"""Tiny random models of every architecture of the registry, from the real configuration classes, with what they hold.

Grouped KV heads, heads that are not d_model / n_heads wide, biases, windows and soft caps where the family has them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from transformers import PreTrainedConfig, PreTrainedModel

from explorer.core.keys import Kind
from tests import tiny

GATED = tuple(Kind)
PLAIN = tuple(kind for kind in Kind if kind is not Kind.GATE)
HIDDEN, INNER, HEADS, LAYERS, POSITIONS, WINDOW = 16, 20, 4, 2, 16, 3
_ENDS = {"vocab_size": len(tiny.WORDS), "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
_MODERN = {
    **_ENDS,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": POSITIONS,
    "tie_word_embeddings": False,
}
_GPT = {**_ENDS, "n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "n_positions": POSITIONS, "n_inner": INNER}
_FALCON = {**_MODERN, "ffn_hidden_size": INNER, "alibi": False}


@dataclass(frozen=True)
class Family:
    """One configuration of one architecture.

    Attributes:
        config: its class and the arguments that differ from the common ones.
        kinds: the kinds of matrix that it has.
        kv_heads: number of KV heads.
        d_head: width of a head.
        inner: width of the MLP.
        biased: kinds that have a bias in the checkpoint.
        fused: kinds that share a module with another kind in the checkpoint.
        copied: whether the fused kinds run on a copy of their part of that module, not on a view of it.
    """

    config: Callable[..., PreTrainedConfig]
    options: dict[str, Any]
    kinds: tuple[Kind, ...] = GATED
    kv_heads: int = HEADS
    d_head: int = HIDDEN // HEADS
    inner: int = INNER
    biased: str = ""
    fused: str = ""
    copied: bool = False

    def build(self) -> PreTrainedModel:
        """The model with random weights, biases and norms too, so that nothing is zero or one by accident."""
        torch.manual_seed(7)
        model: PreTrainedModel = hf.AutoModelForCausalLM.from_config(self.config(**self.options))
        model.config.architectures = [type(model).__name__]
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                norm = "norm" in name or ".ln_" in name
                centred = "gemma" in model.config.model_type
                centre = 1.0 if norm and name.endswith("weight") and not centred else 0.0
                parameter.normal_(mean=centre, std=0.35)
        return model

    def save(self, folder: Path) -> Path:
        """Write the model and the tiny tokenizer as a Hugging Face folder."""
        self.build().save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
        return folder

    def shape(self, kind: Kind) -> tuple[int, int]:
        """`[d_in, d_out]` of the stacked matrix."""
        queries, grouped = HEADS * self.d_head, self.kv_heads * self.d_head
        return {
            Kind.Q: (HIDDEN, queries),
            Kind.K: (HIDDEN, grouped),
            Kind.V: (HIDDEN, grouped),
            Kind.O: (queries, HIDDEN),
            Kind.OUT: (self.inner, HIDDEN),
        }.get(kind, (HIDDEN, self.inner))


def _grouped(
    config: Callable[..., PreTrainedConfig], biased: str = "", d_head: int = 6, fused: str = "", **options: Any
) -> Family:
    """Grouped KV heads; heads of 6 where the family lets them differ from 16 / 4."""
    sizes = {**_MODERN, "num_key_value_heads": 2, **options}
    return Family(config, sizes, kv_heads=2, d_head=d_head, biased=biased, fused=fused)


ALL = "Q K V O IN GATE OUT"
# Sliding windows are narrower than the prompts of the tests, partial rotations and soft caps are in force.
FAMILIES: dict[str, Family] = {
    "gpt2": Family(hf.GPT2Config, _GPT, PLAIN, biased=ALL, fused="Q K V"),
    "gpt2-scaled": Family(
        hf.GPT2Config,
        {**_GPT, "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
        PLAIN,
        biased=ALL,
        fused="Q K V",
    ),
    "gpt-neo": Family(
        hf.GPTNeoConfig,
        {
            **_ENDS,
            "hidden_size": HIDDEN,
            "num_layers": LAYERS,
            "num_heads": HEADS,
            "intermediate_size": INNER,
            "max_position_embeddings": POSITIONS,
            "attention_types": [[["global", "local"], 1]],
            "window_size": WINDOW,
        },
        PLAIN,
        biased="O IN OUT",
    ),
    "gpt-j": Family(hf.GPTJConfig, {**_GPT, "rotary_dim": 2, "tie_word_embeddings": False}, PLAIN, biased="IN OUT"),
    "neox": Family(hf.GPTNeoXConfig, {**_MODERN, "rotary_pct": 0.5}, PLAIN, biased=ALL, fused="Q K V", copied=True),
    "neox-sequential": Family(
        hf.GPTNeoXConfig,
        {**_MODERN, "use_parallel_residual": False},
        PLAIN,
        biased=ALL,
        fused="Q K V",
        copied=True,
    ),
    "opt": Family(
        hf.OPTConfig,
        {**_MODERN, "ffn_dim": INNER, "word_embed_proj_dim": HIDDEN, "tie_word_embeddings": True},
        PLAIN,
        biased=ALL,
    ),
    "opt-post-norm": Family(
        hf.OPTConfig,
        {**_MODERN, "ffn_dim": INNER, "word_embed_proj_dim": 8, "do_layer_norm_before": False},
        PLAIN,
        biased=ALL,
    ),
    "phi": Family(hf.PhiConfig, _MODERN, PLAIN, biased=ALL),
    "phi-grouped": Family(hf.PhiConfig, {**_MODERN, "num_key_value_heads": 2}, PLAIN, 2, biased=ALL),
    "phi3": _grouped(hf.Phi3Config, d_head=4, fused="Q K V IN GATE", sliding_window=WINDOW),
    "llama": _grouped(hf.LlamaConfig, head_dim=6),
    "llama-biased": _grouped(hf.LlamaConfig, ALL, head_dim=6, attention_bias=True, mlp_bias=True),
    "mistral": _grouped(hf.MistralConfig, head_dim=6, sliding_window=WINDOW),
    "qwen2": _grouped(
        hf.Qwen2Config, "Q K V", d_head=4, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "qwen3": _grouped(hf.Qwen3Config, head_dim=6),
    "qwen3-biased": _grouped(hf.Qwen3Config, "Q K V O", head_dim=6, attention_bias=True),
    "gemma": _grouped(hf.GemmaConfig, head_dim=6, tie_word_embeddings=True),
    "gemma2": _grouped(
        hf.Gemma2Config,
        head_dim=6,
        tie_word_embeddings=True,
        sliding_window=WINDOW,
        query_pre_attn_scalar=5,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    ),
    "gemma3": _grouped(
        hf.Gemma3TextConfig,
        head_dim=6,
        tie_word_embeddings=True,
        sliding_window=WINDOW,
        query_pre_attn_scalar=5,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "olmo2": _grouped(hf.Olmo2Config, d_head=4),
    "falcon": Family(
        hf.FalconConfig, {**_FALCON, "multi_query": True, "bias": False}, PLAIN, 1, fused="Q K V", copied=True
    ),
    "falcon-grouped": Family(
        hf.FalconConfig,
        {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2},
        PLAIN,
        2,
        fused="Q K V",
        copied=True,
    ),
    "falcon-heads": Family(
        hf.FalconConfig,
        {**_FALCON, "multi_query": False, "parallel_attn": False, "bias": True},
        PLAIN,
        biased=ALL,
        fused="Q K V",
        copied=True,
    ),
    "bloom": Family(
        hf.BloomConfig,
        {**_ENDS, "hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": HEADS},
        PLAIN,
        inner=4 * HIDDEN,
        biased=ALL,
        fused="Q K V",
        copied=True,
    ),
}
