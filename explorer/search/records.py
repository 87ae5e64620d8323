"""Scores, measurements and tensors as bytes for a search's journal, and back with the same bits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from explorer.attribution import MatrixScores
from explorer.core.keys import MatrixKey
from explorer.masks.mask import Mask, Removed
from explorer.measure.evaluate import Evaluation
from explorer.tasks import Example

FIELDS = ("s", "score", "c", "stderr", "uncertain")


def pack_tensors(tensors: Mapping[str, Tensor], numbers: Mapping[str, float] | None = None) -> bytes:
    """Named tensors, and named numbers, kept as float64."""
    given = {f"t/{name}": one.detach().cpu().contiguous().clone() for name, one in tensors.items()}
    given |= {f"n/{name}": torch.tensor(number, dtype=torch.float64) for name, number in (numbers or {}).items()}
    return save(given)


def unpack_tensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, float]]:
    """What `pack_tensors` was given; tensors on the CPU."""
    found = load(data)
    tensors = {name[2:]: one for name, one in found.items() if name.startswith("t/")}
    return tensors, {name[2:]: float(one) for name, one in found.items() if name.startswith("n/")}


def pack_matrices(matrices: Mapping[MatrixKey, MatrixScores]) -> dict[str, Tensor]:
    """The tensors of scores, named `L0.Q/score`."""
    named = {f"{key}/{field}": getattr(one, field) for key, one in matrices.items() for field in FIELDS}
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def unpack_matrices(tensors: Mapping[str, Tensor], keys: Sequence[MatrixKey]) -> dict[MatrixKey, MatrixScores]:
    """Scores of `keys`, in their order."""
    return {key: MatrixScores(**{field: tensors.get(f"{key}/{field}") for field in FIELDS}) for key in keys}  # type: ignore[arg-type]


def pack_point(mask: Mask, train: Evaluation | None, validation: Evaluation, growth: float | None = None) -> bytes:
    """What a mask removes, and what was measured with it; the examples are left out."""
    removed = [(one.matrix, one.index, one.sigma, one.c) for one in mask.removed]
    parts = {
        "removed": removed,
        "train": None if train is None else pack_evaluation(train),
        "validation": pack_evaluation(validation),
        "growth": growth,
    }
    return json.dumps(parts).encode()


def unpack_point(
    data: bytes, train: tuple[Example, ...], validation: tuple[Example, ...]
) -> tuple[tuple[Removed, ...], Evaluation | None, Evaluation, float | None]:
    """What `pack_point` was given, on the examples that it was measured on."""
    parts = json.loads(data)
    removed = tuple(Removed(matrix=m, index=i, sigma=sigma, c=c) for m, i, sigma, c in parts["removed"])
    seen = None if parts["train"] is None else unpack_evaluation(parts["train"], train)
    return removed, seen, unpack_evaluation(parts["validation"], validation), parts["growth"]


def pack_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as plain values, without its examples."""
    return {one.name: getattr(evaluation, one.name) for one in fields(evaluation) if one.name != "examples"}


def unpack_evaluation(figures: Mapping[str, Any], examples: tuple[Example, ...]) -> Evaluation:
    """What `pack_evaluation` was given, on the examples that it was measured on."""
    kept = {name: tuple(value) if isinstance(value, list) else value for name, value in figures.items()}
    return Evaluation(examples, **kept)  # type: ignore[arg-type]
