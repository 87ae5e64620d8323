"""Fine-tunes: a tiny model, or the bundled one, changed by known amounts and saved as a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from explorer.core.config import ASSETS
from explorer.core.keys import MatrixKey
from explorer.models import Model
from explorer.models.matrices import hf_weights, read, replace
from tests import tiny


def tuned(model: Model, arch: str, folder: Path, changes: dict[MatrixKey, Tensor]) -> Path:
    """Write `model` with each difference `[d_in, d_out]` added to its matrix."""
    view = model.view()
    for key, difference in changes.items():
        replace(view, key, read(view, key) + difference.to(read(view, key)))
    copy = tiny.architecture(arch)
    copy.load_state_dict({name: weight.float() for name, weight in hf_weights(view).items()})
    copy.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def tuned_bundled(folder: Path) -> Path:
    """Write the bundled model with a change of rank 1 in the MLP output of layer 2, and a small one everywhere."""
    copy: Any = AutoModelForCausalLM.from_pretrained(ASSETS / "bundled", dtype=torch.float32)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in copy.named_parameters():
            weight.add_(1e-3 * torch.randn_like(weight))
            if name.endswith("h.2.mlp.c_proj.weight"):
                weight.add_(0.05 * torch.outer(torch.randn(weight.shape[0]), torch.randn(weight.shape[1])))
    copy.save_pretrained(folder)
    AutoTokenizer.from_pretrained(ASSETS / "bundled").save_pretrained(folder)
    return folder


def low_rank(d_in: int, d_out: int, rank: int, size: float = 0.1) -> Tensor:
    """A random difference of a rank, the same each time."""
    generator = torch.Generator().manual_seed(d_in * d_out + rank)
    left, right = (torch.randn(*shape, generator=generator) for shape in ((d_in, rank), (rank, d_out)))
    return size * (left @ right)
