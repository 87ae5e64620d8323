"""The least that a click can cost: an empty Streamlit app with one plot and one text that says what is removed."""

from __future__ import annotations

import numpy as np
import streamlit as st

from explorer.ui.components.spectrum_chart import Pick, Series, apply_picks, spectrum_chart

st.set_page_config(layout="wide")
N = int(st.query_params.get("n", "32"))
rng = np.random.default_rng(0)
S, SCORES = np.geomspace(4.0, 0.1, N), rng.normal(0, 0.05, N)
removed = frozenset(st.session_state.setdefault("removed", frozenset()))


def remove(picks: tuple[Pick, ...]) -> None:
    """Store the new mask."""
    shown = Series("L0.Q.H0", S, SCORES, frozenset(st.session_state["removed"]))
    st.session_state["removed"] = frozenset(apply_picks([shown], picks, by_block=False)["L0.Q.H0"])


with st.container(key="text"):
    st.text(f"removed: {sorted(removed)}")
spectrum_chart([Series("L0.Q.H0", S, SCORES, removed)], key="floor", by_block=False, on_pick=remove)
