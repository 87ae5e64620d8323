"""Clusters without Ray: workers that sleep on a clock of their own, and cells that are answered here, from text."""

from __future__ import annotations

import heapq
import json
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explorer.core.executor import Answer, Subject, WorkCell, distinct
from explorer.core.progress import Progress, track
from explorer.experiments.cluster.worker import answer, installed, written
from explorer.experiments.cluster.workers import read_answer


@dataclass
class SleepingCrew:
    """Workers that take as long for a cell as `seconds` says, on a clock that only passes here.

    Attributes:
        size: how many workers.
        seconds: of a cell.
        delay: seconds between a cell's end and the moment at which its worker has the next one, if none waits there.
        now: the clock.
        busy: seconds that each worker has worked.
        most: the most cells that a worker ever had.
    """

    size: int
    seconds: Callable[[int], float]
    delay: float = 0.0
    now: float = 0.0
    sent: list[tuple[int, int]] = field(default_factory=list)
    cancelled: list[Hashable] = field(default_factory=list)
    most: int = 0

    def __post_init__(self) -> None:
        self.busy = [0.0] * self.size
        self._queues: list[deque[int]] = [deque() for _ in range(self.size)]
        self._running: list[tuple[float, int, int]] = []  # end, ticket, worker

    def send(self, worker: int, cell: int) -> Hashable:
        self.sent.append((worker, cell))
        self._queues[worker].append(len(self.sent) - 1)
        self.most = max(self.most, len(self._queues[worker]))
        if len(self._queues[worker]) == 1:
            self._begin(worker, self.now + self.delay)
        return len(self.sent) - 1

    def _begin(self, worker: int, start: float) -> None:
        ticket = self._queues[worker][0]
        seconds = self.seconds(self.sent[ticket][1])
        self.busy[worker] += seconds
        heapq.heappush(self._running, (start + seconds, ticket, worker))

    def finished(self, tickets: Sequence[Hashable], seconds: float) -> Iterable[tuple[Hashable, str]]:
        if not self._running or self._running[0][0] > self.now + seconds:
            self.now += seconds
            return []
        end, ticket, worker = heapq.heappop(self._running)
        assert ticket in tickets
        self.now = max(self.now, end)
        self._queues[worker].popleft()
        if self._queues[worker]:
            self._begin(worker, end)
        return [(ticket, f"answer {self.sent[ticket][1]}")]

    def cancel(self, tickets: Collection[Hashable]) -> None:
        self.cancelled += tickets


@dataclass(frozen=True, eq=False)
class WrittenWork:
    """An executor that hands everything on as text, as a cluster does, and answers in this process."""

    subject: Subject
    expected: dict[str, str] = field(default_factory=installed)
    stop: Callable[[], bool] = lambda: False

    def map_unordered(
        self, cells: Sequence[WorkCell[Any]], progress: Progress | None = None
    ) -> Iterator[tuple[str, Answer]]:
        for cell in track(list(reversed(distinct(cells))), progress):
            text = answer(self.expected, written(self.subject), written(cell), stop=self.stop)
            yield cell.digest, read_answer(json.dumps(["node", text]))


def pids(driver: int) -> set[int]:
    """Processes of the actors that a driver's Ray has started."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if name.startswith(b"ray::EigenpruneWorker") and driver in ancestors(int(folder.name)):
            found.add(int(folder.name))
    return found


def ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 1:
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return found
        pid = int(text.rpartition(")")[2].split()[1])
        found.add(pid)
    return found
