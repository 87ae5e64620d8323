"""Long work outside the page scripts: one runner for the whole process.

Page scripts come and go with every click, so work runs in the runner's threads and is found again by its key. Equal
keys are equal work: a second session that asks for the same gets the same job, and finished jobs cache their results.
Worker functions never call Streamlit.

Sessions share the threads fairly (`explorer.ui.jobs.turns`): who has the least under way is next, and nobody waits for
the long jobs of others, since a session with nothing under way gets a further thread. Urgent work, which a user waits
for, has threads of its own; meanwhile other jobs pause at their next step. With a session that is gone go the jobs that
no other session has asked for.

The threads are daemons that are asked to stop when the process ends; those of a ThreadPoolExecutor would hold up its
end until the last job is done.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Collection, Hashable, Mapping
from contextvars import ContextVar
from enum import StrEnum
from typing import Any

from explorer.core.errors import ExplorerError, Stopped
from explorer.core.progress import Progress
from explorer.ui.jobs.time_left import TimeLeft
from explorer.ui.jobs.turns import Turns

Key = tuple[Hashable, ...]
LONGEST_PAUSE = 5.0  # seconds per step that a job waits for urgent ones at most
_AT_WORK: ContextVar[Job] = ContextVar("at-work")  # the job of this thread


class JobState(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


def _over(progress: Progress) -> None:
    """Stands for work that has begun."""


def tell(so_far: object) -> None:
    """Say what the work of this thread has found so far; for worker functions."""
    _AT_WORK.get().so_far = so_far


class Job:
    """One piece of work: its progress, and its result or the sentence that says why there is none.

    Attributes:
        key: what the work is; the first entry is its sort.
        label: what the user reads while it runs.
        done, total: progress, in the work's own units.
        urgent: whether it goes before those that are not.
        error: the sentence for the user, if it failed.
        so_far: what the work has found so far, if it says so (`tell`).
        wanted_by: the owners that have asked for it.
    """

    def __init__(
        self, key: Key, label: str, work: Callable[[Progress], Any], pause: Callable[[], object] | None = None
    ) -> None:
        self.key = key
        self.label = label
        self.urgent = pause is None
        self.state = JobState.WAITING
        self.done, self.total = 0, 1
        self.error: str | None = None
        self.result: Any = None
        self.so_far: Any = None
        self.wanted_by: set[Hashable] = set()
        self._work = work
        self._pause = pause
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._time_left = TimeLeft()

    @property
    def active(self) -> bool:
        """Whether it still waits or runs."""
        return self.state in (JobState.WAITING, JobState.RUNNING)

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1."""
        return min(self.done / max(self.total, 1), 1.0)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until done; None where its pace does not allow to tell."""
        with self._lock:
            return self._time_left.seconds(time.monotonic())

    def stop(self) -> None:
        """Ask the work to stop at its next step; work that still waits is stopped at once."""
        self._stop.set()
        with self._lock:
            if self.state is JobState.WAITING:
                self.state, self._work = JobState.STOPPED, _over
                self._ended.set()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; True if the job has ended."""
        return self._ended.wait(seconds)

    def run(self) -> None:
        """Do the work in this thread, unless it was stopped before; never raises."""
        with self._lock:
            if self.state is not JobState.WAITING:
                return
            self.state = JobState.RUNNING
        self.state = self._outcome()
        self.so_far = None
        self._ended.set()

    def _outcome(self) -> JobState:
        try:
            self._report(0, 1)
            work, self._work = self._work, _over  # what the work refers to is freed with it
            _AT_WORK.set(self)
            self.result = work(self._report)
            return JobState.DONE
        except Stopped:
            return JobState.STOPPED
        except ExplorerError as error:
            self.error = str(error)
        except MemoryError:
            self.error = f"{self.label}: there is not enough memory for this; choose less."
        except Exception as error:  # a defect: logged in full, and the page stays usable
            logging.getLogger(__name__).exception("%s failed", self.label)
            self.error = f"{self.label} failed unexpectedly ({error}); the log has the details."
        return JobState.FAILED

    def _report(self, done: int, total: int) -> None:
        if self._pause is not None and not self._stop.is_set():
            self._pause()
        if self._stop.is_set():
            raise Stopped
        with self._lock:
            self.done, self.total = done, total
            self._time_left.note(time.monotonic(), self.share)


class JobRunner:
    """Runs jobs in a few threads and keeps the most recently used results of each sort.

    Args:
        workers: jobs that run at once, beside urgent ones.
        keep: how many finished jobs to keep per sort (first entry of the key); `default_keep` for other sorts.
        urgent: urgent jobs that run at once.
        most: bound on the threads for jobs that are not urgent, when more owners than `workers` have some.
        for_anybody: sorts whose results outlast the owners that asked for them.
        owner: says whose the work is that is being submitted.
    """

    def __init__(
        self,
        workers: int = 2,
        keep: Mapping[str, int] | None = None,
        default_keep: int = 64,
        *,
        urgent: int = 1,
        most: int = 8,
        for_anybody: Collection[str] = (),
        owner: Callable[[], Hashable] = lambda: None,
    ) -> None:
        self._turns: Turns[Job] = Turns()
        self._urgent: Turns[Job] = Turns()
        self._workers, self._extra = workers, max(0, most - workers)
        self._rushing = 0
        self._calm = threading.Event()
        self._calm.set()
        self._owner = owner
        self._keep = dict(keep or {})
        self._default_keep = default_keep
        self._for_anybody = frozenset(for_anybody)
        self._jobs: dict[Key, Job] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        for _ in range(workers):
            self._start(self._serve)
        for _ in range(urgent):
            self._start(self._serve_urgent)
        atexit.register(self.close)

    def submit(
        self,
        key: Key,
        label: str,
        work: Callable[[Progress], Any],
        *,
        urgent: bool = False,
        owner: Hashable | None = None,
    ) -> Job:
        """The job with this key: the one there is, however it ended (see `forget`), or a new one.

        `urgent` is for short work that a user waits for; `owner` is whose work it is, if not the session's other work.
        """
        asking = self._owner() if owner is None else owner
        with self._lock:
            job = self._jobs.pop(key, None)
            if job is None:
                job = Job(key, label, work, pause=None if urgent else lambda: self._calm.wait(LONGEST_PAUSE))
                self._queue(job, asking, urgent=urgent)
            self._jobs[key] = job
            job.wanted_by.add(asking)
            self._forget(key[0])
            return job

    def find(self, key: Key) -> Job | None:
        """The job with this key, if it was submitted and not forgotten."""
        with self._lock:
            return self._jobs.get(key)

    def under_way(self, key: Key) -> bool:
        """Whether the job with this key waits or runs."""
        job = self.find(key)
        return job is not None and job.active

    def of(self, owner: Hashable) -> list[Job]:
        """The jobs that an owner has asked for, the last one last."""
        with self._lock:
            return [job for job in self._jobs.values() if owner in job.wanted_by]

    def forget(self, key: Key) -> None:
        """Drop a job that has ended, with its result, so that `submit` starts it anew."""
        with self._lock:
            job = self._jobs.get(key)
            if job is not None and not job.active:
                del self._jobs[key]

    def drop(self, key: Key) -> None:
        """Stop a job that nobody wants any more, and forget it at once, so that `submit` starts it anew."""
        with self._lock:
            job = self._jobs.pop(key, None)
        if job is not None:
            job.stop()

    def leave(self, owner: Hashable) -> None:
        """An owner is gone: stop and forget what nobody else has asked for, but not the results kept for anybody."""
        with self._lock:
            unwanted = []
            for job in self._jobs.values():
                job.wanted_by.discard(owner)
                if not job.wanted_by and (job.active or job.key[0] not in self._for_anybody):
                    unwanted.append(job)
            for job in unwanted:
                del self._jobs[job.key]
        for job in unwanted:
            job.stop()

    def close(self, seconds: float = 5.0) -> None:
        """Stop all work and wait up to `seconds` for the threads to end; nothing can be submitted afterwards."""
        atexit.unregister(self.close)
        with self._lock:
            jobs, self._jobs = list(self._jobs.values()), {}
            threads = list(self._threads)
        for job in jobs:
            job.stop()
        self._turns.close()
        self._urgent.close()
        self._calm.set()
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _queue(self, job: Job, owner: Hashable, *, urgent: bool) -> None:
        (self._urgent if urgent else self._turns).put(owner, job)
        if not urgent and self._extra and self._turns.waits(owner, self._workers):
            self._extra -= 1
            self._start(self._serve_unserved)

    def _start(self, serve: Callable[[], None]) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=serve, name="job", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while (turn := self._turns.get()) is not None:
            owner, job = turn
            job.run()
            self._turns.done(owner)

    def _serve_unserved(self) -> None:
        """For owners who have nothing under way, until there are none."""
        while (turn := self._turns.get_unserved()) is not None:
            owner, job = turn
            job.run()
            self._turns.done(owner)
        with self._lock:
            self._extra += 1

    def _serve_urgent(self) -> None:
        while (turn := self._urgent.get()) is not None:
            owner, job = turn
            self._rush(1)
            job.run()
            self._rush(-1)
            self._urgent.done(owner)

    def _rush(self, change: int) -> None:
        with self._lock:
            self._rushing += change
            if self._rushing:
                self._calm.clear()
            else:
                self._calm.set()

    def _forget(self, sort: Hashable) -> None:
        ended = [key for key, job in self._jobs.items() if key[0] == sort and not job.active]
        for key in ended[: max(0, len(ended) - self._keep.get(str(sort), self._default_keep))]:
            del self._jobs[key]
