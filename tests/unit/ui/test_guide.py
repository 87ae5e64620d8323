"""The legend names every state once, with the colours that the plots use, and asks nothing of other hosts."""

from __future__ import annotations

from explorer.plots import style
from explorer.ui.session.guide import MARKS, legend


def test_every_state_has_a_mark_of_its_own() -> None:
    assert len({mark.name for mark in MARKS}) == len({mark.look for mark in MARKS}) == len(MARKS)
    assert {"kept", "removed", "scaled", "harmful", "needed", "sign in doubt"} <= {mark.name for mark in MARKS}


def test_colours_are_those_of_the_plots() -> None:
    looks = {mark.name: mark.look for mark in MARKS}
    assert style.HARMFUL in looks["harmful"]
    assert style.NEEDED in looks["needed"]
    assert style.AFTER in looks["this mask"]


def test_the_legend_holds_every_mark_and_no_link() -> None:
    text = legend()
    assert all(mark.look in text and f"<b>{mark.name}</b>" in text and mark.meaning in text for mark in MARKS)
    assert "http" not in text
    assert "<script" not in text
