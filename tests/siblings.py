"""A fine-tune of a tiny model: one matrix changed by a known amount, saved as a folder of its own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from explorer.keys import MatrixKey
from explorer.models import Model
from explorer.registry import hf_weights, read, replace
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


def low_rank(d_in: int, d_out: int, rank: int, size: float = 0.1) -> Tensor:
    """A random difference of a rank, the same each time."""
    generator = torch.Generator().manual_seed(d_in * d_out + rank)
    left, right = (torch.randn(*shape, generator=generator) for shape in ((d_in, rank), (rank, d_out)))
    return size * (left @ right)
