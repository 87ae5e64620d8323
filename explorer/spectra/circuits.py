"""A head's products of matrices, read-only: what it attends by (QK) and what it moves (OV), in factored form.

For query head h with KV head k(h) (grouped queries: consecutive query heads share one), per Elhage et al. 2021:

    QK = W_Q[h] W_K[k(h)]^T    the score of a query and a key is x_query QK x_key^T
    OV = W_V[k(h)] W_O[h]      what attending to x adds to the residual stream is x OV

Both are `[d_model, d_model]` of rank at most d_head, so they have d_head singular values (fewer if d_model is less).

1. QR of both factors: `A = Q_a R_a`, `B^T = Q_b R_b`, in float64.
2. SVD of the small core: `R_a R_b^T = U diag(s) Vh`.
3. `u = Q_a U`, `vh = Vh Q_b^T`: no `[d_model, d_model]` matrix is ever formed.

Biases, the scale 1 / sqrt(d_head), rotary positions and norms on queries and keys (Qwen 3, Gemma 3, OLMo 2) are left
out: with them QK is only what a head would attend by without positions, before those norms.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.core.errors import MatrixError, ModelError
from explorer.core.keys import AnyKey, Circuit, CircuitKey, Kind, MatrixKey
from explorer.models import View
from explorer.models import matrices as registry
from explorer.spectra.svd import Decomposition


def circuits(view: View) -> tuple[CircuitKey, ...]:
    """Every QK and OV of the model, layer by layer; none in the basis `delta`."""
    if view.model.basis == "delta":
        return ()
    return tuple(
        CircuitKey(layer, circuit, head)
        for layer in range(view.config.n_layers)
        for circuit in Circuit
        for head in range(registry.heads(view, Kind.Q))
    )


def factors_of(view: View, key: CircuitKey) -> tuple[MatrixKey, MatrixKey]:
    """The two matrices whose product it is, in the order of multiplication (QK's second one transposed).

    Raises:
        MatrixError: the model has no such layer or head, or is in the basis `delta`: what a product changed by is no
            product.
    """
    if view.model.basis == "delta":
        raise MatrixError(
            f"{key} is a product of two matrices, of which the basis delta has only the differences: compare both "
            "models' products in the raw basis (spectra --against)."
        )
    queries, keys = registry.heads(view, Kind.Q), registry.heads(view, Kind.K)
    if not 0 <= key.head < queries:
        raise MatrixError(f"{key}: the model has query heads 0 to {queries - 1}: choose one of them.")
    shared = key.head * keys // queries
    first, second = (
        MatrixKey(key.layer, kind, shared if kind in (Kind.K, Kind.V) else key.head) for kind in key.circuit.kinds
    )
    registry.check(view, first)
    return first, second


def check_any(view: View, key: AnyKey) -> None:
    """Raise MatrixError, saying what there is, unless the model has this matrix or product."""
    if isinstance(key, CircuitKey):
        factors_of(view, key)
    else:
        registry.check(view, key)


def decompose_circuit(view: View, key: CircuitKey) -> Decomposition:
    """Singular values and vectors of a head's QK or OV in the shared, unpruned model, `[d_model, d_model]`.

    For QK, u is on the query side and v on the key side; for OV, u is read and v is written.

    Raises:
        MatrixError: no such layer or head.
        ModelError: a factor holds NaN or infinite weights.
    """
    A, B = weights_of(view, key)
    found = factored(A, B)
    stored = torch.promote_types(registry.read_base(view, factors_of(view, key)[0]).dtype, torch.float32)
    return Decomposition(found.u.to(stored), found.s, found.vh.to(stored))


def weights_of(view: View, key: CircuitKey) -> tuple[Float[Tensor, "d_in inner"], Float[Tensor, "inner d_out"]]:
    """The factors A and B of a product `A @ B` in the shared, unpruned model, in float64 on the CPU.

    Raises:
        MatrixError: no such layer or head.
        ModelError: a factor holds NaN or infinite weights.
    """
    factors = factors_of(view, key)
    A, B = (registry.read_base(view, factor).detach().double().cpu() for factor in factors)
    for factor, W in zip(factors, (A, B), strict=True):
        if not bool(torch.isfinite(W).all()):
            raise ModelError(f"{factor} holds NaN or infinite weights: check the model's files.")
    return A, B.T if key.circuit is Circuit.QK else B


def factored(A: Float[Tensor, "d_in inner"], B: Float[Tensor, "inner d_out"]) -> Decomposition:
    """The SVD of `A @ B` from its factors, in their own type, with r = min(d_in, inner, d_out) values."""
    left, right = torch.linalg.qr(A), torch.linalg.qr(B.T)
    core = torch.linalg.svd(left.R @ right.R.T, full_matrices=False)
    u, vh = left.Q @ core.U, core.Vh @ right.Q.T
    largest = u.gather(0, u.abs().argmax(dim=0, keepdim=True))
    sign = torch.where(largest < 0, -1.0, 1.0).to(u)
    return Decomposition((u * sign).contiguous(), core.S, (vh * sign.T).contiguous())
