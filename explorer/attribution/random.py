"""The control: scores that know nothing."""

from __future__ import annotations

import torch

from explorer.attribution.base import MatrixScores, Request
from explorer.attribution.passes import unscored
from explorer.keys import MatrixKey


def random(request: Request) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """The control: standard normal scores by seed. They predict nothing; only their order means anything."""
    loss, values = unscored(request)
    generator = torch.Generator().manual_seed(request.seed)
    return loss, {
        key: MatrixScores(matrix.s, torch.randn(len(matrix.s), generator=generator, dtype=matrix.score.dtype), matrix.c)
        for key, matrix in values.items()
    }
