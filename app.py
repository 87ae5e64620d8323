"""Entry point: `streamlit run app.py`."""

import os
from pathlib import Path

# Page scripts run in threads, where torch's own thread pool slows itself and the interface down on few cores.
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // 2)))

import streamlit as st

# An icon of our own: the browser would fetch a named one from another host.
st.set_page_config("Eigenpruning explorer", Path(__file__).parent / "assets" / "icon.svg", layout="wide")
with st.spinner("Starting the engine"):
    from explorer.ui.components import figures
    from explorer.ui.jobs import cached, presence
    from explorer.ui.session import links, session
    from explorer.ui.shell import background, pages, sidebar
    from explorer.ui.streamlit_internals import page_scripts
    from explorer.ui.table import PAGES


def draw(page: st.Page) -> None:
    """The sidebar and the page. What they work on must be no global: the last run's would outlast all sessions."""
    bench = sidebar.bench()
    session.work_on(bench)
    if bench is not None:
        pages.run(page, then=background.draw)


page = pages.navigate(PAGES)
with pages.sentences():
    cached.start_page()
    pages.style()
    pages.first(page)
    figures.style()
    with st.sidebar:
        page_scripts.mount()
    links.arrive(presence.shown_elsewhere)
    presence.here()
    draw(page)
    sidebar.show_notices()
