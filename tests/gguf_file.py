"""A tiny Llama as a .gguf file, written by the format's own library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

from tests.families import FAMILIES, HEADS, HIDDEN, INNER, LAYERS, POSITIONS

TOKENS = ["<bos>", "<unk>", *(chr(97 + i) for i in range(19)), "ab"]
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write(
    path: Path, *, layers: int = LAYERS, left_out: str = "", added: Mapping[str, tuple[int, ...]] | None = None
) -> Path:
    """Write the file.

    Args:
        path: where.
        layers: what its field `llama.block_count` says.
        left_out: name of a tensor that it lacks.
        added: further tensors of ones, shape by name.
    """
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_key_length(6)
    writer.add_value_length(6)
    writer.add_rope_dimension_count(6)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, *[1] * (len(TOKENS) - 2)])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name, tensor in FAMILIES["llama"].build().state_dict().items():
        module = name.removesuffix(".weight")
        _, _, rest = module.partition("layers.")
        layer, _, part = rest.partition(".")
        stored = f"blk.{layer}.{_NAMES[part]}.weight" if rest else f"{_NAMES[module]}.weight"
        if stored != left_out:
            writer.add_tensor(stored, tensor.float().numpy())
    for name, shape in (added or {}).items():
        writer.add_tensor(name, np.ones(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
