"""Work of this session that the page does not show, beside its title: how far it is, and how to stop it.

Jobs outlast the page that asked for them. Where one is looked at again, its page shows its own progress.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from explorer.ui.components import painting
from explorer.ui.components.words import literal
from explorer.ui.jobs.cached import elsewhere, progress_text
from explorer.ui.jobs.runner import Job, JobState
from explorer.ui.shell import pages
from explorer.ui.streamlit_internals.elements import DeltaGenerator


def draw(box: DeltaGenerator) -> None:
    """List the session's jobs that this page has not shown."""
    if jobs := elsewhere():
        with box:
            _watch(jobs)


@st.fragment(run_every=painting.LIST)
def _watch(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if not job.active:
            _tell_end(job)
    if not all(job.active for job in jobs):
        st.rerun()
    for place, job in enumerate(jobs):
        with st.container(horizontal=True, vertical_alignment="center", key=f"background-{place}"):
            st.caption(literal(f"{job.label} ({progress_text(job)})"))
            if (page := pages.showing(str(job.key[0]))) is not None:
                st.page_link(page.script, label="Open", help="Shows its curve; there it can be stopped.")
            else:
                st.button("Stop", key=f"background-stop-{place}", icon=":material/stop:", on_click=job.stop)


def _tell_end(job: Job) -> None:
    """What became of a job; its result waits on its page."""
    if job.state is JobState.FAILED:
        st.toast(literal(job.error or ""), icon=":material/error:")
    elif job.state is JobState.DONE:
        st.toast(literal(f"Done: {job.label}."), icon=":material/check:")
