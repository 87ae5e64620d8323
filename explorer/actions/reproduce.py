"""`reproduce`: run the recipes of a table of results, and print it beside what was published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from explorer.actions.choices import Cluster, DataFolder, Device
from explorer.actions.clusters import Executors, check_cluster, workers
from explorer.actions.request import ALONE, Arg, Request, Result, Tools
from explorer.core.errors import SettingsError

if TYPE_CHECKING:
    from explorer.experiments.reproduce.cells import CellStore
    from explorer.experiments.reproduce.entries import SuiteEntry
    from explorer.experiments.reproduce.recipe import SuiteRecipe
    from explorer.experiments.reproduce.run import RecipeOutcome, Runner
    from explorer.experiments.reproduce.suites import Suite

INCOMPLETE = 3


@dataclass(frozen=True)
class SuitesResult(Result):
    """The suites: name, cells, here (how many are measured), models, tasks, folder."""

    suites: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ReproduceResult(Result):
    """The cells of a suite; `missing` of them could not be had, or refused their recipe.

    Attributes:
        complete: whether a missing cell is bad news: not if nothing was run.
    """

    suite: str
    folder: Path
    entries: Sequence[SuiteEntry]
    complete: bool

    @property
    def missing(self) -> int:
        """How many cells are not there."""
        return sum(one.cell is None for one in self.entries)

    @property
    def exit_code(self) -> int:
        """3 if cells that were asked for are not there."""
        return INCOMPLETE if self.complete and self.missing else 0

    def as_dict(self) -> dict[str, Any]:
        """The cells as plain values."""
        cells = [one.as_dict() for one in self.entries]
        return {"suite": self.suite, "folder": str(self.folder), "missing": self.missing, "cells": cells}


@dataclass(frozen=True, kw_only=True)
class Reproduce(Request):
    """Run a suite of recipes, each as it says, and print the results beside their controls and what was published.

    Every cell is kept as soon as it is measured: a suite that was stopped goes on, and --show prints the table again.
    Models and data that cannot be had are listed with how to get them, the other cells run. With --cluster each recipe
    is run whole by one worker; one that was stopped is run anew. Exit codes: 0 every cell is
    there; 3 some could not be had, or refused their recipe; the others as everywhere.

    Keys of --json: suite, folder, missing (how many), cells: each with recipe, model, source, task, strategy, kinds,
    status (measured, kept, missing), reason, published, verdict (of the published before and after: inside our 95 %
    interval, within the recipe's tolerance), recovered, precision, recall, cell (what its file holds). Without SUITE:
    suites.

    Example: `eigenprune reproduce bundled`
    """

    command: ClassVar[str] = "reproduce"

    suite: Annotated[
        str | None, Arg("A suite, a recipe (.toml) or a folder of them; the suites if left out.", positional=True)
    ] = None
    model: Annotated[str | None, Arg("Only the recipes of this model.")] = None
    task: Annotated[str | None, Arg("Only the recipes of this task.")] = None
    strategy: Annotated[str | None, Arg("Only the recipes of this strategy, such as as-released.")] = None
    data: DataFolder = None
    local: Annotated[
        tuple[str, ...],
        Arg(
            "NAME=PLACE: take a recipe's model, by name or source, from a folder or .gguf file; may be given several "
            "times."
        ),
    ] = ()
    out: Annotated[Path | None, Arg("Folder of the results; one in the workspace if not given.")] = None
    fresh: Annotated[bool, Arg("Measure again what is there already.")] = False
    show: Annotated[bool, Arg("Run nothing, print the results that are there.")] = False
    markdown: Annotated[bool, Arg("Print the table in Markdown.")] = False
    device: Device = None
    cluster: Cluster = None

    def run(self, tools: Tools = ALONE) -> SuitesResult | ReproduceResult:
        """Run the recipes, or list the suites.

        Raises:
            SettingsError: no such suite or place, or results that cannot be written.
        """
        from explorer.experiments.reproduce.cells import CellStore
        from explorer.experiments.reproduce.suites import find_suite

        if self.suite is None:
            return _suites()
        suite = find_suite(self.suite)
        places = self._places(suite)
        chosen = suite.only(self.model, self.task, self.strategy)
        store = suite.store if self.out is None else CellStore(self.out)
        entries = _stored(chosen, store) if self.show else self._run(chosen, store, places, tools=tools)
        return ReproduceResult(chosen.name, store.folder, entries, complete=not self.show)

    def check_json(self) -> None:
        """Refuse two ways to print the table at once."""
        if self.markdown:
            raise SettingsError("--json and --markdown are two ways to print the table: give one of them.")

    def _places(self, suite: Suite) -> dict[str, str]:
        """Model places by name, from NAME=PLACE."""
        models = [recipe.model for recipe in suite.recipes]
        names = sorted({model.name for model in models} | {model.source for model in models})
        found = {}
        for text in self.local:
            name, sign, place = text.partition("=")
            if not sign or not place or name not in names:
                raise SettingsError(
                    f"--local {text[:80]!r} cannot be used: give NAME=PLACE with one of {', '.join(names)}."
                )
            found[name] = place
        return found

    def _run(self, suite: Suite, store: CellStore, places: dict[str, str], tools: Tools) -> list[SuiteEntry]:
        from explorer.experiments.reproduce.entries import SuiteEntry
        from explorer.experiments.reproduce.models import Models
        from explorer.experiments.reproduce.run import Runner, check, in_order
        from explorer.search.journal import default_journals
        from explorer.spectra.cache import default_cache

        check(suite.recipes)
        store.check_writable()
        check_cluster(self.cluster)
        models = Models(store.folder / "models", places, self.device)
        journals = default_journals(tools.notice)
        runner = Runner(store, models, default_cache(tools.notice), journals=journals, data=self.data, fresh=self.fresh)
        found = {}
        with workers(self.cluster, self.device, tools) as executors:
            for outcome in self._outcomes(runner, in_order(suite.recipes), places, executors=executors, tools=tools):
                recipe = outcome.recipe
                if outcome.cell is not None and not outcome.kept:
                    before, after = (f"{100 * one.accuracy:.1f} %" for one in (outcome.cell.before, outcome.cell.after))
                    tools.remark(f"{recipe.name}: {before} -> {after}")
                found[recipe.name] = SuiteEntry(recipe, outcome.cell, outcome.reason, kept=outcome.kept)
        return [found[recipe.name] for recipe in suite.recipes]

    def _outcomes(
        self,
        runner: Runner,
        recipes: Sequence[SuiteRecipe],
        places: dict[str, str],
        *,
        executors: Executors | None,
        tools: Tools,
    ) -> Iterator[RecipeOutcome]:
        """What recipes come to: one after the other, or as workers have them."""
        if executors is None:
            for number, recipe in enumerate(recipes, start=1):
                with tools.working(f"{recipe.name} ({number} of {len(recipes)})") as progress:
                    outcome = runner.run(recipe, progress)
                yield outcome
            return
        from explorer.experiments.reproduce.recipe_cells import SuiteSubject, run_by

        at = {name: str(Path(place).resolve()) if Path(place).exists() else place for name, place in places.items()}
        data = None if self.data is None else str(self.data.resolve())
        with tools.working(f"{len(recipes)} recipes") as progress:
            yield from run_by(executors(SuiteSubject(at, self.device, data)), runner, recipes, progress=progress)


def _suites() -> SuitesResult:
    from explorer.experiments.reproduce.suites import suites

    return SuitesResult(
        [
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
    )


def _stored(suite: Suite, store: CellStore) -> list[SuiteEntry]:
    from explorer.experiments.reproduce.entries import SuiteEntry

    cells = [(recipe, store.load(recipe)) for recipe in suite.recipes]
    unknown = "not measured yet, or its recipe has changed since."
    return [SuiteEntry(recipe, cell, None if cell else unknown, kept=cell is not None) for recipe, cell in cells]
