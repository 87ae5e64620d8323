"""What the whole process shares: the job runner with its results, the decompositions, the views, the notices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar, cast

import streamlit as st

from explorer.core.progress import Progress
from explorer.models import Model, ViewPool
from explorer.spectra.cache import SvdCache, default_cache
from explorer.ui.components import painting, ticker
from explorer.ui.components.painting import USUAL, Wait
from explorer.ui.components.words import literal
from explorer.ui.jobs import pauses
from explorer.ui.jobs.effects_seen import EffectsSeen
from explorer.ui.jobs.runner import Job, JobRunner, JobState, Key
from explorer.ui.session import session, state
from explorer.ui.session.notices import notices
from explorer.ui.streamlit_internals.elements import DrawnTwice, NoSuchFragment

T = TypeVar("T")
_KEEP = {
    "task": 24,
    "model": 2,
    "second": 2,
    "changes": 32,
    "courses": 8,
    "scores": 24,
    "baseline": 3,
    "evaluation": 256,
    "sample": 3,
    "live": 256,
    "reading": 64,
    "controls": 24,
    "curve": 8,
    "damage": 16,
    "text-sample": 2,
    "text-growth": 256,
    "check": 8,
    "export": 8,
}
_FOR_ANYBODY = ("model", "fetch", "scores", "search")  # what took long is kept for whoever comes next


@dataclass
class _Slots:
    """The session's one job in each slot."""

    keys: dict[str, Key] = field(default_factory=dict)


@dataclass
class _Shown:
    """The jobs that this run of the page has shown."""

    keys: set[Key] = field(default_factory=set)


@st.cache_resource(show_spinner=False, on_release=JobRunner.close)
def runner() -> JobRunner:
    """The process's job runner."""
    pauses.shorten()
    return JobRunner(workers=2, keep=_KEEP, for_anybody=_FOR_ANYBODY, owner=session.name)


@st.cache_resource(show_spinner=False)
def effects_seen() -> EffectsSeen:
    """The process's exact effects."""
    return EffectsSeen()


@st.cache_resource(show_spinner=False)
def svds() -> SvdCache:
    """The process's decompositions."""
    return default_cache(notices().append)


@st.cache_resource(show_spinner=False, max_entries=2)
def views(_model: Model, digest: str) -> ViewPool:
    """Views of a model to borrow; `digest` is the model's, since models cannot be hashed."""
    return ViewPool(_model)


def compute(key: Key, label: str, work: Callable[[Progress], T], wait: Wait | None = None) -> T | None:
    """The result of some work; None while it runs, was stopped or failed, which the page then shows in this place.

    Args:
        key: what the work is; equal keys are equal work.
        label: what the user reads meanwhile.
        work: called once, in a worker thread; must not call Streamlit.
        wait: for how long, and what then; None for the usual.
    """
    wait = USUAL if wait is None else wait
    job = runner().submit(key, label, work, urgent=wait.urgent)
    if job.wait(wait.seconds) and job.state is JobState.DONE:
        return cast("T", job.result)
    if wait.shown:
        _show(job, wait)
    return None


def failure(*keys: Key) -> str | None:
    """Why one of these jobs has no result and will not have one: its sentence if it failed, or that it was stopped."""
    for job in filter(None, map(runner().find, keys)):
        if job.state is JobState.FAILED:
            return job.error
        if job.state is JobState.STOPPED:
            return "stopped"
    return None


def only(slot: str, key: Key) -> None:
    """Make `key` the session's one job in a slot: what it replaces there is stopped, if it still waits or runs.

    For work that a newer choice outdates. The key must hold the session's token: other sessions want theirs.
    """
    slots = state.of(_Slots).keys
    before, slots[slot] = slots.get(slot), key
    if before is not None and before != key and runner().under_way(before):
        runner().drop(before)


def start_page() -> None:
    """Forget which jobs the page of the run before has shown."""
    state.put(_Shown())


def shown_here(key: Key) -> None:
    """Say that the page shows how this job stands."""
    state.of(_Shown).keys.add(key)


def elsewhere() -> list[Job]:
    """This session's jobs under way that the page has not shown; nobody waits long for urgent ones."""
    shown, own = state.of(_Shown).keys, session.name()
    mine = [job for owner in (own, ("search", own)) for job in runner().of(owner)]
    return [job for job in mine if job.active and not job.urgent and job.key not in shown]


def progress_text(job: Job) -> str:
    """`waiting`, or `running, 40 %, about 12 s left`."""
    if job.state is JobState.WAITING:
        return str(job.state)
    return f"{job.state}, {100 * job.share:.0f} %{_time_left(job)}"


def _time_left(job: Job) -> str:
    """`, about 12 s left`, as soon as that can be told."""
    left = job.seconds_left
    return "" if left is None else f", about {left:.0f} s left"


def _show(job: Job, wait: Wait) -> None:
    """How a job stands that has no result yet; once per run, wherever else the page asks for it.

    Jobs that failed for the same reason say it once: two masks on a task that refuses the model.
    """
    shown_here(job.key)
    sort, what = ("failed", job.error) if job.state is JobState.FAILED else (job.key[0], job.key)
    name = "-".join(map(str, (sort, abs(hash(what)) % 10**8)))
    with suppress(DrawnTwice):
        if job.state is JobState.FAILED and not wait.again:
            st.error(literal(job.error or ""), icon=":material/error:")
        elif job.state in (JobState.FAILED, JobState.STOPPED):
            _ended(job, name, wait.narrow)
        else:  # also where it has just been done: the next look finds that
            _watch(job, name, wait)


def _ended(job: Job, name: str, narrow: bool) -> None:
    with st.container(horizontal=not narrow, vertical_alignment="center"):
        place = st.container()
        again = st.button("Start again", key=f"again-{name}", on_click=_forget, args=(job,))
        if job.state is JobState.FAILED:
            place.error(literal(job.error or ""), icon=":material/error:")
        else:
            place.info(literal(f"{job.label}: stopped."), icon=":material/stop_circle:")
        if again:
            st.rerun()  # where this is part of a fragment, the rest of the page waits too


def _forget(job: Job) -> None:
    """Let it start anew, and with it the session's other jobs that failed for the same reason, which is said once."""
    same = [one for one in runner().of(session.name()) if one.state is JobState.FAILED and one.error == job.error]
    for one in (job, *same):
        runner().forget(one.key)


@st.fragment
def _watch(job: Job, name: str, wait: Wait) -> None:
    seen = job.so_far
    with suppress(DrawnTwice), st.container(horizontal=not wait.narrow, vertical_alignment="center"):
        place = st.container(gap=None)
        st.button("Stop", key=f"stop-{name}", icon=":material/stop:", on_click=job.stop)
        place.progress(job.share, text=literal(f"{job.label} ({job.state}{_time_left(job)})"))
        with place:
            ticker.mount(f"look-{name}", lambda: _pass_on(job, seen, wait.takers), wait.look)


def _pass_on(job: Job, seen: object, takers: Sequence[str]) -> None:
    """Run anew what shows the result, or what has been found since `seen`; otherwise the bar alone."""
    news = bool(takers) and job.so_far is not seen and (job.seconds_left or 0) > painting.WORTH
    if job.active and not news:
        return
    with suppress(NoSuchFragment):  # takers may have gone with their page
        st.rerun(takers or "app")
