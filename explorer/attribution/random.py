"""The control: scores that know nothing."""

from __future__ import annotations

from dataclasses import replace

import torch

from explorer.attribution.base import MatrixScores, ScoringRequest
from explorer.attribution.passes import unscored
from explorer.core.keys import MatrixKey


def random(request: ScoringRequest) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """The control: standard normal scores by seed. They predict nothing; only their order means anything."""
    loss, values = unscored(request, request.progress)
    generator = torch.Generator().manual_seed(request.seed)
    return loss, {
        key: replace(one, score=torch.randn(len(one.s), generator=generator, dtype=one.c.dtype))
        for key, one in values.items()
    }
