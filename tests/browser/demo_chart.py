"""A small app around the clickable plot, for the browser tests. Query: ?n=, ?series=, ?y=, ?log=, ?slow=, ?mode=."""

from __future__ import annotations

import time

import numpy as np
import streamlit as st

from explorer.ui.components.spectrum_chart import Pick, Series, apply_picks, spectrum_chart

st.set_page_config(layout="wide")
query = st.query_params
N, COUNT, SLOW = int(query.get("n", "32")), int(query.get("series", "2")), float(query.get("slow", "0"))
RETURNED = query.get("mode") == "returned"

st.session_state.setdefault("removed", {})
st.session_state.setdefault("history", [])
st.session_state.runs = st.session_state.get("runs", 0) + 1


def spectrum(k: int) -> Series:
    """Smooth spectrum with one block of three and two null values, scores of both signs."""
    rng = np.random.default_rng(k)
    s = (4.0 + k) * np.exp(-5 * np.arange(N) / N)
    s[5:8] = s[5]
    s[-2:] *= 1e-9
    score = rng.normal(0, 0.05, N) * s
    matrix = f"L0.Q.H{k}"
    removed = frozenset(st.session_state.removed.get(matrix, ()))
    uncertain = frozenset({2, 9} if "uncertain" in query else ())
    edge = float(query["edge"]) + k if "edge" in query else None
    return Series(matrix, s, score, removed, blocks=((5, 6, 7),), uncertain=uncertain, null_from=N - 2, edge=edge)


def record(picks: tuple[Pick, ...]) -> None:
    """Store the picks and the new mask."""
    st.session_state.history += [[pick.seq, pick.kind, pick.points] for pick in picks]
    changed = apply_picks([spectrum(k) for k in range(COUNT)], picks)
    st.session_state.removed = {**st.session_state.removed, **{m: sorted(i) for m, i in changed.items()}}


@st.fragment
def workbench() -> None:
    """The plot and what it did."""
    time.sleep(SLOW)
    log_y = st.toggle("log axis", value=query.get("log", "1") == "1")
    st.session_state.fragment_runs = st.session_state.get("fragment_runs", 0) + 1
    picks = (
        ()
        if st.toggle("hide plot")
        else spectrum_chart(
            [spectrum(k) for k in range(COUNT)],
            key="demo",
            y="score" if query.get("y") == "score" else "log-sigma" if log_y else "sigma",
            interactive=query.get("mode") != "readonly",
            on_pick=None if RETURNED else record,
        )
    )
    if picks:
        record(picks)
        st.rerun(scope="fragment")
    for name in ("runs", "fragment_runs"):
        st.html(f'<span data-testid="count-{name}">{int(st.session_state[name])}</span>')
    st.code(repr(st.session_state.history), language=None)
    st.code(repr(st.session_state.removed), language=None)


workbench()
