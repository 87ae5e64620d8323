"""The bar of a running search: how far it is, how long it may take, the best mask so far."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from explorer.actions.request import SearchWatch
from explorer.core.texts import percent

if TYPE_CHECKING:
    from explorer.search.outcome import Status


@dataclass(frozen=True)
class SearchBar(SearchWatch):
    """A bar on stderr, and what a search tells it."""

    bar: Bar
    task: TaskID
    name: str

    def progress(self, done: int, total: int) -> None:
        """How far the search is."""
        self.bar.update(self.task, completed=done, total=total)

    def watch(self, status: Status) -> None:
        """What the search has found so far."""
        self.bar.update(self.task, description=f"{self.name}: {best_text(status)}")

    def after(self, done: int, total: int) -> None:
        """How far what follows the search is."""
        self.bar.update(self.task, description="Measuring the mask and its controls", completed=done, total=total)


def best_text(status: Status) -> str:
    """The best mask so far, such as `12 masks, best -1.250 nats, 31.2 % with 17 removed`."""
    best = status.best
    return (
        f"{status.measured:,} masks, best on validation {best.validation.mean_loss.value:.3f} nats, "
        f"{percent(best.validation.accuracy)} with {best.removed:,} removed"
    )


@contextmanager
def searching(name: str, *, silent: bool) -> Iterator[SearchBar]:
    """Show the bar while a search runs, if stderr is a terminal; what libraries print goes to stderr."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    hidden = silent or not console.is_terminal
    with redirect_stdout(sys.stderr), Bar(*columns, console=console, transient=True, disable=hidden) as bar:
        yield SearchBar(bar, bar.add_task(name, total=None), name)
