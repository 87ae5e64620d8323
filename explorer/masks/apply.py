"""Put a mask onto a view: `W' = W - sum s_i u_i v_i^T`, `b' = b + sum s_i c_i v_i` over removed i (paper, section 3).

A mask of gain g keeps the share g of its values: both sums are multiplied by 1 - g. At g = 0 they are as above.

W is the weight as it is stored, in float32, and so are u_i, s_i and v_i: only W' is rounded to the type that the model
is loaded in, so that a mask means the same in every type, and what stays is as exact as that type allows. A mask of
before may be of the decomposition of the weights as they were loaded (`explorer.masks.fitting`): it takes its part from
these, as it did then.

In the basis `delta` (`explorer.models.delta`) a matrix without any of its values is the base model's, bit for bit.

A view's weights are a function of the mask alone: what the mask does not touch is the shared model's own tensor, so the
empty mask is the identity, bit for bit, whatever was applied before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.core.errors import MaskError
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress
from explorer.masks.belonging import SIGMA_TOLERANCE, adopted, identity
from explorer.masks.fitting import fitting, fitting_type
from explorer.masks.frozen import check_means
from explorer.masks.mask import Mask, Removed
from explorer.models import Model, View
from explorer.models.matrices import check, parts_of, read_base, read_base_bias, replace, restore
from explorer.models.stored import StoredMatrices
from explorer.spectra.cache import SvdCache
from explorer.spectra.svd import Decomposition

__all__ = ["Change", "apply", "check_mask", "check_values", "empty_mask", "identity"]


@dataclass(frozen=True)
class Change:
    """What applying a mask changed on a view.

    Attributes:
        removed: number of removed values now in force.
        matrices: the matrices they belong to.
        rewritten: stacked matrices whose weight was computed anew; the others already were as the mask wants them.
        restored: stacked matrices that got the shared model's weight back.
    """

    removed: int
    matrices: tuple[MatrixKey, ...]
    rewritten: tuple[MatrixKey, ...]
    restored: tuple[MatrixKey, ...]


def empty_mask(model: Model, mode: str = "freeze") -> Mask:
    """A mask of this model that removes nothing."""
    return Mask.model_validate({"model": identity(model), "mode": mode})


def apply(view: View, mask: Mask, svds: SvdCache) -> Change:
    """Make the view's weights those of the mask, whatever was applied before.

    Only stacked matrices whose removed values differ from what is in force are computed.

    Raises:
        MaskError: another model's mask, an index beyond the rank, a sigma that is not the matrix's, or a frozen mean
            that no input of the model can give.
        MatrixError: a matrix that the model does not have.
    """
    mask = adopted(view, mask, svds)
    wanted: dict[MatrixKey, dict[MatrixKey, tuple[Removed, ...]]] = {}
    for key, removed in mask.by_matrix.items():
        check(view, key)
        wanted.setdefault(key.stacked, {})[key] = removed
    with view.lock:
        states = {site: (mask.mode, mask.gain, tuple(parts.items())) for site, parts in wanted.items()}
        stale = [site for site, state in states.items() if view.applied.get(site) != state]
        svds.get_many(view, [key for site in stale for key in wanted[site]])  # missing ones are computed together
        # Every part is computed and checked before the first weight changes, so a refused mask changes nothing.
        edits = {site: _edit(view, wanted[site], mask, svds=svds) for site in stale}
        restored = [site for site in view.applied if site not in wanted]
        for site in (*restored, *stale):
            restore(view, site)
            view.applied.pop(site, None)
        for site, (W, b) in edits.items():
            replace(view, site, W, b=b)
            view.applied[site] = states[site]
    return Change(len(mask), tuple(mask.by_matrix), tuple(stale), restored=tuple(restored))


def check_mask(view: View, mask: Mask, svds: SvdCache, progress: Progress | None = None) -> None:
    """Raise what `apply` would raise for this mask, without changing the view."""
    mask = adopted(view, mask, svds)
    for key in mask.by_matrix:
        check(view, key)
    svds.get_many(view, tuple(mask.by_matrix), progress)
    for key, removed in mask.by_matrix.items():
        decomposition = fitting(view, key, removed, svds=svds)
        check_values(decomposition, key, mask=mask)
        check_means(view, key, mask, svd=decomposition)


def check_values(decomposition: Decomposition, key: MatrixKey, mask: Mask) -> None:
    """Raise MaskError unless every removed value is one of the matrix's, with the sigma that the mask states.

    Sigmas may differ by `SIGMA_TOLERANCE` of the largest one from those of the decomposition that they are of.
    """
    allowed = SIGMA_TOLERANCE * float(decomposition.s[0])
    for one in mask.by_matrix[key]:
        if one.index >= decomposition.rank:
            raise MaskError(f"{key} has singular values 0 to {decomposition.rank - 1}, the mask removes {one.index}.")
        found = float(decomposition.s[one.index])
        if abs(found - one.sigma) > allowed:
            raise MaskError(
                f"singular value {one.index} of {key} is {found:.6g}, the mask says {one.sigma:.6g}: "
                "it was made from other weights; export it again from this model."
            )


def _edit(
    view: View, parts: Mapping[MatrixKey, tuple[Removed, ...]], mask: Mask, svds: SvdCache
) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of one stacked matrix with the values of its parts removed or scaled; None keeps the bias."""
    model, taken = view.model, 1.0 - mask.gain
    stacked = next(iter(parts)).stacked
    base, bias, stored = read_base(view, stacked), read_base_bias(view, stacked), StoredMatrices(view)
    compute = torch.promote_types(base.dtype, torch.float32)
    W = base.detach().cpu().to(compute).clone()
    frozen = torch.zeros(W.shape[1], dtype=compute)
    for key, removed in parts.items():
        dtype = fitting_type(view, key, removed, svds=svds)
        decomposition = svds.get(view, key, dtype)
        check_values(decomposition, key, mask=mask)
        check_means(view, key, mask, svd=decomposition)
        indices = [one.index for one in removed]
        where = parts_of(view, key)
        if dtype == model.wide and not stored.in_memory:
            W[where] = stored.weight(key).cpu().to(compute)
            bias = stored.bias(stacked)
        if model.against is not None and mask.gain == 0 and _all_there_is(decomposition, indices):
            W[where] = stored.base(stacked)[0][where].to(compute)  # what rounding left in the difference goes, too
        else:
            W[where] -= taken * decomposition.part(indices).to(compute)
        weights = taken * decomposition.s[indices] * torch.tensor([one.c for one in removed], dtype=torch.float64)
        frozen[where[1]] += weights.to(compute) @ decomposition.right(indices).to(compute)
    if mask.mode == "zero":
        return W, None
    whole = frozen if bias is None else bias.detach().cpu().to(compute) + frozen
    if not bool(whole.to(base.dtype).isfinite().all()):
        raise MaskError(
            f"the frozen means of {stacked} make its bias infinite in {str(base.dtype).removeprefix('torch.')}: the "
            "mask is damaged, or was made in a wider type; load the model in float32, or make the mask again."
        )
    return W, whole


def _all_there_is(decomposition: Decomposition, indices: Sequence[int]) -> bool:
    """Whether these are all values of the decomposition that are not 0."""
    return set(decomposition.s.nonzero().flatten().tolist()) <= set(indices)
