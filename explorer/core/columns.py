"""Columns of a table of results, told once for the terminal, the page, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

RowT = TypeVar("RowT")


@dataclass(frozen=True)
class Column(Generic[RowT]):
    """One column.

    Attributes:
        name: its heading.
        read: what it shows of a row.
        text: that in words; None for a number or a text that is shown as it is.
    """

    name: str
    read: Callable[[RowT], Any]
    text: Callable[[Any], str] | None = None

    def cell(self, row: RowT) -> Any:
        """What stands in the table."""
        value = self.read(row)
        return value if self.text is None else self.text(value)


def names(columns: Sequence[Column[RowT]]) -> tuple[str, ...]:
    """The headings."""
    return tuple(column.name for column in columns)


def cells(columns: Sequence[Column[RowT]], rows: Iterable[RowT]) -> list[tuple[Any, ...]]:
    """The table's rows."""
    return [tuple(column.cell(row) for column in columns) for row in rows]
