"""Which decomposition a mask's values are of.

A mask holds sigma_i and c_i = m . u_i, but not u_i, so it must be put onto the very u_i that it was made with: with
another sign c_i would be added the wrong way round. Matrices are decomposed as they are stored, in one type for all
(`explorer.spectra.cache`), so that a mask fits whatever type the model is loaded in. Files of before hold values of the
weights as they were loaded. These are told by their sigmas, which rounding the weights changes by some 1e-5 of s_0,
and a decomposition made again, on another machine too, by less than `SAME` of it:

1. Values whose sigmas are those of the model's decomposition are of it.
2. Otherwise, if loading the model in one of the other types gives these sigmas, they are of that decomposition.
3. Otherwise they count as values of the model's, and whoever asked says if the sigmas are too far off.

A matrix some of whose values are of one and some of another decomposition is refused: no edit removes both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from explorer.core.config import DTYPES
from explorer.core.errors import MaskError
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress
from explorer.masks.mask import Mask, Removed
from explorer.models import Model, View
from explorer.spectra.cache import SvdCache
from explorer.spectra.svd import Decomposition

SAME = 1e-9  # of s_0
NEARER = 0.1  # folding on another device rounds otherwise: such sigmas are still this much nearer to their own


def fitting_type(view: View, key: MatrixKey, removed: Sequence[Removed], svds: SvdCache) -> str:
    """The type of the weights whose decomposition the mask's values of a matrix are of; mostly `Model.wide`.

    Raises:
        MaskError: values of several decompositions.
        MatrixError, ModelError: the matrix is not there, or cannot be decomposed.
    """
    model = view.model
    if model.basis == "delta":  # younger than masks of weights as they were loaded
        return model.wide
    own = _distances(svds.get(view, key), removed)
    if max(own, default=0.0) <= SAME:
        return model.wide
    others = {}
    for dtype in DTYPES:
        if dtype != model.wide and (model.rounds(dtype) or model.rounds(model.wide)):
            others[dtype] = _distances(svds.get(view, key, dtype), removed)
    best = min(others, key=lambda dtype: max(others[dtype]), default=None)
    if best is None:
        return model.wide
    if max(others[best]) < NEARER * max(own):
        return best
    for distances in others.values():
        for one, other in zip(own, distances, strict=True):
            if other <= SAME < one and min(own) <= SAME:
                raise MaskError(
                    f"the mask holds values of {key} of two kinds: of its weights as they are stored, and as an "
                    "earlier version loaded them, whose singular vectors differ; make the mask again."
                )
    return model.wide


def fitting(view: View, key: MatrixKey, removed: Sequence[Removed], svds: SvdCache) -> Decomposition:
    """The decomposition that the mask's values of a matrix are of; raises as `fitting_type` does."""
    return svds.get(view, key, fitting_type(view, key, removed, svds=svds))


def fitted(view: View, mask: Mask | None, svds: SvdCache) -> SvdCache:
    """Decompositions for work at a mask: of each of its matrices that which its values are of."""
    found = {}
    for key, removed in {} if mask is None else mask.by_matrix.items():
        if (dtype := fitting_type(view, key, removed, svds=svds)) != view.model.wide:
            found[key] = svds.get(view, key, dtype)
    return _Fitted(svds, view.model, found) if found else svds


class _Fitted(SvdCache):
    """Another cache, but for some matrices of one model."""

    def __init__(self, svds: SvdCache, model: Model, found: Mapping[MatrixKey, Decomposition]) -> None:
        super().__init__(None)
        self._inner, self._model, self._found = svds, model, found

    def get_many(
        self, view: View, keys: Sequence[MatrixKey], progress: Progress | None = None, *, dtype: str | None = None
    ) -> dict[MatrixKey, Decomposition]:
        """As the other cache, but for the matrices that are held here."""
        held = self._found if dtype is None and view.model is self._model else {}
        others = self._inner.get_many(view, [key for key in keys if key not in held], progress, dtype=dtype)
        return {key: held[key] if key in held else others[key] for key in keys}

    def missing(self, view: View, keys: Sequence[MatrixKey]) -> tuple[MatrixKey, ...]:
        """As the other cache."""
        return self._inner.missing(view, keys)


def _distances(decomposition: Decomposition, removed: Sequence[Removed]) -> list[float]:
    """By how much each sigma is off, relative to s_0; infinitely for an index beyond the rank."""
    largest = float(decomposition.s[0])
    found = []
    for one in removed:
        if one.index >= decomposition.rank:
            found.append(float("inf"))
            continue
        off = abs(float(decomposition.s[one.index]) - one.sigma)
        found.append(off / largest if largest else (float("inf") if off else 0.0))
    return found
