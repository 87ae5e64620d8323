"""Searches as jobs of the runner: what was asked, what a running one tells the page, what it found.

1. `Asked` holds everything that decides the result and is part of the job's key, so equal searches are one job.
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
from pydantic import TypeAdapter, ValidationError

from explorer.errors import ExplorerError, Stopped
from explorer.keys import Kind, MatrixKey
from explorer.masks import Mask, Mode
from explorer.perplexity import own_text
from explorer.progress import Progress, part
from explorer.registry import matrices
from explorer.search.anchor import anchor_blocks
from explorer.search.identity import search_digest
from explorer.search.journal import default_journals
from explorer.search.options import USUAL, Chosen, StrategyOptions
from explorer.search.outcome import Budget, Point, Status
from explorer.search.problem import Problem
from explorer.search.provenance import provenance
from explorer.search.report import Report, search
from explorer.search.report_file import SearchFile, as_file
from explorer.tasks import Task, load_task
from explorer.ui.cached import notices, runner
from explorer.ui.jobs import Job, Key, State
from explorer.ui.session import Bench, token

KEPT = 100  # searches that the process remembers, over all sessions
DECOMPOSED, SEARCHED = 0.1, 0.85  # shares of the bar at which these are done


@dataclass(frozen=True)
class Asked:
    """One search as the page asks for it; model and task come from the bench.

    Attributes:
        layers: None for all.
        limit: train examples to score on, None for all.
        most: largest number of removed values.
        seconds: time limit, None for none.
        controls: draws of each random control.
        test_limit: test examples for the final figures, None for all.
        options: those that belong to the strategy.
        growth: largest growth of the perplexity of plain text, 0.1 for 10 %; None for no limit.
    """

    strategy: str
    kinds: tuple[Kind, ...]
    layers: tuple[int, ...] | None
    per_head: bool
    mode: Mode
    scorer: str
    limit: int | None
    most: int
    seconds: float | None
    seed: int
    controls: int
    test_limit: int | None
    options: StrategyOptions = USUAL
    growth: float | None = None

    @property
    def budget(self) -> Budget:
        """What the search may use up."""
        return Budget(self.most, self.seconds, self.growth)

    @property
    def title(self) -> str:
        """`verified on Q, K, layers 0, 2, at most 20 removed`, with the strategy's options behind its name."""
        where = "" if self.layers is None else f", layers {', '.join(map(str, self.layers))}"
        how = "".join(
            f", {name.replace('_', ' ')}" + ("" if value is True else f" {value}")
            for name, value in self.options.given.items()
        )
        text = "" if self.growth is None else f", perplexity up by at most {100 * self.growth:g} %"
        return f"{self.strategy}{how} on {', '.join(self.kinds)}{where}, at most {self.most:,} removed{text}"

    def chosen(self, task: Task) -> Chosen:
        """The strategy with its options; other tasks are asked as `task` is."""

        def other(name: str) -> Task:
            return load_task(name, task.seed, shots=task.shots, framing=task.framing)

        return self.options.choose(self.strategy, other)


@dataclass(frozen=True)
class Seen:
    """What a search had measured at one moment."""

    curve: tuple[Point, ...]
    best: Point


@dataclass(frozen=True)
class Outcome:
    """A finished search: its report, and the same as its file holds it."""

    report: Report
    file: SearchFile


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
        """End the search and keep its best mask; asked again, or once that is being measured, end that, too."""
        if self.measuring or self.stopping:
            self._give_up.set()
        self._stop.set()

    def during(self, progress: Progress | None) -> Progress:
        """The search's progress callback."""
        return _unless(self._stop, progress)

    def after(self, progress: Progress | None) -> Progress:
        """The callback of what follows the search."""
        return _unless(self._give_up, progress)


_ASKED: TypeAdapter[Asked] = TypeAdapter(Asked)


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

    asked: Asked
    key: Key
    live: Live

    @property
    def job(self) -> Job | None:
        """Its job; None once the runner has forgotten it."""
        return runner().find(self.key)

    @property
    def outcome(self) -> Outcome | None:
        """What it found, if it is done."""
        job = self.job
        return cast("Outcome", job.result) if job is not None and job.state is State.DONE else None

    @property
    def seen(self) -> Seen | None:
        """What it has measured so far, or in all."""
        outcome = self.outcome
        if outcome is None:
            return self.live.seen
        return Seen(outcome.report.found.curve, outcome.report.found.best)

    def stop(self) -> None:
        """Stop it: see `Live.stop`; one that still waits is stopped at once."""
        self.live.stop()
        job = self.job
        if job is not None and job.state is State.WAITING:
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

    def start(self, bench: Bench, asked: Asked) -> Started:
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
    outcome = started.outcome
    return outcome is None or outcome.report.found.stopped == "stopped"


@st.cache_resource(show_spinner=False)
def searches() -> Searches:
    """The process's searches."""
    return Searches()


def run(bench: Bench, started: Started, progress: Progress) -> Outcome:
    """The whole search, in a worker thread, on a view that nobody else uses."""
    asked, live = started.asked, started.live
    with bench.views.borrow() as view:
        keys = matrices(view, asked.kinds, asked.layers, per_head=asked.per_head)
        if missing := bench.svds.missing(view, keys):
            bench.svds.get_many(view, missing, live.during(part(progress, 0, DECOMPOSED)))
        problem = Problem(
            view, bench.task, bench.svds, keys, asked.budget, mode=asked.mode, scorer=asked.scorer,
            limit=asked.limit, seed=asked.seed, text=anchor_blocks(view),
            progress=live.during(part(progress, DECOMPOSED, SEARCHED)),
        )  # fmt: skip

        def watch(status: Status) -> None:
            live.seen = Seen(tuple(problem.curve), status.best)

        problem.watch = watch
        chosen = asked.chosen(bench.task)
        made_of = search_digest(problem, asked.strategy, chosen.options or None)
        journals = default_journals(notices().append_once)
        journals.describe(made_of, _subject(bench), _ASKED.dump_json(asked).decode())
        problem.journal = journals.open(made_of)

        def strategy(given: Problem) -> None:
            try:
                chosen.run(given)
            finally:
                live.measuring = True

        report = search(
            problem, bench.task, asked.strategy, strategy, options=chosen.options, control_draws=asked.controls,
            test_limit=asked.test_limit, text=own_text(bench.model.tokenizer),
            progress=live.after(part(progress, SEARCHED, 1)),
        )  # fmt: skip
    if report.found.stopped != "stopped":
        accuracy, removed = report.test.accuracy, len(report.mask)
        journals.finish(made_of, _RESULT.dump_json(Result(accuracy, report.test.n, removed)).decode())
    return Outcome(report, as_file(report.document()))


@dataclass(frozen=True)
class Result:
    """What a search came to on the test split."""

    accuracy: float
    n: int
    removed: int


_RESULT: TypeAdapter[Result] = TypeAdapter(Result)


@dataclass(frozen=True)
class Earlier:
    """A search of this model and task that the journal holds; `result` is None if it has not come to its end."""

    asked: Asked
    result: Result | None
    seconds: float
    used: float
    answers: int


def earlier(bench: Bench) -> tuple[Earlier, ...]:
    """The searches of the bench's model and task that were begun on this machine, the latest first."""
    found = []
    for recorded in default_journals(notices().append_once).about(_subject(bench)):
        try:
            asked = _ASKED.validate_json(recorded.request)
            result = None if recorded.result is None else _RESULT.validate_json(recorded.result)
        except (ValidationError, ExplorerError):  # written by another version
            continue
        found.append(Earlier(asked, result, recorded.seconds, recorded.used, recorded.answers))
    return tuple(found)


def _subject(bench: Bench) -> str:
    return f"{bench.model.as_loaded} {bench.task.digest}"


def mask_of(bench: Bench, asked: Asked, point: Point) -> Mask:
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
