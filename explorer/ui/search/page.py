"""Search: what to search for, and what has been found."""

from __future__ import annotations

from explorer.ui.jobs.searching import searches
from explorer.ui.search import form, results
from explorer.ui.session import session
from explorer.ui.shell import pages


def draw() -> None:
    """The form, and the session's search with what it has found."""
    bench = session.current()
    pages.heading("Search", bench.model)
    started = searches().of(bench)
    asked = form.choose(bench, None if started is None else started.asked)
    results.start_or_go_on(bench, asked, started)
    others = results.earlier(bench, started)
    results.draw(bench, started, others=others)
