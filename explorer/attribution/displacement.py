"""How far removing a singular value moves the residual stream: where a linear score stops being one.

For a matrix that writes the residual stream (O, OUT), with h_n the stream at token n after the matrix has written:

    displacement_i = sqrt( mean_n ( s_i ((x_n - m) . u_i) / |h_n| )^2 )            (without m for zero removal)

(times 1 - g at a mask of gain g, which takes only that share of a value away).

It is 0.01 for most values. Around 1 the removal replaces the stream rather than changing it, and the gradient says
nothing about the outcome. This happens where massive activations are written (Sun et al. 2024, arXiv 2402.17762): one
token's input then dominates the mean, and freezing the mean writes the massive direction onto every other token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.attribution.base import MatrixScores, ScoringRequest
from explorer.core.keys import Kind, MatrixKey
from explorer.measure.batches import Batch
from explorer.measure.metrics import run
from explorer.models.matrices import input_hook, output_hook, parts_of

WRITERS = (Kind.O, Kind.OUT)


def displacement(
    request: ScoringRequest, batches: Sequence[Batch], values: Mapping[MatrixKey, MatrixScores]
) -> dict[MatrixKey, Float[Tensor, " r"]]:
    """Displacement of every value of the O and OUT matrices among `values`, over the real tokens of `batches`."""
    found = {key: torch.zeros(len(values[key].s)) for key in values if key.kind in WRITERS}
    if not found:
        return {}
    tokens = sum(int(batch.real.sum()) for batch in batches)
    request.meter.forwards += sum(map(len, batches))
    for batch in batches:
        squares = _squares(request, batch, tuple(found), values=values)
        found = {key: total + squares[key] for key, total in found.items()}
    return {key: (total / tokens).sqrt() for key, total in found.items()}


def _squares(
    request: ScoringRequest, batch: Batch, keys: Sequence[MatrixKey], values: Mapping[MatrixKey, MatrixScores]
) -> dict[MatrixKey, Tensor]:
    """Per value, the sum over real tokens of its squared share of the stream."""
    sites: dict[MatrixKey, list[MatrixKey]] = {}
    for key in keys:
        sites.setdefault(key.stacked, []).append(key)
    found: dict[MatrixKey, Tensor] = {}
    inputs: dict[MatrixKey, Tensor] = {}
    stream: dict[int, Tensor] = {}

    def keep_stream(h: Tensor, hook: Any, layer: int) -> None:
        stream[layer] = h[batch.real.to(h.device)]

    def keep_input(x: Tensor, hook: Any, site: MatrixKey) -> None:
        inputs[site] = x.flatten(2)[batch.real.to(x.device)]

    def measure(y: Tensor, hook: Any, site: MatrixKey) -> None:
        stream[site.layer] = stream[site.layer].to(y.device) + y[batch.real.to(y.device)]
        norm = stream[site.layer].norm(dim=-1, keepdim=True).clamp_min(torch.finfo(y.dtype).tiny)
        x = inputs.pop(site)
        for key in sites[site]:
            read = request.svds.get(request.view, key).reads(x[:, parts_of(request.view, key)[0]])
            offset = values[key].c.to(x) if request.mode == "freeze" else 0.0
            moved = (read - offset) * (request.taken * values[key].s.to(x))
            found[key] = (moved / norm).square().sum(dim=0).float().cpu()

    hooks = [(f"blocks.{layer}.hook_in", partial(keep_stream, layer=layer)) for layer in {site.layer for site in sites}]
    hooks += [(input_hook(site), partial(keep_input, site=site)) for site in sites]
    hooks += [(output_hook(site), partial(measure, site=site)) for site in sites]
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(request.view.bridge.hooks(fwd_hooks=hooks))
        run(request.view, batch)
    return found
