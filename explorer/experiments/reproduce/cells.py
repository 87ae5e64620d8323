"""Cells: what one recipe gave, kept as a JSON file each, whole or absent, so that a stopped suite goes on."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from explorer.core.errors import SettingsError
from explorer.core.files import write_text
from explorer.core.finite import plain
from explorer.experiments.reproduce.recipe import Recipe
from explorer.masks.mask import Mask
from explorer.search.controls import by_today
from explorer.tasks.metric import Metric, Rule

SCHEMA_VERSION: Literal[1] = 1
Share = Annotated[float, Field(ge=0, le=1)]
_Pair = Annotated[tuple[Share, Share], Field(strict=False)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Accuracy(_Frozen):
    """A share of examples with its 95 % Wilson interval."""

    n: int = Field(ge=1)
    accuracy: Share
    accuracy_interval: _Pair


class Figures(_Frozen):
    """One evaluation: accuracy as a share with its 95 % Wilson interval, loss in nats per example.

    A loss or a spread that is not a number is None. Cells of earlier versions have no metric: theirs is exact match.
    `exact`, and by rule `choice`, are the accuracies whatever the metric is; `guessing` and `majority` are what blind
    guessing and always the most frequent answer give. They are None without choices, and in earlier cells.
    """

    n: int = Field(ge=1)
    metric: Metric = "exact"
    accuracy: Share
    accuracy_interval: _Pair
    loss: float | None
    loss_stderr: float | None
    not_finite: int = Field(default=0, ge=0, exclude_if=lambda count: not count)
    exact: Accuracy | None = None
    choice: dict[Rule, Accuracy] | None = None
    guessing: Share | None = None
    majority: Share | None = None

    @classmethod
    def of(cls, figures: dict[str, Any]) -> Figures:
        """From `Evaluation.as_dict`."""
        return cls.model_validate(plain(figures))


class Percentile(_Frozen):
    """Percent of a control's draws that the mask beats."""

    accuracy: float
    loss: float


class Control(_Frozen):
    """One control of the mask on the same examples: accuracies and losses of its draws."""

    draws: int
    accuracy: list[Share]
    loss: list[float | None]
    percentile: Percentile

    @property
    def median(self) -> float:
        """Median accuracy."""
        return median(self.accuracy)


class Found(_Frozen):
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


class Cell(_Frozen):
    """The result of one recipe.

    Attributes:
        recipe_digest: of the recipe that was run; another digest means that the recipe has changed.
        source: the model that was loaded, as it was asked for.
        dtype: type that it was loaded in.
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
    basis: Literal["raw", "folded"]
    dtype: str | None = None
    task_digest: str
    removed: int
    mask_digest: str
    before: Figures
    after: Figures
    whole_before: Figures | None = None
    whole_after: Figures | None = None
    averaged: Figures | None = None
    controls: dict[str, Control]
    reference: Figures | None = None
    found: Found | None = None
    stopped: str = ""
    forwards: int
    seconds: float
    versions: dict[str, str]

    @field_validator("controls", mode="before")
    @classmethod
    def _renamed(cls, controls: Any) -> Any:
        return by_today(controls)


@dataclass(frozen=True)
class CellStore:
    """The cells of one suite in a folder: NAME.json, and NAME.mask.json for those who want the mask."""

    folder: Path

    def path(self, recipe: Recipe) -> Path:
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

    def load(self, recipe: Recipe) -> Cell | None:
        """The cell of exactly this recipe; None if there is none, it cannot be read, or the recipe has changed."""
        try:
            cell = Cell.model_validate(json.loads(self.path(recipe).read_text(encoding="utf-8")))
        except (OSError, ValueError, ValidationError, RecursionError):
            return None
        return cell if cell.recipe_digest == recipe.digest else None

    def save(self, recipe: Recipe, cell: Cell, mask: Mask) -> None:
        """Keep a finished cell; the cell comes last, so that where it is, the mask is."""
        mask.save(self.folder / f"{recipe.name}.mask.json")
        write_text(self.path(recipe), json.dumps(plain(cell.model_dump(mode="json")), indent=2) + "\n")
