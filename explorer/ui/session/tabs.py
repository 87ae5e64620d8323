"""Tabs of which only the open one is drawn; which one that is stands in the URL, and outlasts a visit elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import streamlit as st

from explorer.ui.session import links, state
from explorer.ui.streamlit_internals.elements import TabContainer


@dataclass
class _Open:
    """The labels of the tabs that were open last, by the name of their row."""

    labels: dict[str, str] = field(default_factory=dict)


def tabs(name: str, labels: Mapping[str, str]) -> Sequence[TabContainer]:
    """The tabs, of which the caller fills the one that is `open`.

    Args:
        name: of the query parameter and of the widget.
        labels: what each tab is called in the URL, and what stands on it; at first the first one is open.
    """
    last = state.of(_Open).labels
    if name in last:
        state.Widget[str](name).start(last[name])
    slugs = {label: slug for slug, label in labels.items()}
    linked = links.restore(name, next(iter(slugs)), labels.get, text=slugs.__getitem__)
    made = st.tabs(list(labels.values()), key=name, on_change="rerun")
    last[name] = next(label for label, tab in zip(slugs, made, strict=True) if tab.open)
    linked.keep(last[name])
    return made
