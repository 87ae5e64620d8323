"""Long work outside the page scripts: one runner for the whole process.

Page scripts come and go with every click, so work runs in the runner's threads and is found again by its key. Equal
keys are equal work: a second session that asks for the same gets the same job, and finished jobs cache their results.
Worker functions never call Streamlit.

The threads are daemons that are asked to stop when the process ends; those of a ThreadPoolExecutor would hold up its
end until the last job is done.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from enum import StrEnum
from queue import SimpleQueue
from typing import Any

from explorer.errors import ExplorerError, Stopped
from explorer.progress import Progress

Key = tuple[Hashable, ...]


class State(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


class Job:
    """One piece of work: its progress, and its result or the sentence that says why there is none.

    Attributes:
        key: what the work is; the first entry is its sort.
        label: what the user reads while it runs.
        done, total: progress, in the work's own units.
        error: the sentence for the user, if it failed.
    """

    def __init__(self, key: Key, label: str, work: Callable[[Progress], Any]) -> None:
        self.key = key
        self.label = label
        self.state = State.WAITING
        self.done, self.total = 0, 1
        self.error: str | None = None
        self.result: Any = None
        self._work = work
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._started: float | None = None

    @property
    def active(self) -> bool:
        """Whether it still waits or runs."""
        return self.state in (State.WAITING, State.RUNNING)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until done; None before a twentieth of it is done."""
        if self._started is None or self.done * 20 < self.total:
            return None
        return (time.monotonic() - self._started) * (self.total - self.done) / max(self.done, 1)

    def stop(self) -> None:
        """Ask the work to stop at its next step; work that still waits is stopped at once."""
        self._stop.set()
        with self._lock:
            if self.state is State.WAITING:
                self.state = State.STOPPED
                self._ended.set()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; True if the job has ended."""
        return self._ended.wait(seconds)

    def run(self) -> None:
        """Do the work in this thread, unless it was stopped before; never raises."""
        with self._lock:
            if self.state is not State.WAITING:
                return
            self.state, self._started = State.RUNNING, time.monotonic()
        self.state = self._outcome()
        self._ended.set()

    def _outcome(self) -> State:
        try:
            self._report(0, 1)
            self.result = self._work(self._report)
            return State.DONE
        except Stopped:
            return State.STOPPED
        except ExplorerError as error:
            self.error = str(error)
        except MemoryError:
            self.error = f"{self.label}: there is not enough memory for this; choose less."
        except Exception as error:  # a defect: logged in full, and the page stays usable
            logging.getLogger(__name__).exception("%s failed", self.label)
            self.error = f"{self.label} failed unexpectedly ({error}); the log has the details."
        return State.FAILED

    def _report(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise Stopped
        self.done, self.total = done, total


class JobRunner:
    """Runs jobs in a few threads and keeps the most recently used results of each sort.

    Args:
        workers: jobs that run at once.
        keep: how many finished jobs to keep per sort (first entry of the key); `default_keep` for other sorts.
    """

    def __init__(self, workers: int = 2, keep: Mapping[str, int] | None = None, default_keep: int = 64) -> None:
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._serve, name=f"job-{n}", daemon=True) for n in range(workers)]
        self._keep = dict(keep or {})
        self._default_keep = default_keep
        self._jobs: dict[Key, Job] = {}
        self._lock = threading.Lock()
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)

    def submit(self, key: Key, label: str, work: Callable[[Progress], Any]) -> Job:
        """The job with this key: the one there is, however it ended (see `forget`), or a new one."""
        with self._lock:
            job = self._jobs.pop(key, None)
            if job is None:
                job = Job(key, label, work)
                self._queue.put(job)
            self._jobs[key] = job
            self._forget(key[0])
            return job

    def find(self, key: Key) -> Job | None:
        """The job with this key, if it was submitted and not forgotten."""
        with self._lock:
            return self._jobs.get(key)

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

    def close(self, seconds: float = 5.0) -> None:
        """Stop all work and wait up to `seconds` for the threads to end; nothing can be submitted afterwards."""
        atexit.unregister(self.close)
        with self._lock:
            jobs, self._jobs = list(self._jobs.values()), {}
        for job in jobs:
            job.stop()
        for _ in self._threads:
            self._queue.put(None)
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            job.run()

    def _forget(self, sort: Hashable) -> None:
        ended = [key for key, job in self._jobs.items() if key[0] == sort and not job.active]
        for key in ended[: max(0, len(ended) - self._keep.get(str(sort), self._default_keep))]:
            del self._jobs[key]
