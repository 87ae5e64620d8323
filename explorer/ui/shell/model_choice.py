"""What the choice of any model needs: bringing a named one onto this machine, asking before a link's is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field

import streamlit as st

from explorer.core.config import settings
from explorer.models import NAMED
from explorer.ui.components.words import literal
from explorer.ui.jobs import work
from explorer.ui.session import state, used_models


@dataclass
class _Wanted:
    """The models that were chosen in this session or agreed to, and those to fetch, each with the button's key."""

    to_load: set[str] = field(default_factory=set)
    to_fetch: set[tuple[str, str]] = field(default_factory=set)


def fetch(name: str, key: str) -> bool:
    """Offer to fetch a named model that is not on this machine; whether it is there now. `key` is the button's."""
    st.info(f"**{name}** is not on this machine yet. It is fetched once and kept in {settings().cache_dir}.")
    started = state.of(_Wanted).to_fetch
    if st.button(f"Fetch {name}", key=key, type="primary"):
        started.add((key, name))
    return (key, name) in started and work.fetched(name)


def agree(name: str) -> None:
    """The user wants this model: for callbacks of what chooses one."""
    state.of(_Wanted).to_load.add(name)


def agreed(name: str, key: str) -> bool:
    """Whether a model may be loaded; asks if a link names one that this machine has not used. `key` is the button's."""
    if name in NAMED or name in state.of(_Wanted).to_load or used_models.known(name):
        return True
    st.info(
        f"The link asks for the model **{literal(name)}**, which has not been used on this machine: nothing has been "
        "looked up. Load it only if you know where the link comes from.",
        icon=":material/link:",
    )
    st.button("Load this model", key=key, type="primary", on_click=agree, args=(name,))
    return False
