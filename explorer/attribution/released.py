"""The score of the released implementation, as it is (METHOD in the README names what differs from the paper's text).

With mini-batches of `batch_size` examples, loss l = mean over a mini-batch of -log p(answer token) at the prompts' last
position, and g its gradient at a matrix's output,

    score_i = max over mini-batches, examples b and positions p of  s_i ((x'_bp - x_bp) . u_i) (v_i . g_bp)
    x'_bp = x_(b+1)p, the next example of the mini-batch at the same position, the last one's being the first
    x_bp  = Q, K, V, IN, GATE: the residual stream before the layer norm; OUT: what the non-linearity reads (the gate's
            output where there is one); O: what the matrix reads

Only the order of the scores means anything: a maximum over tokens of parts of a mini-batch's mean predicts no effect.
With a mini-batch of one example every score is 0. The last mini-batch may be smaller than the others.

The frozen mean is that of x over the last mini-batch only. The released code keeps it per token position, which no
ordinary mask can hold; c_i is its mean over positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.attribution.base import MatrixScores, Request
from explorer.attribution.passes import mean_loss
from explorer.attribution.projections import Bases, gradients
from explorer.errors import SettingsError, TaskError
from explorer.keys import Kind, MatrixKey
from explorer.models import View
from explorer.progress import part, track
from explorer.registry import kinds, output_hook

Prompts = tuple[Int[Tensor, "batch position"], Int[Tensor, " batch"]]  # and the answer token of each


def as_released(request: Request) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """Largest signed first-order effect of swapping in the next example; see the module docstring.

    The loss that comes with it is the ordinary one: mean over examples, summed over answer tokens.

    Raises:
        TaskError: prompts of several lengths.
        SettingsError: an answer without the token that is asked for.
    """
    view, bases = request.view, Bases(request)
    scores: dict[MatrixKey, Tensor] = {}
    c: dict[MatrixKey, Tensor] = {}

    def observe(site: MatrixKey, x: Tensor, g: Tensor) -> None:
        x = inputs.of(site, x).to(bases.dtype)
        change = x.roll(-1, dims=0) - x
        for key in bases.sites[site]:
            rows, columns, u, v = bases.of[key]
            effect = (change[..., rows] @ u) * (g[..., columns].to(bases.dtype) @ v)
            largest = effect.amax(dim=(0, 1))
            scores[key] = largest.maximum(scores[key]) if key in scores else largest
            c[key] = x[..., rows].mean(dim=(0, 1)) @ u

    for tokens, answers in track(tuple(_mini_batches(request)), part(request.progress, 0.0, 0.8)):
        inputs = _Inputs(view, request.sites)
        with gradients(view, bases.sites, observe), view.bridge.hooks(fwd_hooks=inputs.hooks()):
            rows = torch.arange(len(tokens), device=tokens.device)
            logits = view.logits_at(tokens, rows, torch.full_like(rows, tokens.shape[1] - 1))
            torch.nn.functional.cross_entropy(logits.to(bases.dtype), answers).backward()  # type: ignore[no-untyped-call]
    found = {}
    for key in track(request.keys, part(request.progress, 0.8, 1.0)):
        s = request.svds.get(view, key).s
        found[key] = MatrixScores(s, s.to(bases.dtype) * scores[key].cpu(), c[key].cpu())
    return mean_loss(request), found


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


def _mini_batches(request: Request) -> Iterator[Prompts]:
    """The prompts in their order, cut anew, and one token of each answer."""
    prompts, answers, wanted = [], [], request.options.answer_token
    for batch in request.batches:
        for row in range(len(batch)):
            mine = batch.rows == row
            positions, targets = batch.positions[mine], batch.targets[mine]
            if len(targets) <= wanted:
                raise SettingsError(
                    f"an answer has {len(targets)} tokens, answer_token is {wanted}: give {len(targets) - 1} or less."
                )
            prompts.append(batch.tokens[row, : int(positions[0]) + 1])
            answers.append(targets[wanted])
    lengths = sorted({len(prompt) for prompt in prompts})
    if len(lengths) > 1:
        raise TaskError(
            f"the prompts have {lengths[0]} to {lengths[-1]} tokens: the scorer as-released compares examples position "
            "by position and needs prompts of one length; use another scorer, or such a task."
        )
    size = request.options.batch_size
    for start in range(0, len(prompts), size):
        yield torch.stack(prompts[start : start + size]), torch.stack(answers[start : start + size])
