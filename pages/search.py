"""Search: have a mask found, watch it, take any mask of the way to the workbench."""

from explorer.ui import pages, search_form, search_view, session
from explorer.ui.searching import searches

pages.require_entry()
bench = session.current()

pages.heading("Search")
started = searches().of(bench)
asked = search_form.choose(bench, None if started is None else started.asked)
search_view.controls(bench, asked, started)
others = search_view.earlier(bench, started)
search_view.draw(bench, started, others=others)
