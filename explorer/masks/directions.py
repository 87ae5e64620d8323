"""Two masks of two models of one shape, such as a model and its fine-tune: whether they remove the same directions.

An index means a direction of one model only, so that equal indices of two models say little. Per matrix the directions
themselves are compared: with U_a the removed u_i of the first mask as columns, U_b those of the second,

    overlap = |U_a^T U_b|_F^2 / min(n_a, n_b),

the mean squared cosine of the principal angles between their spans, from 0 (orthogonal) to 1 (one holds the other); for
outputs with the v_i. Random directions give max(n_a, n_b) / d.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.core.errors import MatrixError
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress, track
from explorer.masks.belonging import adopted
from explorer.masks.fitting import fitting
from explorer.masks.mask import Mask
from explorer.models import View
from explorer.models.matrices import check
from explorer.spectra.cache import SvdCache


@dataclass(frozen=True, eq=False)
class RemovedDirections:
    """What a mask removes from one matrix.

    Attributes:
        shape: `(d_in, d_out)` of the matrix.
        u, v: removed directions, as orthonormal columns.
    """

    shape: tuple[int, int]
    u: Float[Tensor, "d_in n"]
    v: Float[Tensor, "d_out n"]


@dataclass(frozen=True)
class DirectionOverlap:
    """Directions of one matrix that two masks remove.

    Attributes:
        first, second: how many each removes.
        left, right: overlap of their inputs (u), and of their outputs (v); None where one mask removes none.
        chance_left, chance_right: what random directions give.
    """

    matrix: str
    first: int
    second: int
    left: float | None
    right: float | None
    chance_left: float | None
    chance_right: float | None


def removed_directions(
    view: View, mask: Mask, svds: SvdCache, progress: Progress | None = None
) -> dict[MatrixKey, RemovedDirections]:
    """The directions that a mask removes from its model, per matrix.

    Raises:
        MaskError, MatrixError, ModelError: another model's mask, or a matrix that cannot be had.
    """
    own = adopted(view, mask, svds)
    found = {}
    for key, removed in track(list(own.by_matrix.items()), progress):
        check(view, key)
        indices = [one.index for one in removed]
        svd = fitting(view, key, removed, svds=svds)
        found[key] = RemovedDirections(svd.shape, svd.left(indices).double(), svd.right(indices).double().T)
    return found


def overlap_of(key: MatrixKey, first: RemovedDirections | None, second: RemovedDirections | None) -> DirectionOverlap:
    """Both masks in one matrix, which at least one of them has.

    Raises:
        MatrixError: the matrix is of two shapes.
    """
    counts = [0 if one is None else one.u.shape[1] for one in (first, second)]
    named: dict[str, Any] = {"matrix": str(key), "first": counts[0], "second": counts[1]}
    if first is None or second is None:
        return DirectionOverlap(**named, left=None, right=None, chance_left=None, chance_right=None)
    if first.shape != second.shape:
        mine, its = (f"{d_in} x {d_out}" for d_in, d_out in (first.shape, second.shape))
        raise MatrixError(f"{key} is {mine} in the first model, {its} in the second: only equal shapes are compared.")
    left, right = (_overlap(*pair) for pair in ((first.u, second.u), (first.v, second.v)))
    largest = max(counts)
    return DirectionOverlap(
        **named, left=left, right=right, chance_left=min(1.0, largest / first.shape[0]),
        chance_right=min(1.0, largest / first.shape[1]),
    )  # fmt: skip


def _overlap(a: Float[Tensor, "d n"], b: Float[Tensor, "d m"]) -> float:
    return float(torch.linalg.matrix_norm(a.T @ b).square()) / min(a.shape[1], b.shape[1])
