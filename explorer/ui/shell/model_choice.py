"""What the choice of any model needs: bringing a named one onto this machine, asking before a link's is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import streamlit as st

from explorer.core.config import settings
from explorer.models import NAMED, available, fetching
from explorer.ui.components.words import literal
from explorer.ui.jobs import work
from explorer.ui.session import Widget, state, used_models


@dataclass
class _Wanted:
    """The models that were chosen in this session or agreed to, and those to fetch, each with the button's key."""

    to_load: set[str] = field(default_factory=set)
    to_fetch: set[tuple[str, str]] = field(default_factory=set)


def here(name: str, which: str = "") -> bool:
    """Whether a model may be loaded now: agreed to and, if it is a named one, on this machine; asks for what is not.

    `which` ends the keys of the buttons.
    """
    return _agreed(name, f"load-linked{which}") and (
        name not in NAMED or available(name) or _fetch(name, f"fetch{which}")
    )


def _fetch(name: str, key: str) -> bool:
    """Offer to fetch a named model that is not on this machine; whether it is there now."""
    st.info(f"**{name}** is not on this machine yet. It is fetched once and kept in {settings().cache_dir}.")
    started = state.of(_Wanted).to_fetch
    if st.button(f"Fetch {name}", key=key, type="primary", disabled=not _terms_accepted(name, f"{key}-terms")):
        started.add((key, name))
    return (key, name) in started and work.fetched(name)


def _terms_accepted(name: str, key: str) -> bool:
    """Whether a model needs no terms accepted any more; else shows them with a place to accept them."""
    model, folder = NAMED[name].fetched, NAMED[name].folder(settings()).parent
    if model is None or model.terms is None or fetching.accepted(model, folder):
        return True
    said = st.checkbox(
        f"I have read the [{model.terms.name}]({model.terms.url}) and accept them.", key=key,
        help=f"{model.title} comes under these terms. That you accept them is remembered in {folder}.",
    )  # fmt: skip
    if said:
        fetching.accept_terms(model, folder)
    return said


def agree(name: str) -> None:
    """The user wants this model: for callbacks of what chooses one."""
    state.of(_Wanted).to_load.add(name)


def _agreed(name: str, key: str) -> bool:
    """Whether a model may be loaded; asks if a link names one that this machine has not used."""
    if name in NAMED or name in state.of(_Wanted).to_load or used_models.known(name):
        return True
    st.info(
        f"The link asks for the model **{literal(name)}**, which has not been used on this machine: nothing has been "
        "looked up. Load it only if you know where the link comes from.",
        icon=":material/link:",
    )
    st.button("Load this model", key=key, type="primary", on_click=agree, args=(name,))
    return False


def another(
    label: str, widget: Widget[str | None], *, placeholder: str, about: str, width: int | Literal["stretch"] = "stretch"
) -> str:
    """The box of a model beside the page's: its name, or an empty text for none."""
    chosen = st.selectbox(
        label,
        list(NAMED),
        index=None,
        key=widget.key,
        accept_new_options=True,
        persist_state="session",
        on_change=lambda: agree(widget.text),
        placeholder=placeholder,
        width=width,
        help=f"{about} A name, a Hugging Face hub id, the path of a model folder, or the path of a .gguf file.",
    )
    return str(chosen or "").strip()
