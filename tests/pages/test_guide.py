"""Help that can be put away: what goes, what stays, and that it is nobody else's matter."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from explorer.ui.session import state
from explorer.ui.shell.share import links
from tests.pages.app import captions, go, open_page, settled

EXPLAINED = {
    "Overview": "Colour: the most harmful score.",
    "Spectra": "A label is not an effect",
    "Scores": "Costs at most",
}


def put_away(app: AppTest) -> AppTest:
    return settled(app.toggle(key=state.EXPLANATIONS.key).set_value(False).run())


@pytest.mark.parametrize(("title", "text"), EXPLAINED.items())
def test_explanations_go_and_come_back(title: str, text: str) -> None:
    app = open_page(title)
    assert any(text in one for one in captions(app).splitlines())
    app = put_away(app)
    assert text not in captions(app)
    app = settled(app.toggle(key=state.EXPLANATIONS.key).set_value(True).run())
    assert text in captions(app)


def test_the_tour_goes_with_them_and_the_next_page_knows() -> None:
    app = open_page("Overview")
    assert any(one.value.startswith("**1. Find") for one in app.markdown)
    app = put_away(app)
    assert not any(one.value.startswith("**1. Find") for one in app.markdown)
    assert EXPLAINED["Spectra"] not in captions(go(app, "Spectra"))


def test_a_link_for_others_leaves_their_help_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses: list[str] = []
    original = links.address
    monkeypatch.setattr(links, "address", lambda *given: addresses.append(original(*given)) or addresses[-1])
    app = open_page("Overview", help="false")
    assert not app.toggle(key=state.EXPLANATIONS.key).value
    app.session_state["share"] = True
    settled(app.run())
    assert addresses
    assert all("help" not in one for one in addresses)
