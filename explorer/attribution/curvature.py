"""First order plus a diagonal second-order term, which makes every removal dearer by how much it moves the prediction.

With delta_i = 1 for value i removed, step_i = -1 (+1 if the mask removes it and it would be restored; both times 1 - g
at a mask of gain g), and J_i = d logits / d delta_i at delta = 0,

    score_i = dL/d delta_i + 1/2 G_ii,       G_ii = (1 / E) sum over answer tokens of J_i^T (diag(p) - p p^T) J_i

G is the generalised Gauss-Newton matrix (Schraudolph 2002; Martens 2020, arXiv 1412.1193): the Hessian of the loss
without the model's own curvature, d2 logits / d delta_i^2. So it is the Hessian's diagonal exactly where the logits
are linear in delta_i, and never negative. It is also the Fisher matrix, which is how it is estimated. Let `draws`
answers be drawn from the model's own p, token by token, and phi_ei be the first-order score of value i in example e
with the drawn answer, whose gradients are g'_n, in place of the right one. The mean of phi is 0 and answer tokens are
drawn independently of each other, so

    G_ii = (1 / E) sum_e E[phi_ei^2],         phi_ei = step_i s_i sum_{n in e} (x_n . u_i - c_i) (v_i . g'_n)

Why not the Hessian itself: its diagonal over all values of a matrix takes one Hessian-vector product per value (the
cost of `exact`), or products with random vectors (Hutchinson), where the off-diagonal terms of all values of the
matrix, whose squares add up, drown the one that is wanted. phi^2 has a relative variance of about 2 / (draws E).

1. A forward pass gives the frozen means.
2. Per batch: one forward, one backward for the right answers, `draws` for drawn ones, examples kept apart
   (`explorer.attribution.projections`).

When to trust it: what G leaves out is weighted by p minus the right answer, so it is small where the model is mostly
right and may well have the other sign where it is not. Rank correlation with exact effects on the bundled model, all
kinds together: INT-SUM, which it can do, 0.66 for `gradient` and 0.87 for this; INT-MULT, on which it loses 16.7 nats
per example, 0.73 and 0.25.

Standard errors are over examples, with the frozen means held fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.attribution.base import MatrixScores, ScoringRequest
from explorer.attribution.passes import unscored
from explorer.attribution.projections import Bases, resamples, watching
from explorer.core.keys import MatrixKey
from explorer.core.progress import part, track
from explorer.measure.batches import answer_logits
from explorer.measure.metrics import losses


def curvature(request: ScoringRequest) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """First-order score plus half the Gauss-Newton diagonal; see the module docstring."""
    loss, values = unscored(request, part(request.progress, 0.0, 0.05))
    bases, counts, generator = Bases(request), resamples(request), torch.Generator().manual_seed(request.seed)
    effects = _effects(request, bases, values)
    totals: dict[MatrixKey, Tensor] = {}
    drawn = False
    request.meter.forwards += (3 + 2 * request.options.draws) * request.n

    def observe(key: MatrixKey, a: Tensor, b: Tensor) -> None:
        effect = effects(key, a, b)
        added = share.to(effect.device) @ (effect.square() / (2 * request.options.draws) if drawn else effect)
        totals[key] = totals[key] + added if key in totals else added

    for batch in track(request.batches, part(request.progress, 0.05, 1.0)):
        share = counts[:, batch.places.cpu()].to(request.view.device, bases.dtype) / request.n
        with watching(request, bases, batch, observe=observe):
            logits, drawn = answer_logits(request.view, batch), False
            losses(logits, batch).sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
            drawn = True
            for _ in range(request.options.draws):
                own = replace(batch, targets=draw(logits, generator))
                losses(logits, own).sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
    return loss, {key: _scores(values[key], totals[key].cpu()) for key in request.keys}


def draw(logits: Float[Tensor, "answer_token vocabulary"], generator: torch.Generator) -> Int[Tensor, " answer_token"]:
    """One token per row, drawn from softmax(logits) on the CPU, so that a seed means the same on every device."""
    p = logits.detach().cpu().to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=-1)
    return torch.multinomial(p, 1, generator=generator)[:, 0].to(logits.device)


def _effects(
    request: ScoringRequest, bases: Bases, values: dict[MatrixKey, MatrixScores]
) -> Callable[[MatrixKey, Tensor, Tensor], Tensor]:
    """First-order effect of every value on every example of a batch, from a and b [batch, r]."""
    scale = {key: (request.steps(key).to(one.s) * one.s).to(bases.of[key][2]) for key, one in values.items()}
    c = {key: one.c.to(scale[key]) for key, one in values.items()}

    def effects(key: MatrixKey, a: Tensor, b: Tensor) -> Tensor:
        return scale[key] * (a - c[key] * b if request.mode == "freeze" else a)

    return effects


def _scores(values: MatrixScores, samples: Float[Tensor, "sample r"]) -> MatrixScores:
    return replace(values, score=samples[0], stderr=samples[1:].std(dim=0) if len(samples) > 1 else None)
