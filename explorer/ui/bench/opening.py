"""From a value anywhere in the app to the page that shows its matrix."""

from __future__ import annotations

import streamlit as st

from explorer.core.keys import MatrixKey
from explorer.ui.bench import chart_data

_WANTED = "matrix-to-open"


def want(key: MatrixKey, index: int | None = None) -> None:
    """Ask for a matrix, and one of its values, on the Spectra page; for callbacks, which cannot change page."""
    st.session_state[_WANTED] = (key, index)


def follow() -> None:
    """Go where `want` asked for; ends the run if it did. The request outlasts a run that was cut short."""
    wanted = st.session_state.pop(_WANTED, None)
    if wanted is None:
        return
    key, index = wanted
    chart_data.show_matrix(key)
    if index is not None:
        st.session_state[f"readout-index-{key}"] = index
    st.switch_page("pages/spectra.py")
