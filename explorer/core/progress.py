"""Progress of long work: a callback that is told (done, total) and may raise `Stopped`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Progress = Callable[[int, int], None]
T = TypeVar("T")


def track(items: Sequence[T], progress: Progress | None) -> Iterator[T]:
    """Yield `items`, telling `progress` before the first and after each one."""
    if progress is None:
        yield from items
        return
    progress(0, len(items))
    for done, item in enumerate(items, start=1):
        yield item
        progress(done, len(items))


def part(progress: Progress | None, start: float, end: float) -> Progress | None:
    """The callback for a piece of the work that covers the fractions `start` to `end` of the whole."""
    if progress is None:
        return None
    resolution = 1000

    def report(done: int, total: int) -> None:
        fraction = start + (end - start) * (done / total if total else 1.0)
        progress(round(resolution * fraction), resolution)

    return report
