"""What describes the shown spectra, as two tables: one would be cut off on a small screen."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from explorer.spectra.measures import QUANTILES, SpectrumSummary, summarise
from explorer.spectra.svd import Decomposition
from explorer.ui.components.spectrum_chart import Series
from explorer.ui.session import guide

_NUMBER = st.column_config.NumberColumn
_SIZES = {
    "d_in": _NUMBER("d_in", width=52, help="inputs: y = x W"),
    "d_out": _NUMBER("d_out", width=52, help="outputs"),
    "largest": _NUMBER("largest", format="%.4g", help="σ₀, the spectral norm"),
    "Frobenius norm": _NUMBER("Frobenius norm", format="%.4g", help="√Σσ²"),
    "stable rank": _NUMBER("stable rank", format="%.4g", help="Σσ² / σ₀²"),
    "effective rank": _NUMBER("effective rank", format="%.4g", help="exp of the entropy of σ / Σσ"),
    "participation": _NUMBER("participation", format="%.4g", help="participation ratio (Σσ²)² / Σσ⁴"),
    "condition": _NUMBER("condition", format="%.4g", help="σ₀ / smallest σ; empty if that is zero"),
    "null": _NUMBER("null", help="values below max(d_in, d_out) · ε · σ₀"),
}
_COUNTS = [f"{share:.0%}" for share in QUANTILES]
_TAILS = {
    **{name: _NUMBER(f"{name} energy", help=f"fewest largest values that carry {name} of Σσ²") for name in _COUNTS},
    "exponent": _NUMBER(
        "tail exponent",
        format="%.2f",
        help="α of p(λ) ~ λ^-α for the largest λ = σ² (maximum likelihood, start of the tail by Kolmogorov-Smirnov "
        "distance: weightwatcher's alpha)",
    ),
    "error": _NUMBER("± error", format="%.2f", help="standard error of α"),
    "tail": _NUMBER("in the tail", help="values that α was fitted to"),
    "distance": _NUMBER("KS distance", format="%.3f", help="between the tail and its fit: a large one is no power law"),
    "edge": _NUMBER(
        "bulk edge",
        format="%.4g",
        help="largest σ of a random matrix of this shape with the same median (Marchenko-Pastur); none for products",
    ),
    "above": _NUMBER("above the edge", help="values above it"),
    "degenerate blocks": st.column_config.TextColumn("degenerate blocks", help="double-click a cell to see all"),
}


def draw(shown: Sequence[Series], decompositions: Sequence[Decomposition]) -> None:
    """Both tables, one row per matrix, and what the words mean."""
    sizes, tails = [], []
    for one, found in zip(shown, decompositions, strict=True):
        d_in, d_out = found.u.shape[0], found.vh.shape[1]
        summary = summarise(found.s, d_in, d_out)
        shape = {"d_in": d_in, "d_out": d_out, "values": found.rank, "in mask": len(one.removed)}
        sizes.append({"matrix": one.matrix, **shape, **_size_cells(summary)})
        blocks = ", ".join(f"{block[0]}-{block[-1]}" for block in one.blocks) or "none"
        tails.append({"matrix": one.matrix, **_tail_cells(summary), "degenerate blocks": blocks})
    st.dataframe(pd.DataFrame(sizes), hide_index=True, column_config=_SIZES)
    st.dataframe(pd.DataFrame(tails), hide_index=True, column_config=_TAILS)
    guide.explain(
        "Hover over a column's name for its definition. A degenerate block holds neighbours within 1 % of each other: "
        "inside it single directions are not identified."
    )


def _size_cells(summary: SpectrumSummary) -> dict[str, float]:
    return {
        "largest": summary.spectral_norm,
        "Frobenius norm": summary.frobenius_norm,
        "stable rank": summary.stable_rank,
        "effective rank": summary.effective_rank,
        "participation": summary.participation_ratio,
        "condition": summary.condition_number,
        "null": summary.null_count,
    }


def _tail_cells(summary: SpectrumSummary) -> dict[str, float | None]:
    tail = summary.power_law
    return {
        **dict(zip(_COUNTS, summary.energy_counts, strict=True)),
        "exponent": None if tail is None else tail.alpha,
        "error": None if tail is None else tail.stderr,
        "tail": None if tail is None else tail.tail,
        "distance": None if tail is None else tail.distance,
        "edge": summary.bulk_edge,
        "above": summary.above_bulk,
    }
