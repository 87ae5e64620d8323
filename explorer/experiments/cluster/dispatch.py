"""Keep workers busy: the driver's loop, which knows nothing of Ray.

Every worker has one cell to work on and, as long as there are more cells than workers, one that waits behind it, so
that it need not wait for the driver. Towards the end nothing waits behind a busy worker while another one is idle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from explorer.core.progress import Progress

AHEAD = 2  # cells that a worker has at most
POLL_SECONDS = 0.2  # between two looks at whether to stop
C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)


class Crew(Protocol[C_contra, A_co]):
    """Workers, numbered from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def send(self, worker: int, cell: C_contra) -> Hashable:
        """Give a worker a cell, behind those that it has; returns a ticket."""

    def finished(self, tickets: Sequence[Hashable], seconds: float) -> Iterable[tuple[Hashable, A_co]]:
        """Tickets whose cells are answered, with the answers; waits at most so long for the first one."""

    def cancel(self, tickets: Collection[Hashable]) -> None:
        """Forget these cells, begun or not."""


def dispatch(crew: Crew[C, A_co], cells: Sequence[C], progress: Progress | None = None) -> Iterator[tuple[C, A_co]]:
    """Every cell with its answer, as they come.

    Args:
        crew: who works.
        cells: in the order in which they are begun.
        progress: told (done, total) cells, every now and then also while none comes; what it raises ends the work, as
            does closing the iterator: cells that are not answered are cancelled.
    """
    desk = _Desk(crew, cells)
    done = 0

    def tell() -> None:
        if progress is not None:
            progress(done, len(cells))

    try:
        tell()
        desk.begin()
        while desk.busy:
            answered = list(crew.finished(tuple(desk.busy), POLL_SECONDS))
            found = [(desk.free(ticket), answer) for ticket, answer in answered]
            for cell, answer in found:
                yield cell, answer
                done += 1
                tell()
            if not found:
                tell()
    finally:
        crew.cancel(tuple(desk.busy))


class _Desk(Generic[C]):
    """Who works on what, and what waits."""

    def __init__(self, crew: Crew[C, object], cells: Sequence[C]) -> None:
        self.busy: dict[Hashable, tuple[int, C]] = {}
        self._crew, self._waiting, self._load = crew, deque(cells), [0] * crew.size

    def begin(self) -> None:
        """Give every worker something, and then something to go on with."""
        for _ in range(AHEAD):
            for worker in range(self._crew.size):
                self._send(worker)

    def free(self, ticket: Hashable) -> C:
        """The cell of a ticket, which is answered; its worker gets the next one."""
        worker, cell = self.busy.pop(ticket)
        self._load[worker] -= 1
        while self._send(worker):
            pass
        return cell

    def _send(self, worker: int) -> bool:
        most = AHEAD if len(self._waiting) > self._crew.size else 1
        if not self._waiting or self._load[worker] >= most:
            return False
        cell = self._waiting.popleft()
        self._load[worker] += 1
        self.busy[self._crew.send(worker, cell)] = worker, cell
        return True
