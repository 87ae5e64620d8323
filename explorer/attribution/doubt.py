"""Where a linear score is likely to be wrong, told without measuring the effect.

The error of a linear estimate is of second order. It grows with the size of the score and, for matrices that write the
residual stream, with how far the removal moves that stream (`explorer.attribution.displacement`):

    expected error of value i = |score_i| + STIFFNESS * displacement_i^2     (nats per example)

The second term alone can turn the sign: where it is above |score_i|, the sign is in doubt. This is an order of
magnitude, not a bound: `explorer.experiments.study` measures how far scores can be trusted. (On the bundled model, all
values and 64 examples of int-mult, the sign is wrong for 48 % of the 58 values that are marked so, and for 15 % of
those of more than NEGLIGIBLE that are not.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from explorer.attribution.base import MatrixScores, ScoringRequest
from explorer.attribution.displacement import displacement
from explorer.core.keys import MatrixKey
from explorer.measure.batches import merged

STIFFNESS = 10.0  # nats per squared displacement: errors of O and OUT on SmolLM2 grow as 5 to 20 times its square
UNCERTAIN = 0.1  # nats per example: an expected error that is worth measuring
NEGLIGIBLE = 0.02  # nats per example: of so small an effect the sign does not matter
EXAMPLES = 8  # enough to see where the stream is moved


def first_examples(request: ScoringRequest, count: int) -> ScoringRequest:
    """The same request on its first `count` examples, or on all if there are fewer."""
    parts = [batch.only(batch.places < count) for batch in request.batches if bool((batch.places < count).any())]
    alike = groupby(parts, key=lambda batch: (batch.shared, request.view.side(batch.tokens.shape[1])))
    whole = tuple(merged(list(same)) for _, same in alike)
    return replace(request, batches=whole, progress=None)


@dataclass(frozen=True)
class Doubt:
    """What is expected of the errors of linear scores.

    Attributes:
        errors: expected error of every value, nats per example.
        signs: whether the sign of its score is in doubt.
    """

    errors: dict[MatrixKey, Float[Tensor, " _"]]
    signs: dict[MatrixKey, Bool[Tensor, " _"]]


def doubt(request: ScoringRequest, values: Mapping[MatrixKey, MatrixScores]) -> Doubt:
    """What to expect of the linear scores `values`; how far the stream is moved is taken from the first examples."""
    moved = displacement(request, first_examples(request, EXAMPLES).batches, values)
    second = {
        key: STIFFNESS * moved[key].to(matrix.score).square() if key in moved else torch.zeros_like(matrix.score)
        for key, matrix in values.items()
    }
    sizes = {key: matrix.score.abs() for key, matrix in values.items()}
    return Doubt(
        errors={key: sizes[key] + error for key, error in second.items()},
        signs={key: error > sizes[key].clamp_min(NEGLIGIBLE) for key, error in second.items()},
    )


def marked(request: ScoringRequest, values: Mapping[MatrixKey, MatrixScores]) -> dict[MatrixKey, MatrixScores]:
    """`values` with those marked whose sign is in doubt."""
    signs = doubt(request, values).signs
    return {key: replace(matrix, uncertain=signs[key]) for key, matrix in values.items()}
