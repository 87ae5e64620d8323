"""Removing singular values by hand in the plain model, slowly: what scores are compared with.

Nothing here imports the engine's passes, edits or decompositions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch

from explorer.core.keys import MatrixKey
from explorer.masks.mask import Mask
from explorer.tasks import Task
from tests import plain

STEP = 1e-3


def encoded(task: Task) -> list[plain.Encoded]:
    """The train split as ids."""
    return [plain.encode_words(example) for example in task.train]


def mean_read(model: Any, key: MatrixKey, svd: tuple[plain.Array, ...], task: Task) -> plain.Array:
    """m . u_i of every value, over all tokens of the train split."""
    c: plain.Array = plain.record(model, key, encoded(task)).x.mean(axis=0) @ svd[0]
    return c


def removal_path(
    model: Any, key: MatrixKey, svd: tuple[plain.Array, ...], index: int, c: float, task: Task, step: float = -1
) -> Callable[[float], float]:
    """Mean loss on the way, from 0 to 1, to where one value is removed (step -1), put back (1), or scaled (between)."""
    u, s, vh = (torch.tensor(part) for part in svd)
    where = plain.site(model, key)

    def loss(t: float) -> float:
        def change(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            moved = y.clone()
            read = x[..., where.rows] @ u[:, index] - c
            moved[..., where.columns] += t * step * s[index] * read[..., None] * vh[index]
            return moved

        with plain.on_output(where.module, change):
            return plain.mean_loss(model, encoded(task))

    return loss


def derivative(f: Callable[[float], float], h: float = STEP) -> float:
    """Central difference of fourth order at 0."""
    return (f(-2 * h) - 8 * f(-h) + 8 * f(h) - f(2 * h)) / (12 * h)


def second_derivative(f: Callable[[float], float], h: float = 10 * STEP) -> float:
    """Central difference of fourth order at 0."""
    return (-f(-2 * h) + 16 * f(-h) - 30 * f(0) + 16 * f(h) - f(2 * h)) / (12 * h**2)


def without(model: Any, values: Sequence[tuple[MatrixKey, int, float | None]], gain: float = 0.0) -> Any:
    """A copy of the plain model without some values, or with a share of them: (matrix, index, c), c None for zero."""
    edited = copy.deepcopy(model)
    for key, index, c in values:
        u, s, vh = (torch.tensor(part) for part in plain.svd(model, key))
        where = plain.site(edited, key)
        where.weight().sub_((1 - gain) * s[index] * torch.outer(u[:, index], vh[index]))
        if c is not None:
            if where.module.bias is None:
                where.module.bias = torch.nn.Parameter(where.module.weight.new_zeros(where.module.weight.shape[0]))
            where.module.bias.data[where.columns] += (1 - gain) * s[index] * c * vh[index]
    return edited


def masked(model: Any, mask: Mask) -> Any:
    """A copy of the plain model with a mask put onto it by hand."""
    freeze = mask.mode == "freeze"
    return without(model, [(one.key, one.index, one.c if freeze else None) for one in mask.removed], mask.gain)
