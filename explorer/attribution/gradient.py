"""The linear score of every singular value of every chosen matrix, from one forward and backward pass.

For a matrix `W = sum_i s_i u_i v_i^T` with input x_n, mean input m over real
tokens, and gradient g_n of the summed loss with respect to its output (paper, section 3, with the corrections of
docs/method.md):

    freeze:  score_i = -(s_i / E) sum_n ((x_n - m) . u_i) (v_i . g_n)
    zero:    score_i = -(s_i / E) sum_n ( x_n      . u_i) (v_i . g_n)

1. One forward and backward per batch accumulates X^T G (the ordinary weight gradient) and 1^T G (the bias gradient)
   of all chosen matrices; hooks sum their inputs, which gives m.
2. At the end one contraction per matrix: score_i = -(s_i / E) u_i^T (X^T G - m 1^T G) v_i, without m for zero removal.

At a mask, x, g and m are those of the masked model, and a removed value is scored for its return: the sign turns, and
m . u_i is the mask's c_i (`explorer.attribution.sums`). A mask with a gain scales values instead: a score is for that
share of the way only. Standard errors are those of whole scores: every resample has its own m.
"""

from __future__ import annotations

from explorer.attribution.base import MatrixScores, ScoringRequest
from explorer.attribution.sums import first_order, scored
from explorer.core.keys import MatrixKey


def gradient(request: ScoringRequest) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """First-order score from one forward and backward pass per batch; see the module docstring."""
    loss, sums = first_order(request, request.progress)
    found = {}
    for key, one in sums.items():
        c = request.frozen(key, one.means)
        found[key] = scored(request, key, one.slopes(request.mode, c), c=c[0])
    return loss, found
