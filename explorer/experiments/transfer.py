"""Carry a mask over: to a sibling (a model of the same shapes, such as a fine-tune or its base), or to another task.

To a sibling (`transfer`):

1. Matrices and indices stay, and so does the gain; the sibling must have those matrices.
2. Each sigma is the sibling's own.
3. In freeze mode the frozen means c_i = m . u_i are computed anew, over a task's train tokens in the sibling; without a
   task they are kept as they are, which is right only where the sibling's u_i and its inputs are those of the mask's
   model.

The i-th singular value of two models is the same thing only as far as their i-th singular vectors agree, which
`matches` measures. A mask of the very model comes back unchanged.

To another task of its own model (`refreeze`) only the frozen means change: they are those of that task's train tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from explorer.attribution import Scores, score
from explorer.core.errors import MaskError
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress, part
from explorer.masks.apply import check_mask
from explorer.masks.belonging import adopted, belongs, identity
from explorer.masks.fitting import fitted
from explorer.masks.mask import Derived, Mask, Removed
from explorer.models import View
from explorer.models.matrices import check
from explorer.spectra.cache import SvdCache
from explorer.spectra.svd import Decomposition
from explorer.tasks import Task

MEANS = "magnitude"  # the scorer that gives frozen means for one forward pass


@dataclass(frozen=True)
class Match:
    """How well one removed value's direction is found again in the sibling; 1 is the same direction, 0 a right angle.

    Attributes:
        match: |u_i . u'_i| |v_i . v'_i|, u and v of the mask's model, u' and v' of the sibling.
        nearest: the j of the sibling with the largest |u_i . u'_j| |v_i . v'_j|; another than i where values changed
            their order, or lie so close together that their directions mix.
        nearest_match: that product.
    """

    key: MatrixKey
    index: int
    match: float
    nearest: int
    nearest_match: float


def transfer(
    view: View,
    mask: Mask,
    svds: SvdCache,
    task: Task | None = None,
    *,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Mask:
    """A mask of the view's model that removes the same indices of the same matrices; the view is left unpruned.

    Args:
        view: of the sibling.
        mask: of another model of the same shapes, in the same basis.
        svds: decompositions.
        task: whose train tokens give the frozen means of a freeze mask; None keeps the mask's.
        limit: the first so many of its train examples only.
        progress: told (done, total).

    Raises:
        MaskError: another basis, a matrix that the sibling does not have, or an index beyond its rank.
        TaskError: train examples that cannot be used.
    """
    if belongs(view, mask, svds):
        check_mask(view, mask, svds, progress=progress)
        return adopted(view, mask, svds)
    return _made_anew(view, mask, svds, task=task, limit=limit, progress=progress)


def refreeze(
    view: View, mask: Mask, svds: SvdCache, task: Task, *, limit: int | None = None, progress: Progress | None = None
) -> Mask:
    """The same values of the same model, with frozen means over another task's train tokens; the view is left unpruned.

    A mask without frozen means (mode `zero`, or nothing removed) comes back unchanged.

    Args:
        view: of the mask's own model.
        mask: what to carry over to the task.
        svds: decompositions.
        task: whose train tokens give the frozen means.
        limit: the first so many of its train examples only.
        progress: told (done, total).

    Raises:
        MaskError: a mask of another model.
        TaskError: train examples that cannot be used.
    """
    check_mask(view, mask, svds, progress=part(progress, 0.0, 0.5))
    mask = adopted(view, mask, svds)
    if mask.mode != "freeze" or not len(mask):
        return mask
    return _made_anew(view, mask, svds, task=task, limit=limit, progress=part(progress, 0.5, 1.0))


def _made_anew(
    view: View, mask: Mask, svds: SvdCache, task: Task | None, limit: int | None, progress: Progress | None
) -> Mask:
    """The mask's values with the sigmas of the view's model and, where there is a task, with means over its tokens."""
    own = identity(view.model)
    found = _decompositions(view, mask, svds, progress=part(progress, 0.0, 0.5))
    scores = None
    if task is not None and mask.mode == "freeze" and len(mask):
        scores = score(
            view,
            task,
            svds,
            keys=tuple(found),
            scorer=MEANS,
            mode="freeze",
            limit=limit,
            progress=part(progress, 0.5, 1.0),
        )
    derived = Derived(
        how="transfer",
        masks=(mask.digest,),
        model=None if mask.model.digest == own.digest else mask.model.digest,
        means=None if scores is None else scores.task,
    )
    return Mask(
        model=own,
        mode=mask.mode,
        gain=mask.gain,
        removed=tuple(
            _carried(found, scores, key, one=one) for key, values in mask.by_matrix.items() for one in values
        ),
        provenance=mask.provenance.model_copy(update={"derived": derived}),
    )


def matches(view: View, base: View, mask: Mask, svds: SvdCache) -> tuple[Match, ...]:
    """How well the directions that a mask of `base` removes are found again in the view's model, in the mask's order.

    Raises:
        MaskError: the mask is not of `base`, or a matrix has another shape in the view's model.
    """
    check_mask(base, mask, svds)
    there = fitted(base, mask, svds).get_many(base, tuple(mask.by_matrix))
    here = _decompositions(view, mask, svds)
    found = []
    for key, values in mask.by_matrix.items():
        ours, theirs = here[key].shape, there[key].shape
        if ours != theirs:
            raise MaskError(
                f"{key} is {ours[0]} x {ours[1]} in {view.model.source.name} and {theirs[0]} x {theirs[1]} in "
                f"{base.model.source.name}: a mask can be carried over to a model of the same shapes only."
            )
        chosen = [one.index for one in values]
        products = _cosines(there[key].left(chosen).T, here[key].u.T) * _cosines(there[key].right(chosen), here[key].vh)
        for row, index in zip(products, chosen, strict=True):
            nearest = int(row.argmax())
            found.append(Match(key, index, float(row[index]), nearest=nearest, nearest_match=float(row[nearest])))
    return tuple(found)


def _decompositions(
    view: View, mask: Mask, svds: SvdCache, progress: Progress | None = None
) -> dict[MatrixKey, Decomposition]:
    """Decompositions of the sibling's matrices, once it is sure that it can take the mask."""
    own = identity(view.model)
    if mask.model.basis != own.basis:
        mask.check_model(own)  # says which basis to load
    for key in mask.by_matrix:
        check(view, key)
    found = svds.get_many(view, tuple(mask.by_matrix), progress)
    for key, values in mask.by_matrix.items():
        last = values[-1].index
        if last >= found[key].rank:
            raise MaskError(
                f"{key} has singular values 0 to {found[key].rank - 1} in {view.model.source.name}, the mask removes "
                f"{last}: a mask can be carried over to a model of the same shapes only."
            )
    return found


def _carried(found: Mapping[MatrixKey, Decomposition], scores: Scores | None, key: MatrixKey, one: Removed) -> Removed:
    if scores is not None:
        return scores.removed(key, one.index)
    return Removed(matrix=one.matrix, index=one.index, sigma=float(found[key].s[one.index]), c=one.c)


def _cosines(rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """|cosine| of unit rows with unit rows, in float64: [rows, others]."""
    return (rows.double() @ others.double().T).abs().clamp_max(1.0)
