"""From a value anywhere in the app to the page that shows its matrix."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.core.keys import MatrixKey
from explorer.ui.session import state
from explorer.ui.shell import pages


@dataclass(frozen=True)
class Wanted:
    """A matrix to open, and one of its values."""

    key: MatrixKey
    index: int | None = None


def want(key: MatrixKey, index: int | None = None) -> None:
    """Ask for a matrix, and one of its values; for callbacks, which cannot change page."""
    state.put(Wanted(key, index))


def follow() -> None:
    """Go where `want` asked for; ends the run if it did. The page that is gone to takes the request."""
    if state.find(Wanted) is not None:
        pages.go_to("matrix")
