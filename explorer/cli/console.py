"""What reaches the terminal: results on stdout, everything else (progress, notices, errors) on stderr."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from statistics import median
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from explorer.core.progress import Progress
from explorer.core.texts import accuracy_text, loss_text, percent, spread_text
from explorer.tasks.metric import METRIC_NAMES, RULE_OF, accuracy_name


def notice(message: str) -> None:
    """One line for the user beside the result."""
    typer.echo(message, err=True)


def say(message: str = "") -> None:
    """One line of the result, not wrapped, so that commands and paths in it can be copied."""
    typer.echo(message)


def model_name(text: str) -> str:
    """A model's name in full, from its short name or from where its weights came from."""
    from explorer.models import full_name  # reads what needs torch

    return full_name(text)


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; numbers on the right, and no cell is read as markup."""
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    listed = [list(row) for row in rows]
    for position, column in enumerate(columns):
        numeric = bool(listed) and all(isinstance(row[position], int | float) for row in listed)
        table.add_column(Text(column), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in listed:
        table.add_row(*(Text(_cell(value)) for value in row))
    Console().print(table)


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@contextmanager
def working(what: str) -> Iterator[Progress]:
    """Show a progress bar while long work runs; what libraries print goes to stderr."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with (
        redirect_stdout(sys.stderr),
        Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def losses_text(losses: Sequence[float]) -> str:
    """The median of some losses and their range, such as `5.548 nats (5.1 to 6.0)`; without those not finite."""
    known = [loss for loss in losses if math.isfinite(loss)]
    if not known:
        return "not finite"
    more = f", {len(losses) - len(known)} not finite" if len(known) < len(losses) else ""
    return f"{median(known):.3f} nats ({min(known):.3f} to {max(known):.3f}{more})"


def figures_row(name: str, figures: Mapping[str, Any]) -> tuple[str, str, str]:
    """Name, accuracy and loss of one evaluation, whose figures have the keys of `Evaluation.as_dict`."""
    accuracy = accuracy_text(figures["accuracy"], figures["accuracy_interval"], figures["n"])
    return name, accuracy, loss_text(figures["loss"], figures["loss_stderr"])


def show_figures(title: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """A table of evaluations by name, whose figures have the keys of `Evaluation.as_dict`.

    Where there are choices, the accuracy says what it counts, and exact match, or the choice, stands beside it.
    """
    first = rows[0][1]
    if not first.get("choice"):
        columns = ("", "accuracy [95 % interval]", "loss per example")
        return show_table(title, columns, [figures_row(name, figures) for name, figures in rows])
    other = "choice" if first["metric"] == "exact" else "exact"
    found = []
    for name, figures in rows:
        _, accuracy, loss = figures_row(name, figures)
        found.append((name, accuracy, percent(_by(figures, other)["accuracy"]), loss))
    headline = f"{accuracy_name(first['metric'], choices=True)}\n[95 % interval]"
    show_table(title, ("", headline, METRIC_NAMES[other].replace(" ", "\n"), "loss per example"), found)
    say(
        f"Guessing among the choices gives {percent(first['guessing'])}, always the most frequent answer "
        f"{percent(first['majority'])}."
    )


def _by(figures: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    """The accuracy by a metric, of figures with choices."""
    found: Mapping[str, Any] = figures["exact"] if metric == "exact" else figures["choice"][RULE_OF[metric]]
    return found


def points_text(value: float, stderr: float) -> str:
    """A change of a share, such as `+12.5 ± 3.1 percentage points`."""
    return f"{100 * value:+.1f} ± {spread_text(100 * stderr, 1)} percentage points"
