"""The tables of `reproduce`: published beside measured, or one row per strategy; as text, Markdown or plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from explorer.cli.console import accuracy_text, loss_text, percent, range_text
from explorer.experiments.reproduce.cells import Cell, Control, Figures
from explorer.experiments.reproduce.entries import SuiteEntry
from explorer.experiments.reproduce.recipe import Published, Recipe, Released
from explorer.experiments.reproduce.verdict import recovered, verdict
from explorer.search.controls import DEFAULT
from explorer.tasks import TASKS
from explorer.tasks.metric import METRIC_NAMES

NONE = "-"
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


def rows(entries: Sequence[SuiteEntry]) -> list[Row]:
    """Rows that all have the same columns: side by side where values were published, else one row per cell."""
    paired = _pairs(entries)
    return [_strategy_row(one, entries) for one in entries] if paired is None else [_pair_row(*pair) for pair in paired]


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


def _elsewhere(entry: SuiteEntry) -> bool:
    return entry.cell is not None and entry.cell.source != entry.recipe.model.located


def markdown(table: Sequence[Row]) -> str:
    """The table in Markdown, without a model or task that all rows share."""
    columns = [name for name in table[0] if name not in _shared(table)]
    lines = [columns, ["---"] * len(columns), *([row[name] for name in columns] for row in table)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _pairs(entries: Sequence[SuiteEntry]) -> list[tuple[SuiteEntry | None, SuiteEntry | None]] | None:
    """As released and corrected by model and task; None if nothing was published, or there are more than these two."""
    groups: dict[tuple[str, str], dict[bool, SuiteEntry]] = {}
    for one in entries:
        group = groups.setdefault((one.recipe.model.name, one.recipe.task.name), {})
        if one.recipe.published is None or one.recipe.released in group:
            return None
        group[one.recipe.released] = one
    return [(group.get(True), group.get(False)) for group in groups.values()]


def _pair_row(released: SuiteEntry | None, corrected: SuiteEntry | None) -> Row:
    recipe = (released or corrected).recipe  # type: ignore[union-attr]
    assert recipe.published is not None
    old, new = (None if one is None else one.cell for one in (released, corrected))
    base = old or new  # as published: the released measure, if it is there
    row = {
        "model": recipe.model.title,
        "task": recipe.task.name,
        "published": _published(recipe.published),
        "before": NONE if base is None else _accuracy(base.before),
        "as released": _after(old, base),
        "corrected": _after(new, base),
        "controls, as released": _controls(old),
        "controls, corrected": _controls(new),
        "before inside": NONE if base is None else _yes(verdict(recipe.published, base).before_inside),
    }
    for name, cell in (("as released inside", old), ("corrected inside", new)):
        row[name] = NONE if cell is None else _yes(verdict(recipe.published, cell).after_inside)
    return row


def _after(cell: Cell | None, base: Cell | None) -> str:
    """The accuracy after; with the one before where that was counted otherwise than the row's."""
    if cell is None or base is None:
        return NONE
    front = "" if cell.before.accuracy == base.before.accuracy else f"{percent(cell.before.accuracy)} -> "
    return front + _accuracy(cell.after)


def _strategy_row(entry: SuiteEntry, entries: Sequence[SuiteEntry]) -> Row:
    recipe, cell = entry.recipe, entry.cell
    cells = [one.cell for one in entries if one.cell is not None]
    row = {
        "model": recipe.model.title,
        "task": recipe.task.name,
        "strategy": f"{recipe.strategy.name}, {recipe.strategy.kinds}",
        "removed": NONE if cell is None else f"{cell.removed:,}" + (", time was up" if cell.stopped == "time" else ""),
        **_metric_columns(recipe, cell, entries),
        "before": NONE if cell is None else _accuracy(cell.before),
        "after": NONE if cell is None else _accuracy(cell.after),
        "loss before": NONE if cell is None else _loss(cell.before),
        "loss after": NONE if cell is None else _loss(cell.after),
        **_control_columns(cell),
    }
    if any(one.recipe.published for one in entries):
        row |= _published_columns(recipe.published, cell)
    if any(one.whole_after is not None and one.whole_after != one.after for one in cells):
        row["all answer tokens"] = _whole(cell)
    if any(one.reference is not None for one in cells):
        row |= _reference_columns(recipe, cell)
    if any(one.found is not None for one in cells):
        row |= _truth_columns(cell)
    return row


def _metric_columns(recipe: Recipe, cell: Cell | None, entries: Sequence[SuiteEntry]) -> Row:
    """What counts as right, where a task of the table has choices, and exact match where it is another accuracy."""
    if not any(TASKS[one.recipe.task.name].chosen for one in entries):
        return {}
    said = NONE if cell is None else METRIC_NAMES[cell.after.metric]
    if isinstance(recipe.strategy, Released):
        said = f"answer token {recipe.strategy.answer_token}"
    found = {"right is": said}
    if any(one.cell is not None and one.cell.after.metric != "exact" for one in entries):
        found["exact match"] = NONE if cell is None else _exact(cell)
    return found


def _exact(cell: Cell) -> str:
    before, after = (one.exact or one for one in (cell.whole_before or cell.before, cell.whole_after or cell.after))
    return f"{percent(before.accuracy)} -> {percent(after.accuracy)}"


def _published_columns(published: Published | None, cell: Cell | None) -> Row:
    found = None if published is None or cell is None else verdict(published, cell)
    return {
        "published": NONE if published is None else _published(published),
        "before inside": NONE if found is None else _yes(found.before_inside),
        "after inside": NONE if found is None else _yes(found.after_inside),
    }


def _reference_columns(recipe: Recipe, cell: Cell | None) -> Row:
    reference = None if cell is None else cell.reference
    share = None if cell is None else recovered(cell)
    shots = recipe.task.reference_shots
    return {
        "with shots": NONE if reference is None else f"{shots}: {_accuracy(reference)}",
        "ability recovered": NONE if share is None else percent(share),
    }


def _truth_columns(cell: Cell | None) -> Row:
    found = None if cell is None else cell.found
    precision = None if found is None else found.precision
    return {
        "precision": NONE if found is None or precision is None else f"{found.hits} of {found.removed}",
        "recall": NONE if found is None else f"{found.hits} of {found.known}",
    }


def _whole(cell: Cell | None) -> str:
    if cell is None or cell.whole_before is None or cell.whole_after is None:
        return NONE
    return f"{percent(cell.whole_before.accuracy)} -> {_accuracy(cell.whole_after)}"


def _control_columns(cell: Cell | None) -> Row:
    """Median and range of the random masks with as many values in each matrix, and the two masks without chance."""
    controls: Mapping[str, Control] = {} if cell is None else cell.controls
    found = {DEFAULT: NONE, "smallest": NONE, "largest": NONE}
    if DEFAULT in controls:
        found[DEFAULT] = range_text(controls[DEFAULT].accuracy)
    return found | {name: percent(controls[name].median) for name in ("smallest", "largest") if name in controls}


def _controls(cell: Cell | None) -> str:
    said = [f"{name.split()[0]} {text}" for name, text in _control_columns(cell).items() if text != NONE]
    return ", ".join(said) or NONE


def _published(published: Published) -> str:
    return f"{published.before:.2f} -> {published.after:.2f} % (n = {published.n:,})"


def _accuracy(figures: Figures) -> str:
    return accuracy_text(figures.accuracy, figures.accuracy_interval, figures.n)


def _loss(figures: Figures) -> str:
    missing = float("nan")
    loss, stderr = (missing if value is None else value for value in (figures.loss, figures.loss_stderr))
    return loss_text(loss, stderr)


def _yes(said: bool) -> str:
    return "yes" if said else "no"
