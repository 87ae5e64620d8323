"""A mask as what it changes in the checkpoint's own matrices: `W' = W - x @ u s v`, exactly of rank r, and a bias.

Per stacked matrix `y = x @ W + b` becomes `y = x @ (W + left @ right) + b + bias`, in float64. Heads have their rows or
columns of the stacked matrix, so that their values stand side by side.

A mask of the folded basis is of `W_f = diag(g) W`, which reads what the norm gives before its scale g and shift h are
on it: `n` instead of `x = g n + h`. Taking `D = sum s_i u_i v_i^T` out of W_f is taking `diag(1/g) D` out of W, which
also takes out what the shift wrote, so that it has to be given back:

    n @ (W_f - D) + b_f = x @ (W - diag(1/g) D) + b + (h / g) @ D

What the folded basis takes out beside that (means that layer norms ignore) changes no output. With a scale that is zero
somewhere there is no such W, and the mask is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.core.errors import MaskError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply
from explorer.masks.belonging import adopted
from explorer.masks.fitting import fitting
from explorer.masks.mask import Mask, Removed
from explorer.models import View, load
from explorer.models.architectures import architecture
from explorer.models.matrices import heads, norm_of, parts_of, read_base, read_base_bias, replace, shape
from explorer.models.norms import READERS, norms
from explorer.spectra.cache import SvdCache

SMALLEST_SCALE = 1e-6  # of the largest, below which a norm's scale cannot be divided by


@dataclass(frozen=True, eq=False)
class Factors:
    """The change of one stacked matrix.

    Attributes:
        left, right: their product is added to W.
        means: what `x @ left` is frozen at, so that `(x @ left - means) @ right` is added to y.
    """

    left: Float[Tensor, "d_in r"]
    right: Float[Tensor, "r d_out"]
    means: Float[Tensor, " r"]

    @cached_property
    def bias(self) -> Float[Tensor, " d_out"] | None:
        """What is added to b; None if nothing is."""
        bias = -self.means @ self.right
        return bias if bool((bias != 0).any()) else None

    @property
    def rank(self) -> int:
        """Number of columns of `left`."""
        return self.left.shape[1]

    @property
    def weight(self) -> Float[Tensor, "d_in d_out"]:
        """What is added to W."""
        return self.left @ self.right


@dataclass(frozen=True, eq=False)
class Edit:
    """A mask on its model, ready to leave.

    Attributes:
        view: with the mask on it; what every export has to say again.
        mask: the mask, with the model's identity.
        raw: a view in the raw basis with the same change on it; `view` itself unless its basis is folded.
        changes: what the mask changes, by stacked matrix, in the raw basis.
        svds: decompositions.
    """

    view: View
    mask: Mask
    raw: View
    changes: Mapping[MatrixKey, Factors]
    svds: SvdCache


def edited(view: View, mask: Mask, svds: SvdCache) -> Edit:
    """Put a mask onto a view, and say what it changes.

    Raises:
        MaskError: a mask that removes nothing, another model's, or one of the folded basis on a model whose norms
            cannot be undone.
        MatrixError, ModelError: as `explorer.masks.apply.apply`.
    """
    mask = adopted(view, mask, svds)
    if not len(mask):
        raise MaskError("the mask removes nothing: there is no change to export; give a mask that removes a value.")
    apply(view, mask, svds)
    model = view.model
    folded = model.basis == "folded"
    raw = load(model.source.name, dtype=model.dtype, device=str(view.device)).view() if folded else view
    changes = _changes(view, raw, mask, svds=svds)
    if raw is not view:
        for key, change in changes.items():
            W, b = read_base(raw, key), read_base_bias(raw, key)
            bias = None if change.bias is None else change.bias + (0 if b is None else b.double().cpu())
            replace(raw, key, W.double().cpu() + change.weight, b=bias)
    return Edit(view, mask, raw, changes=changes, svds=svds)


def columns(view: View, key: MatrixKey) -> tuple[Int[Tensor, " d_out"], int]:
    """Which outputs of its module are those of a stacked matrix, and how many the module has."""
    stored = architecture(view.model.source.name, view.model.architecture)
    widths = {kind: shape(view, MatrixKey(key.layer, kind))[1] for kind in stored.sharing(key.kind)}
    return stored.outputs(key.kind, widths, heads(view, Kind.K)), sum(widths.values())


def _changes(view: View, raw: View, mask: Mask, svds: SvdCache) -> dict[MatrixKey, Factors]:
    grouped: dict[MatrixKey, list[MatrixKey]] = {}
    for key in mask.by_matrix:
        grouped.setdefault(key.stacked, []).append(key)
    found = {}
    for site, keys in grouped.items():
        parts = [_part(view, mask, key, svds=svds) for key in keys]
        left, right, means = (torch.cat([one[i] for one in parts], dim=dim) for i, dim in ((0, 1), (1, 0), (2, 0)))
        if raw is not view:
            left, shift = _unfolded(raw, site, left)
            means = means + shift
        found[site] = Factors(left, right, means)
    return found


def _part(view: View, mask: Mask, key: MatrixKey, svds: SvdCache) -> tuple[Tensor, Tensor, Tensor]:
    """`left`, `right` and frozen means of one matrix, at its place in the stacked one."""
    removed, (rows, columns) = mask.by_matrix[key], parts_of(view, key)
    d_in, d_out = shape(view, key.stacked)
    svd, indices = fitting(view, key, removed, svds=svds), [one.index for one in removed]
    left = torch.zeros(d_in, len(indices), dtype=torch.float64)
    right = torch.zeros(len(indices), d_out, dtype=torch.float64)
    left[rows] = svd.left(indices).double()
    right[:, columns] = -(1.0 - mask.gain) * svd.s[indices].double()[:, None] * svd.right(indices).double()
    means = [one.c if mask.mode == "freeze" else 0.0 for one in removed]
    return left, right, torch.tensor(means, dtype=torch.float64)


def _unfolded(raw: View, site: MatrixKey, left: Tensor) -> tuple[Tensor, Tensor]:
    """`left` for what the matrix reads behind the norm's scale and shift, and the shift's part in every value."""
    if site.kind not in READERS:
        return left, left.new_zeros(left.shape[1])
    placed = norms(raw.model.architecture, raw.bridge.original_model.config)
    norm = norm_of(raw, site.layer, placed.before(site.kind))
    assert norm is not None
    weight: Any = norm.weight
    g: Tensor = weight.detach().double().cpu() + placed.offset
    if float(g.abs().min()) <= SMALLEST_SCALE * float(g.abs().max()):
        raise MaskError(
            f"the mask is of the folded basis, and the norm in front of {site} has a scale of zero, which cannot be "
            "undone: make a mask of the raw basis."
        )
    left = left / g[:, None]
    h = getattr(norm, "bias", None)
    return left, left.new_zeros(left.shape[1]) if h is None else h.detach().double().cpu() @ left


def zeroed(mask: Mask) -> Mask:
    """The mask with nothing in the place of its values, instead of their means: another mask, with another digest."""
    removed = tuple(Removed(matrix=one.matrix, index=one.index, sigma=one.sigma) for one in mask.removed)
    return Mask(model=mask.model, mode="zero", gain=mask.gain, removed=removed, provenance=mask.provenance)
