"""The figures that stand beside a claim: its sentence, and a table for each kind of evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import pandas as pd
import streamlit as st

from explorer.core.columns import Column, cells, names
from explorer.search.evidence import columns
from explorer.search.evidence.figures import EvidenceFigures
from explorer.ui.components.words import literal

RowT = TypeVar("RowT")


def draw(evidence: EvidenceFigures, key: str) -> None:
    """The sentence, and every table that there is; `key` begins the keys of the tables."""
    claims = not evidence.sentence.startswith("This licenses no claim")
    (st.success if claims else st.warning)(literal(evidence.sentence), icon=":material/balance:")
    for sentence in columns.evidence_sentences(evidence):
        st.caption(literal(sentence))
    _table("On new examples", columns.CLUSTERED_COLUMNS, columns.clustered_rows(evidence), key=f"{key}-new")
    _table("Nulls and baselines", columns.RIVAL_COLUMNS, evidence.rivals.items(), key=f"{key}-rivals")
    _table("Other wordings", columns.WORDING_COLUMNS, evidence.wordings, key=f"{key}-wordings")
    if evidence.members is not None:
        measured = evidence.members.measured
        _table("Members, restored one by one", columns.MEMBER_COLUMNS, measured, key=f"{key}-members")
    _table("Random subsets of the mask", columns.SUBSET_COLUMNS, evidence.subsets, key=f"{key}-subsets")
    if evidence.stability is not None:
        chosen = evidence.stability.chosen
        _table("Values that the searches chose", columns.CHOSEN_COLUMNS, chosen, key=f"{key}-chosen")


def _table(title: str, shown: Sequence[Column[RowT]], rows: Iterable[RowT], *, key: str) -> None:
    """A table under its title; nothing without rows."""
    listed = cells(shown, rows)
    if not listed:
        return
    st.markdown(f"**{title}**")
    st.dataframe(pd.DataFrame(listed, columns=[name or "of" for name in names(shown)]), hide_index=True, key=key)
