"""From decompositions, scores and mask to what the clickable plot shows, and back to a mask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import streamlit as st

from explorer.attribution import Scores
from explorer.core.keys import AnyKey, CircuitKey, MatrixKey
from explorer.masks.mask import Mask, Removed
from explorer.models.matrices import matrices
from explorer.spectra.circuits import circuits
from explorer.ui.bench import labels
from explorer.ui.components.spectrum_chart import Axis, Series
from explorer.ui.components.spectrum_chart.of_matrix import series_of
from explorer.ui.jobs import work
from explorer.ui.session import Bench, links

FEW = 12  # matrices that the plot's legend names


def scored_keys(bench: Bench) -> tuple[MatrixKey, ...]:
    """The bench's set of scored matrices."""
    with bench.views.borrow() as view:
        return matrices(view, bench.kinds, per_head=bench.per_head)


def every_key(bench: Bench) -> tuple[MatrixKey, ...]:
    """Every matrix of the model, per head and stacked, in canonical order."""
    with bench.views.borrow() as view:
        return tuple(sorted({*matrices(view), *matrices(view, per_head=False)}))


def every_product(bench: Bench) -> tuple[CircuitKey, ...]:
    """Every QK and OV of the model, layer by layer."""
    with bench.views.borrow() as view:
        return circuits(view)


def choose_axis(keys: tuple[str, str], *, scored: bool) -> Axis:
    """What the plot's height shows; `keys` name the two widgets, for what it is and for whether it is logarithmic."""
    heights = ["singular value", "score"]
    shown = links.restore(keys[0], heights[0], links.one_of(heights))
    log = links.restore(keys[1], True, links.one_of([False]))
    about = "What the height of a point is; its colour is the score either way."
    by_score = shown.draw(st.segmented_control, "Height", heights, required=True, help=about) == "score"
    about = "Logarithmic height; scores have two signs and are always linear."
    log_y = log.draw(st.toggle, "Log axis", disabled=by_score, help=about)
    if by_score and scored:
        return "score"
    return "log-sigma" if log_y else "sigma"


def extremes_last(keys: Sequence[MatrixKey], scores: Scores | None) -> list[MatrixKey]:
    """Many matrices in the order in which none of the largest scores is drawn over; few as they are."""
    if scores is None or len(keys) <= FEW:
        return list(keys)
    sizes = {key: float(found.score.abs().max()) for key, found in scores.matrices.items()}
    return sorted(keys, key=lambda key: sizes.get(key, 0.0))


def series(bench: Bench, keys: Sequence[AnyKey], scores: Scores | None, *, edges: bool = False) -> list[Series] | None:
    """One series per matrix for the plot; None while a decomposition is under way.

    Args:
        bench: what is looked at.
        keys: matrices and products; products have no scores and nothing removed.
        scores: their scores, where there are any.
        edges: whether to draw where the random bulk ends.
    """
    if not work.prepared(bench, keys):
        return None
    found, called = [], labels.texts(bench)
    for key in keys:
        decomposition = work.decomposition(bench, key)
        if decomposition is None:
            return None
        matrix = key if isinstance(key, MatrixKey) else None
        scored = scores.matrices.get(matrix) if matrix is not None and scores is not None else None
        found.append(
            series_of(
                key, decomposition, scored=scored, called=called.get(str(key)), edge=edges,
                removed=frozenset() if matrix is None else bench.mask.indices(matrix),
            )
        )  # fmt: skip
    return found


def with_removed(mask: Mask, scores: Scores, changed: Mapping[str, Iterable[int]]) -> Mask:
    """`mask` with the removed indices of some matrices replaced by those in `changed` (matrix key -> indices).

    A value that stays removed keeps its entry, and with it the frozen mean that the mask had.
    """
    gone = {(one.matrix, one.index) for one in mask.removed if one.matrix in changed}
    new: list[Removed] = []
    for matrix, indices in changed.items():
        key, kept = MatrixKey.parse(matrix), mask.indices(MatrixKey.parse(matrix))
        gone -= {(matrix, index) for index in indices}
        present = scores.matrices[key].present
        new += [scores.removed(key, index) for index in indices if index not in kept and bool(present[index])]
    return mask.without(gone).with_removed(new)
