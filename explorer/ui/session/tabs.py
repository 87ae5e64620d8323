"""Tabs of which only the open one is drawn; which one that is stands in the URL, and outlasts a visit elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from explorer.ui.session import links
from explorer.ui.streamlit_internals.elements import TabContainer


def tabs(name: str, labels: Mapping[str, str]) -> Sequence[TabContainer]:
    """The tabs, of which the caller fills the one that is `open`.

    Args:
        name: of the query parameter and of the widget.
        labels: what each tab is called in the URL, and what stands on it; at first the first one is open.
    """
    last = f"{name}-last"
    if name not in st.session_state and last in st.session_state:
        st.session_state[name] = st.session_state[last]
    links.restore(name, name, next(iter(labels.values())), labels.get)
    made = st.tabs(list(labels.values()), key=name, on_change="rerun")
    chosen = next(slug for slug, tab in zip(labels, made, strict=True) if tab.open)
    st.session_state[last] = labels[chosen]
    links.keep(name, chosen, next(iter(labels)))
    return made
