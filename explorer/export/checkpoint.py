"""A Hugging Face folder: the pruned model as an ordinary checkpoint, which says in its configuration what it is.

Weights are in the type that the model is loaded in, in files about as large as the source's. The tokenizer's files, the
chat template and the generation settings are the source's own, byte by byte.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from explorer.export.base import FolderNotes, Format, Order, base_of
from explorer.export.edit import Edit
from explorer.export.homes import settled
from explorer.models.files import model_files

FIELD = "eigenprune"  # of config.json
# What belongs to a model beside its weights and its configuration.
COPIED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "tekken.json", "chat_template.jinja",
    "chat_template.json", "generation_config.json",
)  # fmt: skip


def stamp(edit: Edit) -> dict[str, Any]:
    """What tells the pruned model from the one that it was made of."""
    base, revision = base_of(edit.view.model.source)
    return {
        "mask_digest": edit.mask.digest, "removed": len(edit.mask), "mode": edit.mask.mode, "gain": edit.mask.gain,
        "base_model": base, "base_revision": revision, "base_digest": edit.view.model.digest,
    }  # fmt: skip


def _write(edit: Edit, folder: Path, order: Order) -> FolderNotes:
    notes = save(edit, folder)
    return FolderNotes("transformers, and whatever reads Hugging Face folders (vLLM, lm-eval, this tool).", notes)


def save(edit: Edit, folder: Path) -> tuple[str, ...]:
    """Write the pruned model as a Hugging Face folder; says in sentences what was done beside.

    Raises:
        ExportError: a bias that no checkpoint of this class can hold.
    """
    import transformers

    found = settled(edit)
    model, source = edit.raw.model, edit.raw.model.source
    setattr(found.config, FIELD, stamp(edit))
    found.config.dtype = getattr(torch, model.dtype)
    found.config.architectures = [model.architecture]
    with torch.device("meta"):
        plain: Any = getattr(transformers, model.architecture)(found.config)
    plain.load_state_dict(found.weights, assign=True)
    plain.tie_weights()
    plain.save_pretrained(folder, max_shard_size=_shard(edit))
    for name in COPIED:
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, folder / name)
    return found.notes


def _shard(edit: Edit) -> int:
    """Bytes of a file of weights: as many weights as the source's largest file has."""
    files = model_files(edit.raw.model.source)
    if len(files.weights) == 1:
        return 1 << 62
    bytes_per_weight: int = getattr(torch, edit.raw.model.dtype).itemsize
    counts = dict.fromkeys(files.weights, 0)
    for one in files.tensors.values():
        counts[one.path] += torch.Size(one.shape).numel()
    return max(counts.values()) * bytes_per_weight


CHECKPOINT = Format(
    label="Hugging Face checkpoint",
    about="The pruned model as an ordinary model folder: safetensors, configuration, tokenizer.",
    client="transformers",
    snippet="from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
    "model = AutoModelForCausalLM.from_pretrained({folder})\n"
    "tokenizer = AutoTokenizer.from_pretrained({folder})\n",
    write=_write,
    library="transformers",
)
