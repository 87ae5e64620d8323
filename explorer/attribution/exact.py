"""The exact effect of every singular value: the slow reference that every estimate is compared with."""

from __future__ import annotations

import torch

from explorer.attribution.base import MatrixScores, Request
from explorer.attribution.passes import mean_loss, unscored
from explorer.edit import apply, empty_mask
from explorer.keys import MatrixKey
from explorer.masks import Removed
from explorer.progress import part, track


def exact(request: Request) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """Measured change of the loss for every value alone: one forward pass over the examples per value."""
    loss, values = unscored(request)
    empty = empty_mask(request.view.model, request.mode)
    effects = {key: torch.zeros_like(matrix.score) for key, matrix in values.items()}
    places = [(key, index) for key, matrix in values.items() for index in range(len(matrix.s))]
    try:
        for key, index in track(places, part(request.progress, 0.05, 1.0)):
            matrix = values[key]
            value = Removed(matrix=str(key), index=index, sigma=float(matrix.s[index]), c=float(matrix.c[index]))
            apply(request.view, empty.with_removed([value]), request.svds)
            effects[key][index] = mean_loss(request) - loss
    finally:
        apply(request.view, empty, request.svds)
    return loss, {key: MatrixScores(matrix.s, effects[key], matrix.c) for key, matrix in values.items()}
