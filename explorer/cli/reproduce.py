"""`reproduce`: run the recipes of a table of results, and print it beside what was published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.cli import options
from explorer.cli.console import notice, percent, say, show_json, show_table, working
from explorer.core.errors import SettingsError

if TYPE_CHECKING:
    from explorer.cli.reproduce_tables import Entry
    from explorer.experiments.reproduce.cells import CellStore
    from explorer.experiments.reproduce.suites import Suite

INCOMPLETE = 3
What = Annotated[
    str | None,
    typer.Argument(metavar="SUITE", help="A suite, a recipe (.toml) or a folder of them; the suites if left out."),
]
Local = Annotated[
    list[str] | None,
    typer.Option(
        "--local",
        metavar="NAME=PLACE",
        help="Take a recipe's model, by name or source, from a folder or .gguf file; may be given several times.",
    ),
]


def reproduce(
    what: What = None,
    model: Annotated[str | None, typer.Option("--model", help="Only the recipes of this model.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="Only the recipes of this task.")] = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", help="Only the recipes of this strategy, such as as-released.")
    ] = None,
    data: options.Data = None,
    local: Local = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the results; one in the workspace if not given.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is there already.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Run nothing, print the results that are there.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table in Markdown.")] = False,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Run a suite of recipes, each as it says, and print the results beside their controls and what was published.

    Every cell is kept as soon as it is measured: a suite that was stopped goes on, and --show prints the table again.
    Models and data that cannot be had are listed with how to get them, the other cells run. Exit codes: 0 every cell is
    there; 3 some could not be had, or refused their recipe; the others as everywhere.

    Keys of --json: suite, folder, missing (how many), cells: each with recipe, model, source, task, strategy, kinds,
    status (measured, kept, missing), reason, published, verdict (of the published before and after: inside our 95 %
    interval, within the recipe's tolerance), recovered, precision, recall, cell (what its file holds). Without SUITE:
    suites.

    Example: `eigenprune reproduce bundled`
    """
    from explorer.experiments.reproduce.cells import CellStore
    from explorer.experiments.reproduce.suites import find_suite

    if what is None:
        return _list(json=json)
    if json and markdown:
        raise SettingsError("--json and --markdown are two ways to print the table: give one of them.")
    suite = find_suite(what)
    places = _places(local or [], suite)
    chosen = suite.only(model, task, strategy)
    store = suite.store if out is None else CellStore(out)
    entries = _stored(chosen, store) if show else _run(chosen, store, places, data, device, fresh=fresh, quiet=json)
    _print(chosen, store, entries, markdown=markdown, json=json)
    if not show and any(one.cell is None for one in entries):
        raise typer.Exit(INCOMPLETE)


def _list(*, json: bool) -> None:
    from explorer.experiments.reproduce.suites import suites

    found = [
        {
            "name": one.name,
            "cells": len(one.recipes),
            "here": sum(one.store.load(recipe) is not None for recipe in one.recipes),
            "models": list(dict.fromkeys(recipe.model.name for recipe in one.recipes)),
            "tasks": list(dict.fromkeys(recipe.task.name for recipe in one.recipes)),
            "folder": str(one.store.folder),
        }
        for one in suites()
    ]
    if json:
        return show_json({"suites": found})
    show_table(
        "Suites",
        ("suite", "cells", "measured", "models", "tasks"),
        [
            (one["name"], one["cells"], one["here"], ", ".join(one["models"]), ", ".join(one["tasks"]))  # type: ignore[arg-type]
            for one in found
        ],
    )
    say("Run one: eigenprune reproduce SUITE. Your own recipes: eigenprune reproduce FILE.toml, or a folder of them.")


def _places(given: Sequence[str], suite: Suite) -> dict[str, str]:
    """Model places by name, from NAME=PLACE."""
    models = [recipe.model for recipe in suite.recipes]
    names = sorted({model.name for model in models} | {model.source for model in models})
    found = {}
    for text in given:
        name, sign, place = text.partition("=")
        if not sign or not place or name not in names:
            raise SettingsError(
                f"--local {text[:80]!r} cannot be used: give NAME=PLACE with one of {', '.join(names)}."
            )
        found[name] = place
    return found


def _stored(suite: Suite, store: CellStore) -> list[Entry]:
    from explorer.cli.reproduce_tables import Entry

    cells = [(recipe, store.load(recipe)) for recipe in suite.recipes]
    unknown = "not measured yet, or its recipe has changed since."
    return [Entry(recipe, cell, None if cell else unknown, kept=cell is not None) for recipe, cell in cells]


def _run(
    suite: Suite,
    store: CellStore,
    places: dict[str, str],
    data: Path | None,
    device: str | None,
    *,
    fresh: bool,
    quiet: bool,
) -> list[Entry]:
    from explorer.cli.reproduce_tables import Entry
    from explorer.experiments.reproduce.models import Models
    from explorer.experiments.reproduce.run import Runner, check, in_order
    from explorer.search.journal import default_journals
    from explorer.spectra.cache import default_cache

    check(suite.recipes)
    store.check_writable()
    models = Models(store.folder / "models", places, device)
    runner = Runner(store, models, default_cache(notice), journals=default_journals(notice), data=data, fresh=fresh)
    found = {}
    for number, recipe in enumerate(in_order(suite.recipes), start=1):
        with working(f"{recipe.name} ({number} of {len(suite.recipes)})") as progress:
            outcome = runner.run(recipe, progress)
        if outcome.cell is not None and not outcome.kept and not quiet:
            before, after = (percent(one.accuracy) for one in (outcome.cell.before, outcome.cell.after))
            notice(f"{recipe.name}: {before} -> {after}")
        found[recipe.name] = Entry(recipe, outcome.cell, outcome.reason, outcome.kept)
    return [found[recipe.name] for recipe in suite.recipes]


def _print(suite: Suite, store: CellStore, entries: Sequence[Entry], *, markdown: bool, json: bool) -> None:
    from explorer.cli import reproduce_tables as tables

    missing = sum(one.cell is None for one in entries)
    if json:
        cells = [one.as_dict() for one in entries]
        return show_json({"suite": suite.name, "folder": str(store.folder), "missing": missing, "cells": cells})
    if markdown:
        for line in tables.reasons(entries):
            notice(line)
        return say("\n\n".join([tables.markdown(tables.rows(entries)), *tables.places(entries)]))
    if missing < len(entries):
        for title, found in tables.sections(tables.rows(entries), suite.name):
            show_table(title, tuple(found[0]), [tuple(row.values()) for row in found])
    for line in (*tables.places(entries), *tables.reasons(entries)):
        say(line)
    say(f"{len(entries) - missing:,} of {len(entries):,} cells are in {store.folder}")
