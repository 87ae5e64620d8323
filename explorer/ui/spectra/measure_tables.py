"""What describes the shown spectra, as two tables: one would be cut off on a small screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from explorer.spectra.measures import QUANTILES, SpectrumSummary, summarise
from explorer.spectra.svd import Decomposition
from explorer.ui.components.spectrum_chart import Series
from explorer.ui.session import guide

_NUMBER = st.column_config.NumberColumn
_TEXT = st.column_config.TextColumn
_SIZES: dict[str, Any] = {
    "matrix": _TEXT("matrix"),
    "d_in": _NUMBER("d_in", width=52, help="inputs: y = x W"),
    "d_out": _NUMBER("d_out", width=52, help="outputs"),
    "values": _NUMBER("values", help="that are not exactly zero"),
    "in mask": _NUMBER("in mask"),
    "spectral_norm": _NUMBER("largest", format="%.4g", help="σ₀, the spectral norm"),
    "frobenius_norm": _NUMBER("Frobenius norm", format="%.4g", help="√Σσ²"),
    "stable_rank": _NUMBER("stable rank", format="%.4g", help="Σσ² / σ₀²"),
    "effective_rank": _NUMBER("effective rank", format="%.4g", help="exp of the entropy of σ / Σσ"),
    "participation_ratio": _NUMBER("participation", format="%.4g", help="participation ratio (Σσ²)² / Σσ⁴"),
    "condition_number": _NUMBER("condition", format="%.4g", help="σ₀ / smallest σ; empty if that is zero"),
    "null_count": _NUMBER("null", help="values below max(d_in, d_out) · ε · σ₀"),
}
COUNTS = [f"{share:.0%}" for share in QUANTILES]
_TAILS: dict[str, Any] = {
    "matrix": _TEXT("matrix"),
    **{name: _NUMBER(f"{name} energy", help=f"fewest largest values that carry {name} of Σσ²") for name in COUNTS},
    "alpha": _NUMBER(
        "tail exponent",
        format="%.2f",
        help="α of p(λ) ~ λ^-α for the largest λ = σ² (maximum likelihood, start of the tail by Kolmogorov-Smirnov "
        "distance: weightwatcher's alpha)",
    ),
    "stderr": _NUMBER("± error", format="%.2f", help="standard error of α"),
    "tail": _NUMBER("in the tail", help="values that α was fitted to"),
    "distance": _NUMBER("KS distance", format="%.3f", help="between the tail and its fit: a large one is no power law"),
    "bulk_edge": _NUMBER(
        "bulk edge",
        format="%.4g",
        help="largest σ of a random matrix of this shape with the same median (Marchenko-Pastur); none for products",
    ),
    "above_bulk": _NUMBER("above the edge", help="values above it"),
    "degenerate blocks": _TEXT("degenerate blocks", help="double-click a cell to see all"),
}


def draw(shown: Sequence[Series], decompositions: Sequence[Decomposition]) -> None:
    """Both tables, one row per matrix, and what the words mean."""
    rows = []
    for one, found in zip(shown, decompositions, strict=True):
        d_in, d_out = found.shape
        shape = {"d_in": d_in, "d_out": d_out}
        summary = summarise(found.s, **shape)
        blocks = ", ".join(f"{block[0]}-{block[-1]}" for block in one.blocks) or "none"
        values = int((found.s != 0).sum())
        about = {"matrix": one.matrix, "values": values, "in mask": len(one.removed), "degenerate blocks": blocks}
        tail = {} if summary.power_law is None else vars(summary.power_law)
        rows.append({**about, **shape, **vars(summary), **energy_cells(summary), **tail})
    for columns in (_SIZES, _TAILS):
        st.dataframe(pd.DataFrame(rows, columns=list(columns)), hide_index=True, column_config=columns)
    guide.explain(
        "Hover over a column's name for its definition. A degenerate block holds neighbours within 1 % of each other: "
        "inside it single directions are not identified."
    )


def energy_cells(summary: SpectrumSummary) -> dict[str, int]:
    """How many of the largest values carry each share of the energy."""
    return dict(zip(COUNTS, summary.energy_counts, strict=True))
