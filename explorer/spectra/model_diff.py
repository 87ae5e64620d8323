"""A matrix, or a head's product, of two loaded models: a base model and its fine-tune, for example.

1. Both decompositions come from the cache. They go by each model's digest, so the models never share one.
2. The difference is decomposed from the weights themselves in float64: what fine-tuning changed is often smaller than
   the rounding of the stored singular vectors. That of two products, `A' B' - A B = [A' | -A] [B' ; B]`, from its
   factors.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.core.errors import MatrixError
from explorer.core.keys import AnyKey, CircuitKey, MatrixKey
from explorer.models import View
from explorer.models.matrices import read_base, shape
from explorer.spectra.cache import SvdCache
from explorer.spectra.circuits import check_any, decompose_circuit, factored, weights_of
from explorer.spectra.comparison import SpectrumDiff, shapes_differ
from explorer.spectra.svd import Decomposition, decompose


def compare_matrix(base: View, other: View, key: AnyKey, svds: SvdCache) -> SpectrumDiff:
    """What changed in a matrix or product from the model of `base` to that of `other`; both stay as they are.

    Raises:
        MatrixError: one of the models has no such matrix, the shapes differ, or the models are in different bases.
        ModelError: a matrix holds NaN or infinite weights.
    """
    check_both(base, other, key)
    check_shapes(base, other, key)
    first, second = decomposed(base, svds, key), decomposed(other, svds, key)
    return SpectrumDiff(first, second, _difference(base, other, key))


def decomposed(view: View, svds: SvdCache, key: AnyKey) -> Decomposition:
    """Singular values and vectors of a matrix, through the cache, or of a head's product."""
    return decompose_circuit(view, key) if isinstance(key, CircuitKey) else svds.get(view, key)


def check_both(base: View, other: View, key: AnyKey) -> None:
    """Raise MatrixError, naming the model that lacks it, unless both models have this matrix in one basis."""
    for view in (base, other):
        try:
            check_any(view, key)
        except MatrixError as error:
            raise MatrixError(f"{view.model.source.name} does not have it: {error}") from None
    if base.model.basis != other.model.basis:
        raise MatrixError(
            f"{base.model.source.name} is in the {base.model.basis} basis, {other.model.source.name} in the "
            f"{other.model.basis} one: load both in one basis."
        )


def check_shapes(base: View, other: View, key: AnyKey) -> None:
    """Raise MatrixError unless a matrix that both models have is of one shape in them."""
    first, second = _shape(base, key), _shape(other, key)
    if first != second:
        raise MatrixError(shapes_differ(str(key), first, second))


def _shape(view: View, key: AnyKey) -> tuple[int, int]:
    if isinstance(key, MatrixKey):
        return shape(view, key)
    A, B = weights_of(view, key)
    return A.shape[0], B.shape[1]


def _difference(base: View, other: View, key: AnyKey) -> Float[Tensor, " values"]:
    """Singular values of `W' - W`."""
    if isinstance(key, MatrixKey):
        W, W_other = (read_base(view, key).detach().double().cpu() for view in (base, other))
        return decompose(W_other - W).s
    return _of_products(weights_of(base, key), weights_of(other, key))


def _of_products(base: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Float[Tensor, " values"]:
    (A, B), (A_other, B_other) = base, other
    return factored(torch.cat([A_other, -A], dim=1), torch.cat([B_other, B])).s
