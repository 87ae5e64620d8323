"""The sums over tokens that first-order scores are made of, and the scores from them.

The first-order score of value i of a matrix (see `explorer.attribution.gradient`) needs three sums over real tokens:

    a_i = sum_n (x_n . u_i) (v_i . g_n)        b_i = sum_n v_i . g_n        m . u_i = (sum_n x_n . u_i) / N

and is then step_i (s_i / E) (a_i - c_i b_i), with step -1 for a kept value (scored for its removal) and +1 for one
that the mask removes (scored for its return), both times 1 - g at a mask of gain g. c_i = m . u_i is the mean over what
the matrix reads *now*, with the mask on: that is the frozen mean that comes with the score, and so what
`explorer.masks.apply.apply` would put in place of the value. A removed value's c_i is the mask's own, and for zero
removal c_i is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.attribution.base import MatrixScores, ScoringRequest
from explorer.attribution.passes import run_pass
from explorer.attribution.projections import Bases, resamples, watching
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress, part, track
from explorer.masks.mask import Mode
from explorer.measure.metrics import run
from explorer.models.matrices import differentiable, parts_of, substituted

Weights = Mapping[MatrixKey, tuple[Tensor, Tensor]]  # of stacked matrices: W [d_in, d_out] and b [d_out]


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of one matrix, on the CPU; the first row counts every example once, each other one is a resample.

    Attributes:
        a: sum of (x . u_i) (v_i . g).
        b: sum of v_i . g.
        means: m . u_i.
    """

    a: Float[Tensor, "sample r"]
    b: Float[Tensor, "sample r"]
    means: Float[Tensor, "sample r"]

    def slopes(self, mode: Mode, c: Float[Tensor, "*sample r"]) -> Float[Tensor, "sample r"]:
        """The part of the score that depends on the examples: a - c b, or a for zero removal."""
        return self.a - c * self.b if mode == "freeze" else self.a


def scored(
    request: ScoringRequest, key: MatrixKey, slopes: Float[Tensor, "sample r"], c: Float[Tensor, " r"]
) -> MatrixScores:
    """Scores from slopes, with their spread over the resamples if there are some."""
    s = request.svds.get(request.view, key).s
    samples = (request.steps(key).to(slopes.dtype) * s.to(slopes.dtype) / request.n) * slopes
    return MatrixScores(s, samples[0], c, stderr=samples[1:].std(dim=0) if len(samples) > 1 else None)


def first_order(
    request: ScoringRequest, progress: Progress | None, weights: Weights | None = None
) -> tuple[float, dict[MatrixKey, Sums]]:
    """Mean loss and first-order sums of all asked matrices, from one forward and backward pass.

    Args:
        request: with `bootstrap`, sums come for every resample, at about 1.2 times the cost.
        progress: told (done, total).
        weights: weights and biases to run stacked matrices with instead of the view's.
    """
    return (_per_example if request.options.bootstrap else _whole)(request, progress, weights or {})


def _whole(request: ScoringRequest, progress: Progress | None, weights: Weights) -> tuple[float, dict[MatrixKey, Sums]]:
    """X^T G and 1^T G are the ordinary gradients of weight and bias; then one contraction per matrix."""
    leaves = {site: (W.requires_grad_(), b.requires_grad_()) for site, (W, b) in weights.items()}
    usual = tuple(site for site in request.sites if site not in leaves)
    with differentiable(request.view, usual) as found, substituted(request.view, leaves):
        loss, means = run_pass(request, request.sites, backward=True, progress=part(progress, 0.0, 0.7))
        gradients = {site: (leaf.weight_gradient, leaf.bias_gradient) for site, leaf in found.items()}
    gradients |= {site: (_gradient(W), _gradient(b)) for site, (W, b) in leaves.items()}
    sums = {}
    for key, decomposition in request.decompositions(part(progress, 0.7, 1.0)):
        rows, columns = parts_of(request.view, key)
        mean = means[key.stacked][rows]
        of_weight, of_bias = (tensor.cpu() for tensor in gradients[key.stacked])
        a = decomposition.contract(of_weight[rows, columns].to(mean.dtype))
        b = decomposition.writes(of_bias[columns].to(mean.dtype))
        sums[key] = Sums(a[None], b[None], decomposition.reads(mean)[None])
    return loss, sums


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _per_example(
    request: ScoringRequest, progress: Progress | None, weights: Weights
) -> tuple[float, dict[MatrixKey, Sums]]:
    """Sums per example, added up with the counts of every resample."""
    counts, bases = resamples(request), Bases(request)
    request.meter.forwards += 3 * request.n
    totals: dict[tuple[MatrixKey, str], Tensor] = {}
    tokens, loss = torch.zeros(len(counts)), 0.0

    def add(name: str, key: MatrixKey, values: Tensor) -> None:
        added = share.to(values.device) @ values.to(share.dtype)
        totals[key, name] = totals[key, name] + added if (key, name) in totals else added

    def observe(key: MatrixKey, a: Tensor, b: Tensor) -> None:
        add("a", key, a)
        add("b", key, b)

    with substituted(request.view, weights), torch.enable_grad():
        for batch in track(request.batches, progress):
            share = counts[:, batch.places.cpu()].to(bases.dtype).to(request.view.device)
            tokens = tokens + (share @ batch.real.sum(dim=1).to(share)).cpu()
            with watching(request, bases, batch, observe=observe, reads=partial(add, "x")):
                total = run(request.view, batch).loss.sum()
                total.backward()  # type: ignore[no-untyped-call]
            loss += float(total.detach())
    return loss / request.n, {
        key: Sums(totals[key, "a"].cpu(), totals[key, "b"].cpu(), totals[key, "x"].cpu() / tokens[:, None])
        for key in request.keys
    }
