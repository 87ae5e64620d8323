"""A PEFT adapter: removing values is a change of rank r, so a LoRA holds it without approximation.

Per module `y = x @ W + b` the adapter adds `x @ A^T @ B^T`, times alpha / rank, with the columns of A^T the u_i and the
rows of B^T the -s_i v_i at their places; kinds that share a module (GPT-2's `c_attn`) share a pair. Where more values
are gone than the module is wide, A is the identity and B the whole change. All modules are padded with zeros to one
rank with alpha = rank, which is right for readers that scale by either number alone.

In the basis `delta` the adapter is what is kept of the fine-tuning, on the base model (`explorer.export.tuning`).

Frozen means are `lora_bias`. Readers other than PEFT refuse that, so it is only there if it is needed: not for
`--zero`, and not for K where positions are not rotary (`explorer.export.homes`).
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from explorer.core.errors import ExportError
from explorer.core.files import write_json
from explorer.core.keys import MatrixKey
from explorer.export.base import FolderNotes, Format, Order, base_of
from explorer.export.edit import Edit, columns
from explorer.export.homes import K_LEFT_OUT, without_effect
from explorer.export.tuning import Pair, kept_pairs
from explorer.models.architectures import Architecture, architecture
from explorer.models.matrices import shape

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # values of vLLM's max_lora_rank


def _write(edit: Edit, folder: Path, order: Order) -> FolderNotes:
    stored = architecture(edit.raw.model.source.name, edit.raw.model.architecture)
    against = edit.view.model.against
    pairs = _pairs(edit, stored) if against is None else kept_pairs(edit, against)
    biased = any(bias is not None for _, _, bias in pairs.values())
    rank = _rank(max(1, *(A.shape[0] for A, _, _ in pairs.values())), order.reader, biased=biased)
    dtype = torch.promote_types(getattr(torch, edit.raw.model.dtype), torch.float32)
    tensors = {}
    for name, (A, B, bias) in pairs.items():
        place = f"base_model.model.{name}"
        more = rank - A.shape[0]
        tensors[f"{place}.lora_A.weight"] = torch.nn.functional.pad(A, (0, 0, 0, more)).to(dtype).contiguous()
        tensors[f"{place}.lora_B.weight"] = torch.nn.functional.pad(B, (0, more)).to(dtype).contiguous()
        if biased:
            tensors[f"{place}.lora_B.bias"] = (B.new_zeros(len(B)) if bias is None else bias).to(dtype)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    base, revision = base_of(edit.raw.model.source if against is None else against.source)
    digest = edit.view.model.digest if against is None else against.weights
    revision = revision or digest  # no commit of the hub, but it tells whose adapter this is
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "revision": revision,
        "inference_mode": True, "r": rank, "lora_alpha": rank, "lora_dropout": 0.0, "bias": "none",
        "lora_bias": biased, "target_modules": sorted(pairs), "fan_in_fan_out": stored.conv1d,
    }  # fmt: skip
    write_json(folder / "adapter_config.json", config)
    alone = "PEFT and lm-eval (`peft=`). vLLM and llama.cpp refuse its biases: for these export with --zero."
    readers = alone if biased else f"PEFT, lm-eval (`peft=`), vLLM (`max_lora_rank` {rank} or more) and llama.cpp."
    gone = [key for key, change in edit.changes.items() if change.bias is not None and without_effect(edit.raw, key)]
    notes = [K_LEFT_OUT] if gone else []
    if against is not None:
        notes.append(f"It is what is left of the fine-tuning, as an adapter on {base}.")
    said = f"Rank {rank} in {len(pairs):,} modules, alpha {rank}."
    return FolderNotes(readers, (said, *notes), None if against is None else against.source)


def _pairs(edit: Edit, stored: Architecture) -> dict[str, Pair]:
    """A, B and bias of every module that a mask changes."""
    modules: dict[str, list[MatrixKey]] = {}
    for key in edit.changes:
        modules.setdefault(stored.module(key.layer, key.kind), []).append(key)
    return {name: _pair(edit, keys) for name, keys in modules.items()}


def _pair(edit: Edit, keys: list[MatrixKey]) -> Pair:
    """A, B and bias of one module, from the changes of the matrices that it stores."""
    d_in, d_out = shape(edit.raw, keys[0])[0], columns(edit.raw, keys[0])[1]
    A, B = torch.zeros(0, d_in, dtype=torch.float64), torch.zeros(d_out, 0, dtype=torch.float64)
    bias, biased = torch.zeros(d_out, dtype=torch.float64), False
    for key in keys:
        change = edit.changes[key]
        outputs = columns(edit.raw, key)[0]
        part = torch.zeros(d_out, change.rank, dtype=torch.float64)
        part[outputs] = change.right.T
        A, B = torch.cat([A, change.left.T]), torch.cat([B, part], dim=1)
        if change.bias is not None and not without_effect(edit.raw, key):
            bias[outputs], biased = change.bias, True
    if len(A) > min(d_in, d_out):
        A, B = _narrowed(B @ A)
    return A, B, bias if biased else None


def _narrowed(weight: Float[Tensor, "d_out d_in"]) -> tuple[Tensor, Tensor]:
    """A pair of the narrower side's rank whose product is the whole change."""
    d_out, d_in = weight.shape
    eye = torch.eye(min(d_in, d_out), dtype=weight.dtype)
    return (eye, weight) if d_in <= d_out else (weight, eye)


def _rank(largest: int, reader: str, *, biased: bool) -> int:
    if reader != "vllm":
        return largest
    if biased:
        raise ExportError(
            "vLLM reads no biases of adapters, and this mask freezes means: export with --zero, or --as checkpoint."
        )
    fitting = [rank for rank in VLLM_RANKS if rank >= largest]
    if not fitting:
        raise ExportError(
            f"the mask needs an adapter of rank {largest:,}, vLLM takes up to {VLLM_RANKS[-1]}: export --as checkpoint."
        )
    return fitting[0]


LORA = Format(
    label="LoRA adapter",
    about="The change alone, as a PEFT adapter of exactly its rank on the unpruned model.",
    client="peft",
    snippet="from peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
    "base = AutoModelForCausalLM.from_pretrained({base})\n"
    "model = PeftModel.from_pretrained(base, {folder})\n",
    write=_write,
    library="peft",
)
