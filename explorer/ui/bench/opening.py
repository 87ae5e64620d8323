"""From a value anywhere in the app to the page that shows its matrix, or to its own card."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from explorer.core.errors import MatrixError
from explorer.core.keys import MatrixKey
from explorer.ui.components.spectrum_chart import Pick
from explorer.ui.session import state
from explorer.ui.shell import pages


@dataclass(frozen=True)
class Wanted:
    """A matrix to open, and one of its values."""

    key: MatrixKey
    index: int | None = None


@dataclass(frozen=True)
class WantedCard:
    """A singular direction whose card is to be opened."""

    key: MatrixKey
    index: int


def want(key: MatrixKey, index: int | None = None) -> None:
    """Ask for a matrix, and one of its values; for callbacks, which cannot change page."""
    state.put(Wanted(key, index))


def want_card(key: MatrixKey, index: int) -> None:
    """Ask for the card of a direction; for callbacks."""
    state.put(WantedCard(key, index))


def take_card(picks: Iterable[Pick]) -> None:
    """Ask for the card that a plot's picks ask for; products and matrices of a second model have none."""
    for matrix, indices in (pick.points[0] for pick in picks if pick.kind == "card"):
        with suppress(MatrixError):
            want_card(MatrixKey.parse(matrix), indices[0])


def follow() -> None:
    """Go where `want` or `want_card` asked for; ends the run if it did. The page that is gone to takes the request."""
    if state.find(Wanted) is not None:
        pages.go_to("matrix")
    if state.find(WantedCard) is not None:
        pages.go_to("direction")
