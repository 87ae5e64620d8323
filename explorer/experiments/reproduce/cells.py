"""Cells: what one recipe gave, kept as a JSON file each, whole or absent, so that a stopped suite goes on."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from explorer.core.errors import SettingsError
from explorer.core.files import write_text
from explorer.core.written import JsonRecord
from explorer.experiments.reproduce.recipe import SuiteRecipe
from explorer.masks.mask import Mask
from explorer.measure.figures import Figures
from explorer.search.report_file import Controls

SCHEMA_VERSION: Literal[1] = 1


@dataclass(frozen=True, kw_only=True)
class HarmfulHits(JsonRecord):
    """How many of the values that are known to harm were removed."""

    hits: int
    removed: int
    known: int

    @property
    def precision(self) -> float | None:
        """Share of the removed values that are known to harm; None if nothing was removed."""
        return self.hits / self.removed if self.removed else None

    @property
    def recall(self) -> float:
        """Share of the values known to harm that were removed."""
        return self.hits / self.known


@dataclass(frozen=True, kw_only=True)
class SuiteCell(JsonRecord):
    """The result of one recipe.

    Attributes:
        recipe_digest: of the recipe that was run; another digest means that the recipe has changed.
        source: the model that was loaded, as it was asked for.
        dtype: type that it was loaded in.
        device: what it was measured on, `cpu` or the name of a GPU; None in cells of before.
        before, after: the unpruned and the pruned model on the test examples. In a cell as released, right means token
            `answer_token` of the answer; otherwise all answer tokens count.
        whole_before, whole_after: a cell as released with all answer tokens counted.
        averaged: a cell as released that removes values of O: with one frozen mean for each of those instead of one per
            position, like `after`.
        reference: the unpruned model with `reference_shots` examples in front, all answer tokens.
        seconds: until the mask was found.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    recipe: str
    recipe_digest: str
    source: str
    model_digest: str
    basis: Literal["raw", "folded", "delta"]
    dtype: str | None = None
    device: str | None = None
    task_digest: str
    removed: int
    mask_digest: str
    before: Figures
    after: Figures
    whole_before: Figures | None = None
    whole_after: Figures | None = None
    averaged: Figures | None = None
    controls: Controls
    reference: Figures | None = None
    found: HarmfulHits | None = None
    stopped: str = ""
    forwards: int
    seconds: float
    versions: Mapping[str, str]

    def for_entry(self) -> dict[str, Any]:
        """The fields beside a recipe's: without its name and the version of the file."""
        return {name: value for name, value in self.as_dict().items() if name not in ("recipe", "schema_version")}


_READ = TypeAdapter(SuiteCell)


def parse_cell(text: str) -> SuiteCell:
    """The cell that `SuiteCell.to_json` wrote; raises ValueError for anything else."""
    return _READ.validate_json(text)


@dataclass(frozen=True)
class CellStore:
    """The cells of one suite in a folder: NAME.json, and NAME.mask.json for those who want the mask."""

    folder: Path

    def path(self, recipe: SuiteRecipe) -> Path:
        """Where a recipe's cell is kept."""
        return self.folder / f"{recipe.name}.json"

    def check_writable(self) -> None:
        """Raise SettingsError unless cells can be kept here, before anything slow begins."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise SettingsError(f"{self.folder} cannot be written ({error.strerror}): choose another --out.") from None

    def load(self, recipe: SuiteRecipe) -> SuiteCell | None:
        """The cell of exactly this recipe; None if there is none, it cannot be read, or the recipe has changed."""
        try:
            cell = parse_cell(self.path(recipe).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return cell if cell.recipe_digest == recipe.digest else None

    def save(self, recipe: SuiteRecipe, cell: SuiteCell, mask: Mask) -> None:
        """Keep a finished cell; the cell comes last, so that where it is, the mask is."""
        mask.save(self.folder / f"{recipe.name}.mask.json")
        write_text(self.path(recipe), cell.to_json(indent=2))
