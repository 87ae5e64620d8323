"""Help that newcomers see and experts can put away: explanations on the pages, the legend, the keys."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from explorer import plots

SHOWN = "help"
_GREY, _LIGHT = "#8b8b8b", "#c9c9cf"


@dataclass(frozen=True)
class Mark:
    """One entry of the legend: how it looks, as the inside of a 22 x 14 SVG, what it is, and what that means."""

    look: str
    name: str
    meaning: str


def _dot(colour: str, *, hollow: bool = False) -> str:
    fill = "none" if hollow else colour
    return f'<circle cx="11" cy="7" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="1.8"/>'


def _line(colour: str, dashes: str = "") -> str:
    return f'<path d="M1 7H21" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dashes}"/>'


def _text(letter: str) -> str:
    return (
        f'<text x="11" y="11" text-anchor="middle" font-size="12" font-weight="600" fill="currentColor">{letter}</text>'
    )


MARKS = (
    Mark(_dot(_GREY), "kept", "a singular value that is in force"),
    Mark(_dot(_GREY, hollow=True), "removed", "taken out by the mask"),
    Mark(
        _dot(_GREY, hollow=True) + f'<circle cx="11" cy="7" r="1.6" fill="{_GREY}"/>',
        "scaled",
        "made smaller by the mask's gain",
    ),
    Mark(_dot(plots.HARMFUL), "harmful", "negative score: removing it is predicted to lower the loss"),
    Mark(_dot(plots.NEEDED), "needed", "positive score: the task needs it"),
    Mark(_text("?"), "not predictable", "so large a change that its score is likely to be wrong: measure it"),
    Mark(
        '<rect x="1" y="2" width="20" height="10" rx="5" fill="#8b8b8b55"/>', "block", "neighbours within 1 %: one unit"
    ),
    Mark(_dot(_LIGHT), "null", "numerically zero"),
    Mark(_line(_GREY, "4 3"), "unpruned", "the model as loaded, and the edge of the random bulk of a spectrum"),
    Mark(_line(plots.AFTER), "this mask", "the model with the mask"),
)


def shown() -> bool:
    """Whether explanations are wanted."""
    return bool(st.session_state.get(SHOWN, True))


def explain(text: str) -> None:
    """Say how to read what stands above, unless that is put away."""
    if shown():
        st.caption(text)


def draw() -> None:
    """The popover with the legend, and the switch that puts explanations away."""
    with st.popover("Help and legend", icon=":material/help:", width="stretch", key="guide"):
        st.toggle(
            "Explanations on the pages",
            value=True,
            key=SHOWN,
            bind="query-params",
            help="The texts under plots and tables, and the tour on the Overview.",
        )
        st.html(legend())
        st.caption("The same colours and markers on every page.")


def legend() -> str:
    """The legend as HTML; it holds no text from elsewhere."""
    rows = "".join(
        f'<tr><td style="padding-right:.5rem"><svg width="22" height="14" aria-hidden="true">{mark.look}</svg></td>'
        f'<td style="padding-right:.75rem;white-space:nowrap"><b>{mark.name}</b></td><td>{mark.meaning}</td></tr>'
        for mark in MARKS
    )
    return f'<table style="font-size:.9rem;border:0">{rows}</table>'
