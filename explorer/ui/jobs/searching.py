"""Searches as jobs of the runner: what was asked, what a running one tells the page, what it found.

1. A `SearchRequest` holds all that decides the result and is part of the job's key, so equal searches are one job.
2. After every measurement the worker hands over an immutable `Seen`; pages never read the problem that it works on.
3. The first stop ends the search and keeps its best mask, which is measured as any other. A second one ends that, too.
4. The engine's journal holds what was measured: a search that was stopped, or lost with the server, goes on there.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import cast

import streamlit as st

from explorer.core.errors import Stopped
from explorer.core.keys import Kind, MatrixKey
from explorer.core.progress import Progress, part
from explorer.masks.mask import Mask
from explorer.measure.perplexity import own_text
from explorer.models import View
from explorer.models.matrices import matrices
from explorer.search import conductor
from explorer.search.conductor import Earlier, Elsewhere, Recording, Watcher, conduct
from explorer.search.journal import default_journals
from explorer.search.options import Chosen
from explorer.search.outcome import Point, Status
from explorer.search.provenance import provenance
from explorer.search.report import Report
from explorer.search.request import SearchRequest
from explorer.ui.jobs import cluster
from explorer.ui.jobs.cached import runner
from explorer.ui.jobs.runner import Job, JobState, Key
from explorer.ui.session import Bench
from explorer.ui.session.notices import notices
from explorer.ui.session.session import token

KEPT = 100  # searches that the process remembers, over all sessions
SEARCHED = 0.85  # share of the bar at which the strategy has ended


@dataclass(frozen=True)
class Seen:
    """What a search had measured at one moment."""

    curve: tuple[Point, ...]
    best: Point


class Live:
    """What a running search tells, and how it is stopped; written by its worker, read by any page.

    Attributes:
        seen: the latest; None until the unpruned model has been measured.
        measuring: whether the search has ended and its mask is being measured.
    """

    def __init__(self) -> None:
        self.seen: Seen | None = None
        self.measuring = False
        self._stop, self._give_up = threading.Event(), threading.Event()

    @property
    def stopping(self) -> bool:
        """Whether it has been asked to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End the search; its best mask is kept, and measured on the test split."""
        self._stop.set()

    def give_up(self) -> None:
        """End the search and what follows it: there will be no figures of the test split."""
        self._stop.set()
        self._give_up.set()

    def show(self, curve: tuple[Point, ...], status: Status) -> None:
        """Tell pages what has been measured so far."""
        self.seen = Seen(curve, status.best)

    def measure(self) -> None:
        """Tell pages that the search has ended, and that its mask is being measured."""
        self.measuring = True

    def during(self, progress: Progress | None) -> Progress:
        """The search's progress callback."""
        return _unless(self._stop, progress)

    def after(self, progress: Progress | None) -> Progress:
        """The callback of what follows the search."""
        return _unless(self._give_up, progress)


def _unless(stop: threading.Event, progress: Progress | None) -> Progress:
    def report(done: int, total: int) -> None:
        if stop.is_set():
            raise Stopped
        if progress is not None:
            progress(done, total)

    return report


@dataclass(frozen=True, eq=False)
class Started:
    """A search that a session has started."""

    asked: SearchRequest
    key: Key
    live: Live

    @property
    def job(self) -> Job | None:
        """Its job; None once the runner has forgotten it."""
        return runner().find(self.key)

    @property
    def report(self) -> Report | None:
        """What it found, if it is done."""
        job = self.job
        return cast("Report", job.result) if job is not None and job.state is JobState.DONE else None

    @property
    def seen(self) -> Seen | None:
        """What it has measured so far, or in all."""
        report = self.report
        return self.live.seen if report is None else Seen(report.found.curve, report.found.reported)

    def stop(self) -> None:
        """See `Live.stop`; one that still waits is stopped at once."""
        self.live.stop()
        self._leave_queue()

    def give_up(self) -> None:
        """See `Live.give_up`; one that still waits is stopped at once."""
        self.live.give_up()
        self._leave_queue()

    def _leave_queue(self) -> None:
        job = self.job
        if job is not None and job.state is JobState.WAITING:
            job.stop()


class Searches:
    """The latest search of every session on each model and task; a reloaded page finds its own here."""

    def __init__(self) -> None:
        self._of: OrderedDict[Key, Started] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, bench: Bench) -> Started | None:
        """This session's search on the bench's model and task, if it has started one."""
        with self._lock:
            started = self._of.get(_place(bench))
        return started if started is not None and started.job is not None else None

    def start(self, bench: Bench, asked: SearchRequest) -> Started:
        """Start a search, or go on with it: one that runs or is done already is not run again."""
        key = ("search", bench.model.as_loaded, bench.task.digest, bench.task.name, asked)
        with self._lock:
            same = next((one for one in self._of.values() if one.key == key and one.job is not None), None)
            if same is not None and not ended_early(same):
                started = same
            else:
                runner().forget(key)
                started = Started(asked, key, Live())
                label, owner = f"Searching: {asked.title}", ("search", token())  # a search holds up no page
                runner().submit(key, label, lambda progress: run(bench, started, progress), owner=owner)
            self._of.pop(_place(bench), None)
            self._of[_place(bench)] = started
            while len(self._of) > KEPT:
                self._of.popitem(last=False)
        return started


def _place(bench: Bench) -> Key:
    return token(), bench.model.as_loaded, bench.task.digest


def ended_early(started: Started) -> bool:
    """Whether it failed or was stopped, so that it can go on."""
    job = started.job
    if job is None or job.active:
        return False
    return started.report is None or started.report.found.stopped == "stopped"


@st.cache_resource(show_spinner=False)
def searches() -> Searches:
    """The process's searches."""
    return Searches()


def run(bench: Bench, started: Started, progress: Progress) -> Report:
    """The whole search, in a worker thread, on a view that nobody else uses."""
    live = started.live
    watcher = Watcher(
        progress=live.during(part(progress, 0, SEARCHED)), measured=live.show, ended=live.measure,
        after=live.after(part(progress, SEARCHED, 1)),
    )  # fmt: skip
    with bench.views.borrow() as view:
        report = conducted(bench, view, started.asked, watcher=watcher)
    _ = report.file  # worked out here once: every run of the page asks for it
    return report


def conducted(
    bench: Bench, view: View, asked: SearchRequest, *, watcher: Watcher, chosen: Chosen | None = None
) -> Report:
    """A request on a view of the bench's model, recorded, with the damage to plain text; `chosen` as in `conduct`."""
    return conduct(
        asked, view, bench.task, svds=bench.svds, chosen=chosen, watcher=watcher,
        recording=Recording(default_journals(notices().append_once)),
        elsewhere=Elsewhere(text=own_text(bench.model.tokenizer), executor=cluster.executor(bench, view)),
    )  # fmt: skip


def earlier(bench: Bench) -> tuple[Earlier, ...]:
    """The searches of the bench's model and task that were begun on this machine, the latest first."""
    return conductor.earlier(default_journals(notices().append_once), bench.model, bench.task)


def mask_of(bench: Bench, asked: SearchRequest, point: Point) -> Mask:
    """The mask of a point on the way, with where it came from."""
    made = provenance(
        task=bench.task, split="train", examples=len(bench.task.split("train", asked.limit)), seed=asked.seed,
        scorer=asked.scorer, strategy=asked.strategy,
    )  # fmt: skip
    return point.mask.model_copy(update={"provenance": made})


def keys_of(bench: Bench, kinds: tuple[Kind, ...], layers: tuple[int, ...] | None) -> tuple[MatrixKey, ...]:
    """The matrices that a search would look at."""
    with bench.views.borrow() as view:
        return matrices(view, kinds, layers, per_head=bench.per_head)
