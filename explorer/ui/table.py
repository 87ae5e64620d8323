"""The table of pages, in the order of the menu; each page is declared in its own package."""

from __future__ import annotations

from explorer.ui import activations, direction, masks, overview, prune, scores, search, spectra, try_it
from explorer.ui.shell import pages
from explorer.ui.shell.pages import Page

PAGES = (
    overview.PAGE,
    prune.PAGE,
    scores.PAGE,
    search.PAGE,
    spectra.PAGE,
    direction.PAGE,
    activations.PAGE,
    try_it.PAGE,
    masks.PAGE,
)


def draw(page: Page) -> None:
    """Draw a page; all that its script under pages/ does."""
    pages.draw(page, PAGES)
