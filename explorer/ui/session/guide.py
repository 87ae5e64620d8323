"""Help that newcomers see and experts can put away: explanations on the pages, the legend, the keys."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from explorer.plots import style
from explorer.ui.session import links, state

_GREY, _LIGHT = "#8b8b8b", "#c9c9cf"


@dataclass(frozen=True)
class Mark:
    """One entry of the legend: how it looks, in HTML that Streamlit leaves as it is (not SVG), its name and meaning."""

    look: str
    name: str
    meaning: str


def _dot(colour: str, *, fill: str | None = None) -> str:
    inside = colour if fill is None else fill
    return _span(f"width:10px;height:10px;border-radius:50%;border:2px solid {colour};background:{inside}")


def _line(colour: str, style: str) -> str:
    return _span(f"width:20px;border-top:2px {style} {colour}")


def _span(style: str) -> str:
    return f'<span style="display:inline-block;box-sizing:border-box;vertical-align:middle;{style}"></span>'


MARKS = (
    Mark(_dot(_GREY), "kept", "a singular value that is in force"),
    Mark(_dot(_GREY, fill="transparent"), "removed", "taken out by the mask"),
    Mark(
        _dot(_GREY, fill=f"radial-gradient({_GREY} 30%, transparent 35%)"), "scaled", "made smaller by the mask's gain"
    ),
    Mark(_dot(style.HARMFUL), "harmful", "negative score: removing it is predicted to lower the loss"),
    Mark(_dot(style.NEEDED), "needed", "positive score: the task needs it"),
    Mark("<b>?</b>", "sign in doubt", "what the linear score leaves out may be larger than it: measure it"),
    Mark(
        _span(f"width:20px;height:10px;border-radius:5px;background:{_GREY}55"),
        "block",
        "neighbours within 1 %: one unit",
    ),
    Mark(_dot(_LIGHT), "null", "numerically zero"),
    Mark(_line(_GREY, "dashed"), "unpruned", "the model as loaded, and the edge of the random bulk of a spectrum"),
    Mark(_line(style.AFTER, "solid"), "this mask", "the model with the mask"),
)


def shown() -> bool:
    """Whether explanations are wanted."""
    return state.EXPLANATIONS.value is not False


def explain(text: str) -> None:
    """Say how to read what stands above, unless that is put away."""
    if shown():
        st.caption(text)


def draw() -> None:
    """The popover with the legend, and the switch that puts explanations away."""
    linked = links.restore(
        links.HELP, True, {"true": True, "false": False}.get, text=lambda wanted: str(wanted).lower()
    )
    with st.popover("Help and legend", icon=":material/help:", width="stretch", key="guide"):
        help_text = "The texts under plots and tables, and the tour on the Overview."
        linked.draw(st.toggle, "Explanations on the pages", help=help_text)
        st.html(legend())
        st.caption("The same colours and markers on every page.")


def legend() -> str:
    """The legend as HTML; it holds no text from elsewhere."""
    rows = "".join(
        f'<tr><td style="padding-right:.5rem;text-align:center">{mark.look}</td>'
        f'<td style="padding-right:.75rem;white-space:nowrap"><b>{mark.name}</b></td><td>{mark.meaning}</td></tr>'
        for mark in MARKS
    )
    return f'<table style="font-size:.9rem;border:0">{rows}</table>'
