"""First-order scores averaged along a removal path, by Gauss-Legendre quadrature (integrated gradients).

A value's own path, z = 1 to 0 for it alone, is shared with no other value, so averaging along it costs what measuring
it costs (`exact`). What many values can share is a path on which they are removed together. With S a set of matrices,
z the common multiplier of all their kept values, t = 1 - z, and x_n(t), g_n(t) as of the model at t,

    W(t) = W + t sum_{i in S} step_i s_i u_i v_i^T       b(t) = b - t sum_{i in S} step_i s_i c_i v_i
    score_i = step_i (s_i / E) int_0^1 sum_n (x_n(t) . u_i - c_i) (v_i . g_n(t)) dt

(step_i = -1 for a kept value, +1 for one that the mask removes, so at a mask the path ends where every value of S is
flipped; at a mask of gain g, 1 - g times that; c_i is fixed at t = 0, and 0 for zero removal). dL/dt is the sum of the
integrands, so the scores are complete:

    sum_{i in S} score_i = L(everything in S flipped) - L(now)          up to the quadrature's error

They are the values' shares in that joint effect (Aumann and Shapley 1974; Sundararajan et al. 2017, arXiv 1703.01365),
not predictions of what each does alone. Where the loss is linear along the path they equal `gradient`.

S is every scored matrix (`path="all"`: one forward, then `steps` forward and backward passes for all of them) or one
stacked matrix after the other with the rest left as it is (`path="matrix"`: `steps` passes for each).
Standard errors hold path and frozen means fixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from explorer.attribution.base import MatrixScores, ScoringRequest
from explorer.attribution.passes import unscored
from explorer.attribution.sums import Weights, first_order, scored
from explorer.core.errors import SettingsError
from explorer.core.keys import MatrixKey
from explorer.core.progress import part
from explorer.models.matrices import parts_of, read, read_bias


def integrated(request: ScoringRequest) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """Average the first-order score along the shared path; see the module docstring.

    Raises:
        SettingsError: a matrix is asked for both stacked and per head, so that the path would remove it twice.
    """
    for key in request.keys:
        if key.head is not None and key.stacked in request.keys:
            raise SettingsError(f"{key.stacked} and {key} overlap on the path: score a matrix per head or stacked.")
    loss, values = unscored(request, part(request.progress, 0.0, 0.05))
    groups = [request.sites] if request.options.path == "all" else [(site,) for site in request.sites]
    found = {}
    for place, sites in enumerate(groups):
        bar = part(request.progress, 0.05 + 0.95 * place / len(groups), 0.05 + 0.95 * (place + 1) / len(groups))
        keys = tuple(key for key in request.keys if key.stacked in sites)
        found.update(_along(replace(request, keys=keys, progress=bar), values))
    return loss, {key: found[key] for key in request.keys}


def _along(request: ScoringRequest, values: Mapping[MatrixKey, MatrixScores]) -> dict[MatrixKey, MatrixScores]:
    """Scores of the matrices of one path."""
    end = {site: _end(request, site, values) for site in request.sites}
    slopes: dict[MatrixKey, Tensor] = {}
    steps = request.options.steps
    for step, (t, weight) in enumerate(_nodes(steps)):
        bar = part(request.progress, step / steps, (step + 1) / steps)
        _, sums = first_order(request, bar, _weights(request, end, t))
        for key, one in sums.items():
            added = weight * one.slopes(request.mode, values[key].c)
            slopes[key] = slopes[key] + added if key in slopes else added
    return {key: scored(request, key, slopes[key], c=values[key].c) for key in request.keys}


def _nodes(steps: int) -> Iterator[tuple[float, float]]:
    """Points in (0, 1) and their weights, which add up to 1."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    yield from zip(((points + 1) / 2).tolist(), (weights / 2).tolist(), strict=True)


def _end(request: ScoringRequest, site: MatrixKey, values: Mapping[MatrixKey, MatrixScores]) -> tuple[Tensor, Tensor]:
    """What the whole path adds to weight and bias of one stacked matrix."""
    W = read(request.view, site)
    dtype = torch.promote_types(W.dtype, torch.float32)
    weight, bias = torch.zeros(W.shape, dtype=dtype), torch.zeros(W.shape[1], dtype=dtype)
    for key in request.keys:
        if key.stacked == site:
            svd, where = request.svds.get(request.view, key), parts_of(request.view, key)
            scale = (request.steps(key).to(svd.s) * svd.s).to(dtype)
            weight[where] += (svd.u.to(dtype) * scale) @ svd.vh.to(dtype)
            if request.mode == "freeze":
                bias[where[1]] -= (scale * values[key].c.to(dtype)) @ svd.vh.to(dtype)
    return weight.to(W.device), bias.to(W.device)


def _weights(request: ScoringRequest, end: Mapping[MatrixKey, tuple[Tensor, Tensor]], t: float) -> Weights:
    """Weights and biases at t."""
    found = {}
    for site, (weight, bias) in end.items():
        W, b = read(request.view, site).detach(), read_bias(request.view, site)
        start = torch.zeros_like(bias) if b is None else b.detach()
        found[site] = (W + (t * weight).to(W), (start + t * bias).to(W))
    return found
