"""Where a linear score is likely to be wrong, told without measuring the effect.

The error of a linear estimate is of second order. It grows with the size of the score and, for matrices that write the
residual stream, with how far the removal moves that stream (`explorer.attribution.displacement`):

    expected error of value i = |score_i| + STIFFNESS * displacement_i^2     (nats per example)

This is an order of magnitude, not a bound: `explorer.experiments.study` measures how far scores can be trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby

from jaxtyping import Float
from torch import Tensor

from explorer.attribution.base import MatrixScores, ScoringRequest
from explorer.attribution.displacement import displacement
from explorer.core.keys import MatrixKey
from explorer.measure.batches import merged

STIFFNESS = 10.0  # nats per squared displacement: errors of O and OUT on SmolLM2 grow as 5 to 20 times its square
UNCERTAIN = 0.1  # nats per example
EXAMPLES = 8  # enough to see where the stream is moved


def first_examples(request: ScoringRequest, count: int) -> ScoringRequest:
    """The same request on its first `count` examples, or on all if there are fewer."""
    parts = [batch.only(batch.places < count) for batch in request.batches if bool((batch.places < count).any())]
    alike = groupby(parts, key=lambda batch: (batch.shared, request.view.side(batch.tokens.shape[1])))
    whole = tuple(merged(list(same)) for _, same in alike)
    return replace(request, batches=whole, progress=None)


def expected_errors(
    request: ScoringRequest, values: Mapping[MatrixKey, MatrixScores]
) -> dict[MatrixKey, Float[Tensor, " _"]]:
    """Expected error of the linear score of every value, nats per example; the stream is that of `request`."""
    moved = displacement(request, request.batches, values)
    return {
        key: matrix.score.abs() + (STIFFNESS * moved[key].to(matrix.score).square() if key in moved else 0.0)
        for key, matrix in values.items()
    }


def marked(request: ScoringRequest, values: Mapping[MatrixKey, MatrixScores]) -> dict[MatrixKey, MatrixScores]:
    """`values` with those marked whose expected error is above UNCERTAIN."""
    errors = expected_errors(first_examples(request, EXAMPLES), values)
    return {key: replace(matrix, uncertain=errors[key] > UNCERTAIN) for key, matrix in values.items()}
