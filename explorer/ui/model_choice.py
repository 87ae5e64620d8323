"""What the choice of any model needs: bringing a named one onto this machine."""

from __future__ import annotations

import streamlit as st

from explorer.config import settings
from explorer.ui import work


def fetch(name: str, key: str) -> bool:
    """Offer to fetch a named model that is not on this machine; whether it is there now. `key` is the button's."""
    st.info(f"**{name}** is not on this machine yet. It is fetched once and kept in {settings().cache_dir}.")
    started = f"{key}-{name}"
    if st.button(f"Fetch {name}", key=key, type="primary"):
        st.session_state[started] = True
    return bool(st.session_state.get(started)) and work.fetched(name)
