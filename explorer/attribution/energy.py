"""How much a value writes on the task's own inputs: `magnitude` that knows what the matrix reads.

    freeze:  score_i = s_i^2 mean_n ((x_n - m) . u_i)^2
    zero:    score_i = s_i^2 mean_n ( x_n      . u_i)^2

over real tokens n. As the v_i are orthonormal, this is the mean squared change of the matrix's output by the value's
removal, and the lowest-scored k values are the k whose removal changes the output least (truncation that knows its
inputs: Yuan et al. 2023, arXiv 2312.05821).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from explorer.attribution.base import MatrixScores, ScoringRequest
from explorer.attribution.passes import unscored
from explorer.attribution.projections import Bases
from explorer.core.keys import MatrixKey
from explorer.core.progress import part, track
from explorer.measure.metrics import run
from explorer.models.matrices import input_hook


def energy(request: ScoringRequest) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """Mean squared output of every value, about its mean for freeze removal: two forward passes."""
    loss, values = unscored(request, part(request.progress, 0.0, 0.5))
    bases, squares = Bases(request), {key: torch.zeros_like(one.s) for key, one in values.items()}
    real: Tensor
    request.meter.forwards += request.n

    def add(x: Tensor, hook: Any, site: MatrixKey) -> None:
        tokens = x.flatten(2)[real.to(x.device)].to(bases.dtype)
        for key in bases.sites[site]:
            rows, _, u, _ = bases.of[key]
            read = tokens[:, rows] @ u
            centred = read - values[key].c.to(read) if request.mode == "freeze" else read
            squares[key] += centred.square().sum(dim=0).cpu()

    hooks = [(input_hook(site), partial(add, site=site)) for site in bases.sites]
    with torch.no_grad(), request.view.bridge.hooks(fwd_hooks=hooks):
        for batch in track(request.batches, part(request.progress, 0.5, 1.0)):
            real = batch.real
            run(request.view, batch)
    tokens = sum(int(batch.real.sum()) for batch in request.batches)
    return loss, {
        key: replace(one, score=(one.s.square() * squares[key] / tokens).to(one.c.dtype)) for key, one in values.items()
    }
