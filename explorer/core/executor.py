"""Work that falls into independent cells, and who answers them: this process, or the workers of a cluster.

1. A *cell* is a frozen request with a digest. It can be written as text and read again, so it can be answered anywhere.
2. A *subject* is what cells are asked about, such as a model with a task: whoever answers opens it once for many cells.
3. An *executor* answers cells in any order. Only who asks keeps what comes back, so that a cell that is answered twice
   does no harm, and going on after a kill means asking for what is missing.

How work is cut into cells never depends on how many there are to answer them.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from explorer.core.files import digest
from explorer.core.progress import Progress, track
from explorer.core.records import Record

Plain = Mapping[str, Any]  # what JSON can hold, and floats that are not finite


@dataclass(frozen=True)
class Machine:
    """What numbers depend on beside the work: the device, `cpu` or the name of a GPU, and the type of the weights."""

    device: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype} on {self.device}"


@dataclass(frozen=True)
class Answer:
    """What a cell came to.

    Attributes:
        values: the result as plain values; the same bits whoever answered.
        machine: what it was computed on.
    """

    values: Plain
    machine: Machine


class OpenedSubject(Protocol):
    """A subject that is open: what cells work with."""

    @property
    def machine(self) -> Machine:
        """Where it is."""


O_contra = TypeVar("O_contra", bound=OpenedSubject, contravariant=True)


class _Written(Record):
    """A frozen dataclass that is told apart by its class and its fields."""

    @cached_property
    def text(self) -> str:
        """Its fields as JSON."""
        return json.dumps(self.as_dict(), ensure_ascii=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what it asks: equal for equal requests, in every process."""
        return digest([type(self).__name__.encode(), b" ", self.text.encode()])


class WorkCell(_Written, ABC, Generic[O_contra]):
    """One piece of work: a frozen dataclass, independent of all others, that answers the same wherever it runs."""

    @abstractmethod
    def run(self, opened: O_contra, progress: Progress | None = None) -> Plain:
        """Answer it.

        Args:
            opened: the subject; nobody else uses it meanwhile.
            progress: told (done, total); may raise `Stopped`.

        Raises:
            ExplorerError: what the user can mend, in one sentence.
        """


class Subject(_Written, ABC):
    """What cells are asked about, as text: a frozen dataclass that says how to open it.

    Attributes:
        one_machine: whether answers that were computed on different devices, or in different types, may not be mixed.
    """

    one_machine: ClassVar[bool] = True

    @abstractmethod
    def open(self) -> OpenedSubject:
        """Open it, from what this machine has.

        Raises:
            ExplorerError: it cannot be had here, or is another one here.
        """


@runtime_checkable
class Executor(Protocol):
    """Who answers cells."""

    def map_unordered(
        self, cells: Sequence[WorkCell[Any]], progress: Progress | None = None
    ) -> Iterator[tuple[str, Answer]]:
        """The digest of each cell with its answer, as they come.

        Args:
            cells: the work; a cell that is asked for twice is answered once.
            progress: told (done, total) of the cells, in between as well; may raise `Stopped`, which ends the work.

        Raises:
            ExplorerError: what the user can mend, in one sentence.
        """


@dataclass(frozen=True, eq=False)
class InProcess:
    """Answers cells one after the other, in this process, on a subject that is open."""

    opened: Any

    def map_unordered(
        self, cells: Sequence[WorkCell[Any]], progress: Progress | None = None
    ) -> Iterator[tuple[str, Answer]]:
        """The digest of each cell with its answer, in the order of the cells."""
        for cell in track(distinct(cells), progress):
            yield cell.digest, Answer(cell.run(self.opened), self.opened.machine)


def distinct(cells: Sequence[WorkCell[Any]]) -> tuple[WorkCell[Any], ...]:
    """The cells in their order, each once."""
    return tuple({cell.digest: cell for cell in cells}.values())
