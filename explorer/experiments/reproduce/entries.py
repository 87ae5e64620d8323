"""What running a suite came to: one entry per recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.experiments.reproduce.cells import SuiteCell
from explorer.experiments.reproduce.recipe import SuiteRecipe
from explorer.experiments.reproduce.verdict import recovered, verdict


@dataclass(frozen=True)
class SuiteEntry:
    """One recipe of a table with its cell, or why there is none; `kept` says that it was there already."""

    recipe: SuiteRecipe
    cell: SuiteCell | None
    reason: str | None = None
    kept: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; see the help of `reproduce`."""
        recipe, cell, published = self.recipe, self.cell, self.recipe.published
        found = None if cell is None else cell.found
        status = "missing" if cell is None else "kept" if self.kept else "measured"
        return {
            "recipe": recipe.name,
            "model": recipe.model.name,
            "source": recipe.model.located,
            "task": recipe.task.name,
            "strategy": recipe.strategy.name,
            "kinds": recipe.strategy.kinds,
            "status": status,
            "reason": self.reason,
            "published": None if published is None else published.model_dump(),
            "verdict": None if published is None or cell is None else verdict(published, cell).as_dict(),
            "recovered": None if cell is None else recovered(cell),
            "precision": None if found is None else found.precision,
            "recall": None if found is None else found.recall,
            "cell": None if cell is None else cell.for_entry(),
        }
