"""`reproduce` for people: the table of a suite, as text or in Markdown."""

from __future__ import annotations

from explorer.actions.reproduce import Reproduce, ReproduceResult, SuitesResult
from explorer.cli.console import notice, say, show_table


def show(request: Reproduce, result: SuitesResult | ReproduceResult) -> None:
    """Print the table, or the suites."""
    if isinstance(result, SuitesResult):
        return _show_suites(result)
    from explorer.cli import reproduce_tables as tables  # reads what needs torch
    from explorer.experiments.reproduce.columns import suite_rows

    entries, rows = result.entries, suite_rows(result.entries)
    if request.markdown:
        for line in tables.reasons(entries):
            notice(line)
        return say("\n\n".join([tables.markdown(rows), *tables.places(entries), *tables.machines(entries)]))
    if result.missing < len(entries):
        for title, found in tables.sections(rows, result.suite):
            show_table(title, tuple(found[0]), [tuple(row.values()) for row in found])
    for line in (*tables.places(entries), *tables.machines(entries), *tables.reasons(entries)):
        say(line)
    say(f"{len(entries) - result.missing:,} of {len(entries):,} cells are in {result.folder}")


def _show_suites(result: SuitesResult) -> None:
    show_table(
        "Suites",
        ("suite", "cells", "measured", "models", "tasks"),
        [
            (one["name"], one["cells"], one["here"], ", ".join(one["models"]), ", ".join(one["tasks"]))
            for one in result.suites
        ],
    )
    say("Run one: eigenprune reproduce SUITE. Your own recipes: eigenprune reproduce FILE.toml, or a folder of them.")
