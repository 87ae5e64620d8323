"""The linear score of every singular value of every chosen matrix, from one forward and backward pass.

For a matrix `W = sum_i s_i u_i v_i^T` with input x_n, mean input m over real
tokens, and gradient g_n of the summed loss with respect to its output (paper, section 3, with the corrections of the
README's method section):

    freeze:  score_i = -(s_i / E) sum_n ((x_n - m) . u_i) (v_i . g_n)
    zero:    score_i = -(s_i / E) sum_n ( x_n      . u_i) (v_i . g_n)

1. One forward and backward per batch accumulates X^T G (the ordinary weight gradient) and 1^T G (the bias gradient)
   of all chosen matrices; hooks sum their inputs, which gives m.
2. At the end one contraction per matrix: score_i = -(s_i / E) u_i^T (X^T G - m 1^T G) v_i, without m for zero removal.
"""

from __future__ import annotations

import torch

from explorer.attribution.base import MatrixScores, Request
from explorer.attribution.passes import run_pass
from explorer.keys import MatrixKey
from explorer.progress import part, track
from explorer.registry import differentiable, parts_of


def gradient(request: Request) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """First-order score from one forward and backward pass per batch; see the module docstring."""
    sites = tuple(dict.fromkeys(key.stacked for key in request.keys))
    with differentiable(request.view, sites) as leaves:
        loss, means = run_pass(request, sites, backward=True, progress=part(request.progress, 0.0, 0.7))
        gradients = {site: (leaf.weight_gradient, leaf.bias_gradient) for site, leaf in leaves.items()}
    scored = {}
    for key in track(request.keys, part(request.progress, 0.7, 1.0)):
        rows, columns = parts_of(request.view, key)
        weight_gradient, bias_gradient = (tensor.cpu() for tensor in gradients[key.stacked])
        mean = means[key.stacked][rows]
        decomposition = request.svds.get(request.view, key)
        u, s, vh = (tensor.to(mean.dtype) for tensor in (decomposition.u, decomposition.s, decomposition.vh))
        M = weight_gradient[rows, columns].to(mean.dtype)
        if request.mode == "freeze":
            M = M - torch.outer(mean, bias_gradient[columns].to(mean.dtype))
        slope = ((u.T @ M) * vh).sum(dim=1)
        scored[key] = MatrixScores(decomposition.s, -(s / request.n) * slope, mean @ u)
    return loss, scored
