"""What each example reads and is asked for along every singular direction, without weight gradients per example.

For value i of a matrix and example e:  a_ei = sum_{n in e} (x_n . u_i) (v_i . g_n),  b_ei = sum_{n in e} v_i . g_n.

1. Forward: hooks hold on to what the matrices read, and watch for the gradients at what they put out.
2. Backward: when a matrix's gradient arrives, X U and G V are multiplied and summed over each example's tokens.

That costs about as much as the weight gradients that are not computed meanwhile, and one table [examples, r] at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.attribution.base import ScoringRequest
from explorer.core.keys import MatrixKey
from explorer.measure.batches import Batch
from explorer.models import View
from explorer.models.matrices import input_hook, output_hook, parts_of, read

Reads = Callable[[MatrixKey, Tensor], None]
Observe = Callable[[MatrixKey, Tensor, Tensor], None]


class Bases:
    """Singular directions of the asked matrices, where and how the view computes (float32 or wider).

    Attributes:
        of: per matrix its rows and columns in the stacked matrix, u [d_in, r] and v [d_out, r].
        sites: the matrices of each stacked matrix.
        dtype: what sums are computed in.
    """

    def __init__(self, request: ScoringRequest) -> None:
        view = request.view
        self.dtype = torch.promote_types(read(view, request.keys[0]).dtype, torch.float32)
        self.of: dict[MatrixKey, tuple[slice, slice, Tensor, Tensor]] = {}
        self.sites: dict[MatrixKey, list[MatrixKey]] = {}
        for key in request.keys:
            svd = request.svds.get(view, key)
            device = read(view, key).device
            u, v = (tensor.to(device, self.dtype) for tensor in (svd.u, svd.vh.T))
            self.of[key] = (*parts_of(view, key), u, v)
            self.sites.setdefault(key.stacked, []).append(key)


@contextmanager
def gradients(
    view: View,
    sites: Collection[MatrixKey],
    observe: Callable[[MatrixKey, Tensor, Tensor], None],
    reads: Callable[[MatrixKey, Tensor], None] | None = None,
) -> Iterator[None]:
    """Tell `observe(site, x, g)` at every backward pass through a forward pass that was run in this block.

    Args:
        view: what is run, with gradients enabled.
        sites: stacked matrices.
        observe: gets what a matrix read [batch, position, d_in] and its output's gradient [batch, position, d_out].
        reads: told (site, x) in the forward pass already.
    """

    def read_in(x: Tensor, hook: Any, site: MatrixKey) -> None:
        inputs[site] = x.detach().flatten(2)
        if reads is not None:
            reads(site, inputs[site])

    def write_out(y: Tensor, hook: Any, site: MatrixKey) -> Tensor:
        if not y.requires_grad:  # nothing before this matrix has a gradient
            y.requires_grad_()
        y.register_hook(partial(arrived, site=site))  # type: ignore[no-untyped-call]
        return y  # what is given may be a view that the model does not go on with unless it gets it back

    def arrived(gradient: Tensor, site: MatrixKey) -> None:
        observe(site, inputs[site], gradient.flatten(2))

    inputs: dict[MatrixKey, Tensor] = {}
    hooks: list[tuple[str, Any]] = [(input_hook(site), partial(read_in, site=site)) for site in sites]
    hooks += [(output_hook(site), partial(write_out, site=site)) for site in sites]
    with torch.enable_grad(), view.bridge.hooks(fwd_hooks=hooks):
        yield


@contextmanager
def watching(
    request: ScoringRequest, bases: Bases, batch: Batch, observe: Observe, reads: Reads | None = None
) -> Iterator[None]:
    """Tell `observe(key, a, b)`, both [batch, r], at every backward pass through a forward pass run in this block.

    Args:
        request: what is scored.
        bases: of the request.
        batch: what the forward pass runs.
        observe: gets a and b of one matrix.
        reads: gets, in the forward pass, the sum over each example's real tokens of x . u_i [batch, r].
    """

    def project(site: MatrixKey, x: Tensor) -> None:
        if reads is not None:
            total = (x * batch.real.to(x.device)[..., None]).sum(dim=1, dtype=bases.dtype)
            for key in bases.sites[site]:
                rows, _, u, _ = bases.of[key]
                reads(key, total[:, rows] @ u)

    def contract(site: MatrixKey, x: Tensor, g: Tensor) -> None:
        for key in bases.sites[site]:
            rows, columns, u, v = bases.of[key]
            written = g[..., columns].to(bases.dtype) @ v
            observe(key, ((x[..., rows].to(bases.dtype) @ u) * written).sum(dim=1), written.sum(dim=1))

    with gradients(request.view, bases.sites, contract, reads=project):
        yield


def resamples(request: ScoringRequest) -> Float[Tensor, "sample example"]:
    """How often each example counts: once in the first row, as drawn with replacement by `seed` in `bootstrap` others.

    The bootstrap of Efron (1979): the spread of a score over resamples of the examples estimates its standard error.
    """
    generator = torch.Generator().manual_seed(request.seed)
    drawn = torch.randint(request.n, (request.options.bootstrap, request.n), generator=generator)
    counts = torch.zeros(drawn.shape).scatter_add_(1, drawn, torch.ones(drawn.shape))
    return torch.cat([torch.ones(1, request.n), counts])
