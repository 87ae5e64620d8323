"""Passes over the examples that scorers share: mean loss, mean inputs, gradients."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from explorer.attribution.base import MatrixScores, ScoringRequest
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress, track
from explorer.measure.metrics import run
from explorer.models.matrices import input_hook, parts_of


def unscored(request: ScoringRequest, progress: Progress | None) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """Singular values and frozen means of all matrices, with scores of zero, and the mean loss."""
    loss, means = run_pass(request, request.sites, backward=False, progress=progress)
    found = {}
    for key, decomposition in request.decompositions():
        mean = means[key.stacked][parts_of(request.view, key)[0]]
        c = request.frozen(key, decomposition.reads(mean))
        found[key] = MatrixScores(decomposition.s, torch.zeros_like(c), c)
    return loss, found


def run_pass(
    request: ScoringRequest, sites: Sequence[MatrixKey], *, backward: bool, progress: Progress | None
) -> tuple[float, dict[MatrixKey, Tensor]]:
    """Mean loss, and the mean input of every site over all real tokens (float32 or wider, on the CPU)."""
    sums: dict[MatrixKey, Tensor] = {}
    total, tokens = 0.0, 0
    request.meter.forwards += (3 if backward else 1) * request.n
    real: Tensor

    def add(x: Tensor, hook: Any, site: MatrixKey) -> None:
        rows = x.detach().flatten(2)[real.to(x.device)]
        added = rows.sum(dim=0, dtype=torch.promote_types(x.dtype, torch.float32))
        sums[site] = sums[site] + added if site in sums else added

    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad() if backward else torch.no_grad())
        stack.enter_context(
            request.view.bridge.hooks(fwd_hooks=[(input_hook(site), partial(add, site=site)) for site in sites])
        )
        for batch in track(request.batches, progress):
            real = batch.real
            tokens += int(real.sum())
            loss = run(request.view, batch).loss.sum()
            if backward:
                loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
    return total / request.n, {site: (added / tokens).cpu() for site, added in sums.items()}


def mean_loss(request: ScoringRequest) -> float:
    """Mean loss of the view as it is now, nats per example."""
    request.meter.forwards += request.n
    with torch.no_grad():
        return sum(float(run(request.view, batch).loss.sum()) for batch in request.batches) / request.n
