"""Recipes as cells: each is measured whole by one worker; only who asks keeps what comes back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from explorer.core.config import settings
from explorer.core.errors import ExplorerError
from explorer.core.executor import Executor, Machine, Plain, Subject, WorkCell
from explorer.core.progress import Progress
from explorer.experiments.reproduce.cells import CellStore, parse_cell
from explorer.experiments.reproduce.models import Models
from explorer.experiments.reproduce.recipe import SuiteRecipe
from explorer.experiments.reproduce.run import RecipeOutcome, Runner
from explorer.masks.mask import parse_mask
from explorer.measure.opened import device_name
from explorer.spectra.cache import default_cache


@dataclass(frozen=True, eq=False)
class OpenedSuite:
    """What recipes are run by; fine-tuned models lie in a folder that goes with it."""

    runner: Runner
    machine: Machine
    folder: tempfile.TemporaryDirectory[str]


@dataclass(frozen=True)
class SuiteSubject(Subject):
    """Where recipes find what they name; the same places on every machine.

    Attributes:
        local: models' places by name.
        device: torch device; the machine's own setting if None.
        data: folder of the data of tasks that need it.
    """

    one_machine: ClassVar[bool] = False  # each cell says what it was measured on

    local: Mapping[str, str]
    device: str | None
    data: str | None

    def open(self) -> OpenedSuite:
        """A runner that keeps nothing."""
        folder = tempfile.TemporaryDirectory(prefix="eigenprune-")
        models = Models(Path(folder.name) / "models", self.local, self.device)
        data = None if self.data is None else Path(self.data)
        runner = Runner(CellStore(Path(folder.name)), models, default_cache(lambda sentence: None), data=data)
        device = device_name(torch.device(self.device or settings().device))
        return OpenedSuite(runner, Machine(device, "as each recipe says"), folder)


@dataclass(frozen=True)
class RecipeCell(WorkCell[OpenedSuite]):
    """One recipe."""

    recipe: SuiteRecipe

    def run(self, opened: OpenedSuite, progress: Progress | None = None) -> Plain:
        """`cell` and `mask` as the text of their files, or the `reason` why there are none."""
        try:
            cell, mask = opened.runner.measure(self.recipe, progress)
        except ExplorerError as error:
            return {"reason": str(error)}
        return {"cell": cell.to_json(), "mask": mask.to_json()}


def run_by(
    executor: Executor, runner: Runner, recipes: Sequence[SuiteRecipe], progress: Progress | None = None
) -> Iterator[RecipeOutcome]:
    """The outcomes of recipes as they come: those that are kept, then those that an executor measures.

    Args:
        executor: of a `SuiteSubject`.
        runner: which has the store.
        recipes: each of another name.
        progress: told (done, total) of those that are measured.
    """
    missing = {}
    for recipe in recipes:
        try:
            cell = runner.kept(recipe)
        except ExplorerError as error:
            yield RecipeOutcome(recipe, reason=str(error))
            continue
        if cell is None:
            missing[RecipeCell(recipe).digest] = recipe
        else:
            yield RecipeOutcome(recipe, cell, kept=True)
    cells = [RecipeCell(recipe) for recipe in missing.values()]
    for digest, answer in executor.map_unordered(cells, progress):
        recipe, values = missing[digest], answer.values
        if "reason" in values:
            yield RecipeOutcome(recipe, reason=values["reason"])
        else:
            yield runner.keep(recipe, parse_cell(values["cell"]), parse_mask(values["mask"]))
