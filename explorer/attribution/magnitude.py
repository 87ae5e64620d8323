"""The classic: small singular values first, whatever the task."""

from __future__ import annotations

from dataclasses import replace

from explorer.attribution.base import MatrixScores, ScoringRequest
from explorer.attribution.passes import unscored
from explorer.core.keys import MatrixKey


def magnitude(request: ScoringRequest) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """Score s_i: the lowest-scored values are the smallest, as in truncating a decomposition (Eckart and Young 1936).

    The examples give the frozen means only. Across matrices the order compares values of different scales.
    """
    loss, values = unscored(request, request.progress)
    return loss, {key: replace(one, score=one.s.to(one.c.dtype)) for key, one in values.items()}
