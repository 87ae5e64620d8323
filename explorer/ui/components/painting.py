"""When what is painted: all times after which a page waits no longer, looks again, or lets the browser draw.

A click goes one way: a pick changes the session's mask, the run that follows asks for results, each of which is a job,
and waits a little for them. Cards show what is there. What is not is painted later by the fragment that takes it, and
the script goes on to the rest of the page.

React renders in one task all elements that arrive together, and answers nobody meanwhile. What follows a pause is a
task of its own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from explorer.ui.streamlit_internals import connections

# Times in seconds: how long a page waits for a result,
_GLANCE = 0.15  # before the first figures: a browser draws one batch of them faster than two
_FOUND = 0.2  # for a search that is found again
_SOON = 1.5  # for the live sample, before the rest of the page is drawn
_REST = 2.0  # for the whole split, at the end of the page's run: what comes in one run is drawn faster
_PATIENCE = 2.0  # for anything else, before it shows a progress bar;
# how often it looks again,
LOOK = 0.5  # at a job with a progress bar
LIST = 1.0  # at a search, and at the work that is listed beside the title
# when it is worth while to say something,
WORTH = 1.0  # seconds left of a job from which on what has been found so far is shown
TOLD = 1.0  # seconds that a job has run before the time left is told
# and for how long the browser is left alone.
BREATH = 0.15  # to paint the figures, before the rest of the page keeps it busy
_MOMENT = 0.04  # to render a dozen elements


@dataclass(frozen=True)
class Wait:
    """How a page waits for a result.

    Attributes:
        seconds: time for which it shows nothing new.
        urgent: go before everything that is not; for short work on a click.
        shown: show a progress bar then, or why there is no result.
        again: offer to start again what failed; not where that would fail for the same reason.
        narrow: stack what is shown, as in the sidebar.
        takers: keys of the fragments that take the result, and what has been found so far; otherwise the whole page
            takes the result.
        look: seconds after which to look at the job again for the first time.
    """

    seconds: float = _PATIENCE
    urgent: bool = False
    shown: bool = True
    again: bool = True
    narrow: bool = False
    takers: tuple[str, ...] = ()
    look: float = LOOK


USUAL = Wait()
GLANCE = Wait(_GLANCE, urgent=True, shown=False)
SOON = Wait(_SOON, urgent=True)
UNSEEN = Wait(0.0, urgent=True, shown=False)  # what is there, and no more
BEHIND = Wait(0.0, shown=False)  # likewise, of work that everything else goes before
FOUND = Wait(_FOUND)


def watched() -> bool:
    """Whether a browser may be showing what is drawn."""
    return connections.watched()


def rest() -> Wait:
    """At the end of the page's run."""
    return Wait(_REST if watched() else 0.0, shown=False)


def filling(*takers: str, rests: bool) -> Wait:
    """For fragments that fill in what is measured; while the page still `rests`, it looks itself."""
    return Wait(0.0, urgent=True, takers=takers, look=(_REST if rests else 0.0) + LOOK)


def pause(seconds: float = _MOMENT) -> None:
    """Let the browser render what has been drawn so far, if there is a browser."""
    if watched():
        time.sleep(seconds)
