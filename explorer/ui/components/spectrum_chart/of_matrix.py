"""From a decomposition, scores and a mask to what the plot shows of a matrix."""

from __future__ import annotations

from collections.abc import Mapping

from explorer.attribution import MatrixScores
from explorer.core.keys import AnyKey
from explorer.spectra.measures import blocks, null_from, summarise
from explorer.spectra.svd import Decomposition
from explorer.ui.components.spectrum_chart.series import Series


def series_of(
    key: AnyKey,
    decomposition: Decomposition,
    *,
    scored: MatrixScores | None,
    removed: frozenset[int],
    called: Mapping[int, str] | None = None,
    edge: bool = False,
) -> Series:
    """The singular values of one matrix or product.

    Args:
        key: its key.
        decomposition: of it.
        scored: its scores, if there are any.
        removed: indices that the mask removes.
        called: what some values are called, by index.
        edge: whether to draw where the random bulk ends.
    """
    d_in, d_out = decomposition.shape
    null = null_from(decomposition.s, d_in, d_out)
    return Series(
        matrix=str(key),
        s=decomposition.s.numpy(),
        score=None if scored is None else scored.score.double().numpy(),
        removed=removed,
        blocks=blocks(decomposition.s[:null]) if null else (),
        null_from=null if null < decomposition.rank else None,
        uncertain=frozenset() if scored is None else scored.uncertain_indices,
        labels={i: text for i, text in (called or {}).items() if i < decomposition.rank},
        edge=summarise(decomposition.s, d_in, d_out).bulk_edge if edge else None,
    )
