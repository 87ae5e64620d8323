"""One Python file that puts the mask onto a model in memory, and takes it off: for transformers and TransformerLens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from explorer.export import eigenprune_hooks
from explorer.export.base import FolderNotes, Format, Order
from explorer.export.checkpoint import stamp
from explorer.export.edit import Edit, columns
from explorer.models.architectures import architecture
from explorer.models.matrices import output_hook

FILE, TENSORS = "eigenprune_hooks.py", "edit.safetensors"


def _write(edit: Edit, folder: Path, order: Order) -> FolderNotes:
    stored = architecture(edit.raw.model.source.name, edit.raw.model.architecture)
    dtype = torch.promote_types(getattr(torch, edit.raw.model.dtype), torch.float32)
    places, tensors = {}, {}
    for key, change in edit.changes.items():
        places[str(key)] = {
            "module": stored.module(key.layer, key.kind),
            "bridge": output_hook(key).replace(".hook_out", ".original_component"),
        }
        tensors[f"{key}/left"], tensors[f"{key}/right"] = change.left.to(dtype), change.right.to(dtype)
        if change.bias is not None:
            tensors[f"{key}/bias"] = change.bias.to(dtype)
        outputs, width = columns(edit.raw, key)
        if len(outputs) < width:
            tensors[f"{key}/columns"] = outputs
    said = {"places": json.dumps(places), "eigenprune": json.dumps(stamp(edit))}
    save_file({name: one.contiguous() for name, one in tensors.items()}, folder / TENSORS, metadata=said)
    shutil.copyfile(eigenprune_hooks.__file__, folder / FILE)
    return FolderNotes("Any program with the model in memory, as transformers loads it or as a TransformerLens bridge.")


HOOKS = Format(
    label="Python hooks",
    about="A short Python file and its numbers, which put the change onto a model in memory and take it off again.",
    client="transformers",
    snippet="import sys\n\nfrom transformers import AutoModelForCausalLM\n\n"
    "sys.path.append({folder})\nfrom eigenprune_hooks import apply\n\n"
    "model = AutoModelForCausalLM.from_pretrained({base})\nundo = apply(model)\n",
    write=_write,
    hub_snippet="import sys\n\nfrom huggingface_hub import snapshot_download\nfrom transformers import "
    "AutoModelForCausalLM\n\nsys.path.append(snapshot_download({repo}))\nfrom eigenprune_hooks import apply\n\n"
    "model = AutoModelForCausalLM.from_pretrained({base})\nundo = apply(model)\n",
)
