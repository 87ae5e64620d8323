"""The score of the released implementation, as it is (docs/method.md names what differs from the paper's text).

With mini-batches of `batch_size` examples, loss l = mean over a mini-batch of -log p(answer token) at the prompts' last
position, and g its gradient at a matrix's output,

    score_i = max over mini-batches, examples b and positions p of  s_i ((x'_bp - x_bp) . u_i) (v_i . g_bp)
    x'_bp = x_(b-1)p, the previous example of the mini-batch at the same position, the first one's being the last
    x_bp  = Q, K, V, IN, GATE: the residual stream before the layer norm; OUT: what the non-linearity reads (the gate's
            output where there is one); O: what the matrix reads

Only the order of the scores means anything: a maximum over tokens of parts of a mini-batch's mean predicts no effect.
With a mini-batch of one example every score is 0. The last mini-batch may be smaller than the others.

The frozen mean comes from the last mini-batch only. With m_p the mean of x_bp over its examples,

    c_i = sum over positions p of  m_p . u_i      Q, K, V, IN, GATE, OUT

padding included: as many times the average as there are positions. For O alone the released code keeps m_p . u_i for
every position (`position_means`), which no ordinary mask can hold; there c_i is the mean over real tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.attribution.base import MatrixScores, ScoringRequest
from explorer.attribution.minibatches import mini_batches
from explorer.attribution.passes import mean_loss
from explorer.attribution.projections import Bases, gradients
from explorer.core.keys import Kind, MatrixKey
from explorer.core.progress import part, track
from explorer.models import View
from explorer.models.matrices import input_hook, kinds, output_hook, parts_of


def as_released(request: ScoringRequest) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """Largest signed first-order effect of swapping in the previous example; see the module docstring.

    The loss that comes with it is the ordinary one: mean over examples, summed over answer tokens.

    Raises:
        TaskError: prompts of several lengths that are not to be padded.
        SettingsError: an answer without the token that is asked for.
    """
    view, bases = request.view, Bases(request)
    scores: dict[MatrixKey, Tensor] = {}
    c: dict[MatrixKey, Tensor] = {}

    def observe(site: MatrixKey, x: Tensor, g: Tensor) -> None:
        x, g = batch.aligned(inputs.of(site, x).to(bases.dtype)), batch.aligned(g)
        change, total = x.roll(1, dims=0) - x, batch.summed(x)
        for key in bases.sites[site]:
            rows, columns, u, v = bases.of[key]
            effect = (change[..., rows] @ u) * (g[..., columns].to(bases.dtype) @ v)
            largest = effect.amax(dim=(0, 1))
            scores[key] = largest.maximum(scores[key]) if key in scores else largest
            c[key] = (x[batch.real.to(x.device)].mean(dim=0) if key.kind is Kind.O else total)[rows] @ u

    for batch in track(mini_batches(request), part(request.progress, 0.0, 0.8)):
        request.meter.forwards += 3 * len(batch)
        inputs = _Inputs(view, request.sites)
        hooks = view.bridge.hooks(fwd_hooks=inputs.hooks())
        with batch.padding(view), gradients(view, bases.sites, observe), hooks:
            logits = batch.logits(view).to(bases.dtype)
            torch.nn.functional.cross_entropy(logits, batch.answers).backward()  # type: ignore[no-untyped-call]
    found = {}
    for key in track(request.keys, part(request.progress, 0.8, 1.0)):
        s = request.svds.get(view, key).s
        found[key] = MatrixScores(s, s.to(bases.dtype) * scores[key].cpu(), c[key].cpu())
    return mean_loss(request), found


def position_means(request: ScoringRequest) -> dict[MatrixKey, Float[Tensor, "position r"]]:
    """m_p . u_i of every value of every asked O at every prompt position p, from the last mini-batch; on the CPU.

    With prompts that are padded the first position is one of padding only. Raises as `as_released` does.
    """
    keys = tuple(key for key in request.keys if key.kind is Kind.O)
    if not keys:
        return {}
    view, bases, last = request.view, Bases(replace(request, keys=keys)), mini_batches(request)[-1]
    request.meter.forwards += len(last)
    read: dict[MatrixKey, Tensor] = {}

    def keep(x: Tensor, hook: Any, site: MatrixKey) -> None:
        read[site] = last.aligned(x.detach().flatten(2).to(bases.dtype)).mean(dim=0)

    hooks = [(input_hook(site), partial(keep, site=site)) for site in bases.sites]
    with torch.no_grad(), last.padding(view), view.bridge.hooks(fwd_hooks=hooks):
        last.logits(view)
    return {key: (read[key.stacked][:, parts_of(view, key)[0]] @ bases.of[key][2]).cpu() for key in keys}


class _Inputs:
    """What the released code takes for the inputs of matrices: catches it while the view runs."""

    def __init__(self, view: View, sites: Sequence[MatrixKey]) -> None:
        self._view, self._sites = view, sites
        self._norms: list[tuple[Tensor, Tensor]] = []  # what each layer norm put out and had read
        self._caught: dict[str, Tensor] = {}
        self._activation = Kind.GATE if Kind.GATE in kinds(view) else Kind.IN

    def of(self, site: MatrixKey, x: Float[Tensor, "batch position d_in"]) -> Float[Tensor, "batch position d_in"]:
        """x, or what stood before the layer norm or the non-linearity that made it."""
        if site.kind is Kind.O:
            return x
        if site.kind is Kind.OUT:
            return self._caught[self._before(site)].reshape(x.shape)
        before = [read for made, read in self._norms if made.data_ptr() == x.data_ptr()]
        return before[0].reshape(x.shape) if before else x  # post-norm models read the stream itself

    def hooks(self) -> list[tuple[str, Any]]:
        """Hooks for one forward pass."""
        names = [self._before(site) for site in self._sites if site.kind is Kind.OUT]
        for layer in {site.layer for site in self._sites}:
            start, end = f"blocks.{layer}.ln", ".hook_out"
            norms = [name.removesuffix(end) for name in self._view.bridge.hook_dict if name.startswith(start)]
            for norm in (name for name in norms if f"{name}{end}" in self._view.bridge.hook_dict):
                names += [f"{norm}.hook_in", f"{norm}{end}"]
        return [(name, partial(self._catch, name=name)) for name in dict.fromkeys(names)]

    def _before(self, site: MatrixKey) -> str:
        return output_hook(MatrixKey(site.layer, self._activation))

    def _catch(self, x: Tensor, hook: Any, name: str) -> None:
        self._caught[name] = x.detach()
        if name.endswith(".hook_out") and f"{name.removesuffix('.hook_out')}.hook_in" in self._caught:
            self._norms.append((x.detach(), self._caught[f"{name.removesuffix('.hook_out')}.hook_in"]))
