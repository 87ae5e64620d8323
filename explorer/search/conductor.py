"""The one way in which a search is run, whoever asks for it.

1. What is not decomposed yet is decomposed.
2. The strategy runs, and goes on where the journal ends. It is stopped by raising `Stopped` from `Watcher.progress`.
3. The mask, the unpruned model and the controls are measured on the test split, which no search sees, and the damage on
   other tasks and text (`explorer.search.report`). That is stopped by raising `Stopped` from `Watcher.after`.
4. The journal says what was asked and what it came to: searches of a model and task can be listed (`earlier`), and go
   on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from explorer.core.errors import ExplorerError
from explorer.core.executor import Executor
from explorer.core.progress import Progress, part
from explorer.models import Model, View
from explorer.models.compute import compute_type
from explorer.models.matrices import matrices
from explorer.search.anchor import anchor_blocks
from explorer.search.given import GIVEN
from explorer.search.identity import search_digest
from explorer.search.journal import Journal, JournalFile
from explorer.search.options import Chosen
from explorer.search.outcome import Point, Status
from explorer.search.problem import Problem
from explorer.search.report import Evidence, Report, search
from explorer.search.request import SearchRequest
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task

DECOMPOSED = 0.1  # share of the progress until the strategy ends


@dataclass(frozen=True)
class Watcher:
    """Who is told of a search while it runs; nobody by default.

    Attributes:
        progress: told (done, total) until the strategy has ended.
        measured: told the curve so far, and where the search stands, after every measurement and in between.
        resumed: given the journal, if an earlier run has recorded something in it.
        ended: called once the strategy has ended.
        after: told (done, total) of what follows the strategy.
    """

    progress: Progress | None = None
    measured: Callable[[tuple[Point, ...], Status], None] | None = None
    resumed: Callable[[Journal], None] | None = None
    ended: Callable[[], None] | None = None
    after: Progress | None = None


@dataclass(frozen=True)
class Recording:
    """Where a search is recorded and found again; `fresh` to forget what an earlier run has recorded."""

    journals: JournalFile
    fresh: bool = False


@dataclass(frozen=True)
class Elsewhere:
    """What a search's mask is measured on beside its own task, to know the damage; nothing by default.

    Attributes:
        executor: who measures the controls; this process if None.
    """

    others: Sequence[Task] = ()
    text: str | None = None
    executor: Executor | None = None


@dataclass(frozen=True)
class RecordedResult:
    """What a search came to on the test split."""

    accuracy: float
    n: int
    removed: int


@dataclass(frozen=True)
class Earlier:
    """A search that a journal file holds; `result` is None if it has not come to its end.

    Attributes:
        seconds: that all its runs took.
        used: when something was last recorded, in seconds since 1970.
        answers: how many scores and measurements are recorded.
    """

    asked: SearchRequest
    result: RecordedResult | None
    seconds: float
    used: float
    answers: int


_REQUEST: TypeAdapter[SearchRequest] = TypeAdapter(SearchRequest)
_RESULT: TypeAdapter[RecordedResult] = TypeAdapter(RecordedResult)


def conduct(
    request: SearchRequest,
    view: View,
    task: Task,
    svds: SvdCache,
    *,
    chosen: Chosen | None = None,
    recording: Recording | None = None,
    elsewhere: Elsewhere | None = None,
    watcher: Watcher | None = None,
) -> Report:
    """Run a search and report its mask beside its controls; the view is left unpruned.

    Args:
        request: what is asked.
        view: nobody else uses it meanwhile.
        task: whose train and validation split the search sees, and whose test split its mask is measured on.
        svds: decompositions.
        chosen: the strategy with its options, if the request's other tasks are opened in a way of one's own.
        recording: where it is recorded and found again; None to keep nothing.
        elsewhere: what the damage is measured on.
        watcher: who is told.

    Raises:
        MatrixError, SettingsError, TaskError: the request does not fit the model or the task.
    """
    request.evidence.check_mode(request.mode)
    told, damaged = watcher or Watcher(), elsewhere or Elsewhere()
    problem = _problem(request, view, task, svds=svds, told=told)
    chosen = request.chosen(task) if chosen is None else chosen
    made_of = search_digest(problem, request.strategy, chosen.options or None)
    if recording is not None:
        problem.journal = recording.journals.open(made_of, fresh=recording.fresh)
        if told.resumed is not None and problem.journal.recorded:
            told.resumed(problem.journal)
        recording.journals.describe(made_of, _subject(view.model, task), _REQUEST.dump_json(request).decode())

    def strategy(posed: Problem) -> None:
        try:
            chosen.run(posed)
        finally:
            if told.ended is not None:
                told.ended()

    report = search(
        problem, task, request.strategy, strategy=strategy, options=chosen.options, progress=told.after,
        evidence=Evidence(
            request.controls, request.control_names, request.test_limit, others=damaged.others, text=damaged.text,
            executor=damaged.executor, choice=request.evidence,
        ),
    )  # fmt: skip
    if recording is not None and report.found.stopped != "stopped":
        result = RecordedResult(report.test.accuracy, report.test.n, len(report.mask))
        recording.journals.finish(made_of, _RESULT.dump_json(result).decode())
    return report


def _problem(request: SearchRequest, view: View, task: Task, *, svds: SvdCache, told: Watcher) -> Problem:
    """What is asked of the strategy, once everything is decomposed."""
    keys = matrices(view, request.kinds, request.layers, per_head=request.per_head)
    if missing := svds.missing(view, keys):
        svds.get_many(view, missing, part(told.progress, 0.0, DECOMPOSED))
    problem = Problem(
        view, task, svds, keys=keys, budget=request.budget, mode=request.mode, scorer=request.scorer,
        limit=request.limit, seed=request.seed, text=anchor_blocks(view),
        compute=compute_type(view.model, request.compute), progress=part(told.progress, DECOMPOSED, 1.0),
    )  # fmt: skip
    if told.measured is not None:
        tell = told.measured
        problem.watch = lambda status: tell(tuple(problem.curve), status)
    return problem


def earlier(journals: JournalFile, model: Model, task: Task) -> tuple[Earlier, ...]:
    """The searches of a model and task that a journal file holds, the latest first; masks that were given are none."""
    found = []
    for recorded in journals.about(_subject(model, task)):
        try:
            request = _REQUEST.validate_json(recorded.request.replace('"most":', '"max_removed":'))  # version 0.1
            result = None if recorded.result is None else _RESULT.validate_json(recorded.result)
        except (ValidationError, ExplorerError):  # written by another version
            continue
        if request.strategy == GIVEN:
            continue
        found.append(Earlier(request, result, recorded.seconds, used=recorded.used, answers=recorded.answers))
    return tuple(found)


def _subject(model: Model, task: Task) -> str:
    return f"{model.as_loaded} {task.digest}"
