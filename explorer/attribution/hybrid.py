"""The linear score, corrected by exact effects where a linear estimate is most likely to be wrong.

1. `gradient` scores all values: one forward and backward pass over the examples.
2. The values with the largest expected error (`explorer.attribution.doubt`) are measured exactly on a few examples, as
   many values as the budget holds: PASSES forward and backward passes over all examples for the whole scorer, step 1
   included. A few are 8 examples, or 4 or 2 where more would leave uncertain values unmeasured: the errors that are
   mended are larger than the spread over examples.
3. The linear score on those same examples serves as control variate:

       score_i + (exact_i - score_i on the few examples)

   which is unbiased, and nearly as sharp as the linear score where that is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from explorer.attribution.base import MatrixScores, ScoringRequest
from explorer.attribution.doubt import UNCERTAIN, doubt, first_examples
from explorer.attribution.exact import exact_effects, forwards
from explorer.attribution.gradient import gradient
from explorer.core.keys import MatrixKey
from explorer.core.progress import part

PASSES = 10  # a forward and backward pass costs as much as three forward passes
FEW = (8, 4, 2)


def hybrid(request: ScoringRequest) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """Linear scores, those with the largest expected error corrected; see the module docstring."""
    loss, linear = gradient(replace(request, progress=part(request.progress, 0.0, 0.2)))
    expected = doubt(request, linear)
    first, values = _affordable(request, expected.errors)
    _, sampled = gradient(first)
    request.meter.forwards += forwards(request.view, values, first.n)
    effects = exact_effects(
        request.view,
        first.batches,
        request.svds,
        values=values,
        mode=request.mode,
        mask=request.mask,
        progress=part(request.progress, 0.25, 1.0),
    )
    scores = {key: matrix.score.clone() for key, matrix in linear.items()}
    for key, index in values:
        scores[key][index] += effects.values[key, index].value - sampled[key].score[index]
        expected.signs[key][index] = False
    return loss, {
        key: replace(matrix, score=scores[key], uncertain=expected.signs[key]) for key, matrix in linear.items()
    }


def _affordable(
    request: ScoringRequest, errors: Mapping[MatrixKey, Tensor]
) -> tuple[ScoringRequest, list[tuple[MatrixKey, int]]]:
    """The request on few examples, and the values to measure on them: all uncertain ones if there is a way."""
    uncertain = sum(int((error > UNCERTAIN).sum()) for error in errors.values())
    for count in FEW:
        first = first_examples(request, count)
        values = _least_certain(request, errors, first.n)
        if len(values) >= uncertain:
            break
    return first, values


def _least_certain(
    request: ScoringRequest, errors: Mapping[MatrixKey, Tensor], examples: int
) -> list[tuple[MatrixKey, int]]:
    """Values in order of their expected error, as many as can be measured for what is left of the budget."""
    layers = int(request.view.config.n_layers)
    ranked = [(-error, key, index) for key, of in errors.items() for index, error in enumerate(of.tolist())]
    left = 3.0 * (PASSES - 1) * request.n - 4 * examples - max(FEW)  # in forward passes of one example
    chosen = []
    for _, key, index in sorted(ranked):
        left -= examples * (layers - key.layer) / layers
        if left < 0:
            break
        chosen.append((key, index))
    return chosen
