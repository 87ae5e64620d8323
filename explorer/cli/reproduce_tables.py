"""The table of `reproduce` as text and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from explorer.core.executor import Machine
from explorer.experiments.reproduce.entries import SuiteEntry
from explorer.search.controls import DEFAULT

WHO = ("model", "task", "strategy")
# What the terminal shows in a table of its own, so that each fits.
SECTIONS = (
    (
        "test accuracy [95 % interval]",
        ("published", "removed", "right is", "before", "as released", "corrected", "after", "exact match"),
    ),
    (
        "published value inside our interval",
        ("before inside", "as released inside", "corrected inside", "after inside"),
    ),
    ("loss per example", ("loss before", "loss after")),
    (
        "accuracy of controls of the same size",
        (DEFAULT, "smallest", "largest", "controls, as released", "controls, corrected"),
    ),
    ("all answer tokens; unpruned with shots", ("all answer tokens", "with shots", "ability recovered")),
    ("known harmful values among the removed", ("precision", "recall")),
)


Row = dict[str, str]  # by column


def sections(table: Sequence[Row], title: str) -> Iterator[tuple[str, list[Row]]]:
    """The table in narrower ones, each with its title; a model or task that all rows share goes into the title."""
    shared = _shared(table)
    about = ", ".join([title, *(table[0][name] for name in shared)])
    who = [name for name in WHO if name in table[0] and name not in shared]
    for what, columns in SECTIONS:
        chosen = [name for name in columns if name in table[0]]
        if chosen:
            yield f"{about}: {what}", [{name: row[name] for name in (*who, *chosen)} for row in table]


def _shared(table: Sequence[Row]) -> list[str]:
    """Model and task, if all rows have the same: not in a table of one row, which would not say what it is about."""
    return [name for name in WHO[:2] if len(table) > 1 and len({row[name] for row in table}) == 1]


def reasons(entries: Sequence[SuiteEntry]) -> Iterator[str]:
    """One line for each reason why cells are missing, with their names."""
    by_reason: dict[str, list[str]] = {}
    for one in entries:
        if one.reason is not None:
            by_reason.setdefault(one.reason, []).append(one.recipe.name)
    for reason, names in by_reason.items():
        yield f"{', '.join(names)}: {reason}"


def places(entries: Sequence[SuiteEntry]) -> Iterator[str]:
    """One line for each model that was measured from another place than its recipe names."""
    pairs = {(one.recipe.model.title, one.cell.source) for one in entries if _elsewhere(one)}  # type: ignore[union-attr]
    for title, source in sorted(pairs):
        yield f"{title} was taken from {source}."


def machines(entries: Sequence[SuiteEntry]) -> Iterator[str]:
    """A line that says so where cells were measured in different types or on different devices."""
    by_machine: dict[str, list[str]] = {}
    for one in entries:
        if one.cell is not None and one.cell.device is not None:
            by_machine.setdefault(str(Machine(one.cell.device, str(one.cell.dtype))), []).append(one.recipe.name)
    if len(by_machine) > 1:
        told = "; ".join(f"{machine}: {', '.join(names)}" for machine, names in by_machine.items())
        yield f"Not all cells were measured alike. {told}."


def _elsewhere(entry: SuiteEntry) -> bool:
    return entry.cell is not None and entry.cell.source != entry.recipe.model.located


def markdown(table: Sequence[Row]) -> str:
    """The table in Markdown, without a model or task that all rows share."""
    columns = [name for name in table[0] if name not in _shared(table)]
    lines = [columns, ["---"] * len(columns), *([row[name] for name in columns] for row in table)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
