"""What the table of a suite shows: published beside measured, or one row per strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from explorer.core.columns import Column, cells, names
from explorer.core.texts import loss_text, percent, range_text
from explorer.experiments.reproduce.cells import SuiteCell
from explorer.experiments.reproduce.entries import SuiteEntry
from explorer.experiments.reproduce.recipe import Published, Released, SuiteRecipe
from explorer.experiments.reproduce.verdict import recovered, verdict
from explorer.measure.figures import Figures
from explorer.search.columns import figures_text
from explorer.search.controls import DEFAULT
from explorer.tasks import TASKS
from explorer.tasks.metric import METRIC_NAMES

NONE = "-"

RowT = TypeVar("RowT")
Columns = tuple[Column[SuiteEntry], ...]


@dataclass(frozen=True)
class CellPair:
    """What was published of a model and task, with its cell as released and by the corrected method, where they are."""

    recipe: SuiteRecipe
    published: Published
    released: SuiteCell | None
    corrected: SuiteCell | None

    @property
    def base(self) -> SuiteCell | None:
        """What tells the accuracy before: as published by the released measure, if it is there."""
        return self.released or self.corrected


def suite_rows(entries: Sequence[SuiteEntry]) -> list[dict[str, str]]:
    """Texts by column; all rows have the same: side by side where values were published, else one row per cell."""
    pairs = _pairs(entries)
    return _texts(entry_columns(entries), entries) if pairs is None else _texts(PAIR_COLUMNS, pairs)


def _texts(columns: Sequence[Column[RowT]], rows: Sequence[RowT]) -> list[dict[str, str]]:
    return [dict(zip(names(columns), row, strict=True)) for row in cells(columns, rows)]


def _pairs(entries: Sequence[SuiteEntry]) -> list[CellPair] | None:
    """As released and corrected by model and task; None if nothing was published, or there are more than these two."""
    groups: dict[tuple[str, str], dict[bool, SuiteEntry]] = {}
    for one in entries:
        group = groups.setdefault((one.recipe.model.name, one.recipe.task.name), {})
        if one.recipe.published is None or one.recipe.released in group:
            return None
        group[one.recipe.released] = one
    return [_pair(group) for group in groups.values()]


def _pair(group: dict[bool, SuiteEntry]) -> CellPair:
    recipe = group[max(group)].recipe
    assert recipe.published is not None
    released, corrected = (group[which].cell if which in group else None for which in (True, False))
    return CellPair(recipe, recipe.published, released=released, corrected=corrected)


# ---- one row per model and task


def _inside(which: str, side: str) -> Callable[[CellPair], str]:
    def read(pair: CellPair) -> str:
        cell = getattr(pair, which)
        return NONE if cell is None else _yes(getattr(verdict(pair.published, cell), side))

    return read


PAIR_COLUMNS: tuple[Column[CellPair], ...] = (
    Column("model", lambda pair: pair.recipe.model.title),
    Column("task", lambda pair: pair.recipe.task.name),
    Column("published", lambda pair: _published(pair.published)),
    Column("before", lambda pair: NONE if pair.base is None else figures_text(pair.base.before)),
    Column("as released", lambda pair: _after(pair.released, pair.base)),
    Column("corrected", lambda pair: _after(pair.corrected, pair.base)),
    Column("controls, as released", lambda pair: _controls(pair.released)),
    Column("controls, corrected", lambda pair: _controls(pair.corrected)),
    Column("before inside", _inside("base", "before_inside")),
    Column("as released inside", _inside("released", "after_inside")),
    Column("corrected inside", _inside("corrected", "after_inside")),
)


def _after(cell: SuiteCell | None, base: SuiteCell | None) -> str:
    """The accuracy after; with the one before where that was counted otherwise than the row's."""
    if cell is None or base is None:
        return NONE
    front = "" if cell.before.accuracy == base.before.accuracy else f"{percent(cell.before.accuracy)} -> "
    return front + figures_text(cell.after)


def _controls(cell: SuiteCell | None) -> str:
    said = [f"{name.split()[0]} {text}" for name in _CONTROLS if (text := _control(cell, name)) != NONE]
    return ", ".join(said) or NONE


# ---- one row per recipe


def _of_cell(name: str, read: Callable[[SuiteCell], Any], text: Callable[[Any], str] = str) -> Column[SuiteEntry]:
    """A column of what a cell says; a dash where there is no cell, or it does not say that."""
    return Column(
        name, lambda entry: None if entry.cell is None else read(entry.cell),
        lambda value: NONE if value is None else text(value),
    )  # fmt: skip


def entry_columns(entries: Sequence[SuiteEntry]) -> Columns:
    """The columns of a table in which each recipe has a row: those that say something of these entries."""
    return tuple(column for columns in _column_groups(entries) for column in columns)


def _column_groups(entries: Sequence[SuiteEntry]) -> Iterator[Columns]:
    found = [one.cell for one in entries if one.cell is not None]
    yield _WHO
    if any(TASKS[one.recipe.task.name].chosen for one in entries):
        yield _METRIC
        if any(cell.after.metric != "exact" for cell in found):
            yield _EXACT
    yield _RESULT
    if any(one.recipe.published for one in entries):
        yield _PUBLISHED
    if any(cell.whole_after is not None and cell.whole_after != cell.after for cell in found):
        yield _WHOLE
    if any(cell.reference is not None for cell in found):
        yield _REFERENCE
    if any(cell.found is not None for cell in found):
        yield _TRUTH


def _right(entry: SuiteEntry) -> str:
    """What counts as right."""
    if isinstance(entry.recipe.strategy, Released):
        return f"answer token {entry.recipe.strategy.answer_token}"
    return NONE if entry.cell is None else METRIC_NAMES[entry.cell.after.metric]


def _removed(cell: SuiteCell) -> str:
    return f"{cell.removed:,}" + (", time was up" if cell.stopped == "time" else "")


def _control(cell: SuiteCell | None, name: str) -> str:
    """Median and range of the draws of a random control; the accuracy of one that knows no chance."""
    control = None if cell is None else cell.controls.get(name)
    if control is None:
        return NONE
    return range_text(control.accuracy) if name == DEFAULT else percent(control.median)


def _control_column(name: str) -> Column[SuiteEntry]:
    return Column(name, lambda entry: _control(entry.cell, name))


def _exact(cell: SuiteCell) -> str:
    """Exact match, where it is another accuracy."""
    before, after = (one.exact or one for one in (cell.whole_before or cell.before, cell.whole_after or cell.after))
    return f"{percent(before.accuracy)} -> {percent(after.accuracy)}"


def _whole(cell: SuiteCell) -> str | None:
    if cell.whole_before is None or cell.whole_after is None:
        return None
    return f"{percent(cell.whole_before.accuracy)} -> {figures_text(cell.whole_after)}"


def _with_shots(entry: SuiteEntry) -> str:
    reference = None if entry.cell is None else entry.cell.reference
    return NONE if reference is None else f"{entry.recipe.task.reference_shots}: {figures_text(reference)}"


def _verdict(side: str) -> Callable[[SuiteEntry], str]:
    def read(entry: SuiteEntry) -> str:
        published, cell = entry.recipe.published, entry.cell
        return NONE if published is None or cell is None else _yes(getattr(verdict(published, cell), side))

    return read


def _precision(cell: SuiteCell) -> str | None:
    hits = cell.found
    return None if hits is None or hits.precision is None else f"{hits.hits} of {hits.removed}"


def _recall(cell: SuiteCell) -> str | None:
    return None if cell.found is None else f"{cell.found.hits} of {cell.found.known}"


def _loss(figures: Figures) -> str:
    return loss_text(figures.loss, figures.loss_stderr)


def _published(published: Published) -> str:
    return f"{published.before:.2f} -> {published.after:.2f} % (n = {published.n:,})"


def _yes(said: bool) -> str:
    return "yes" if said else "no"


_CONTROLS = (DEFAULT, "smallest", "largest")
_WHO: Columns = (
    Column("model", lambda entry: entry.recipe.model.title),
    Column("task", lambda entry: entry.recipe.task.name),
    Column("strategy", lambda entry: f"{entry.recipe.strategy.name}, {entry.recipe.strategy.kinds}"),
    _of_cell("removed", _removed),
)
_METRIC: Columns = (Column("right is", _right),)
_EXACT: Columns = (_of_cell("exact match", _exact),)
_RESULT: Columns = (
    _of_cell("before", lambda cell: cell.before, figures_text),
    _of_cell("after", lambda cell: cell.after, figures_text),
    _of_cell("loss before", lambda cell: cell.before, _loss),
    _of_cell("loss after", lambda cell: cell.after, _loss),
    *map(_control_column, _CONTROLS),
)
_PUBLISHED: Columns = (
    Column("published", lambda entry: NONE if entry.recipe.published is None else _published(entry.recipe.published)),
    Column("before inside", _verdict("before_inside")),
    Column("after inside", _verdict("after_inside")),
)
_WHOLE: Columns = (_of_cell("all answer tokens", _whole),)
_REFERENCE: Columns = (
    Column("with shots", _with_shots),
    _of_cell("ability recovered", recovered, percent),
)
_TRUTH: Columns = (_of_cell("precision", _precision), _of_cell("recall", _recall))
