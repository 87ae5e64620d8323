"""Suites: folders of recipes. Those that come with the explorer have a name; any folder or single file is one, too."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from explorer.core.config import ASSETS, settings
from explorer.core.errors import SettingsError
from explorer.core.files import digest, typed_path
from explorer.experiments.reproduce.cells import CellStore
from explorer.experiments.reproduce.recipe import SuiteRecipe, read_recipe

FOLDER = ASSETS / "recipes"


@dataclass(frozen=True)
class Suite:
    """Recipes in the order of their files' names.

    Attributes:
        name: of the folder or file.
        built_in: whether it comes with the explorer.
    """

    name: str
    path: Path
    recipes: tuple[SuiteRecipe, ...]
    built_in: bool = False

    @property
    def store(self) -> CellStore:
        """Where its cells are kept if no other folder is asked for."""
        place = self.name if self.built_in else f"{self.name}-{self._tag}"
        return CellStore(settings().workspace_dir / "reproduce" / place)

    def only(self, model: str | None = None, task: str | None = None, strategy: str | None = None) -> Suite:
        """The recipes of one model (short name or source), task or strategy.

        Raises:
            SettingsError: that leaves none.
        """
        chosen = tuple(
            one
            for one in self.recipes
            if model in (None, one.model.name, one.model.source)
            and task in (None, one.task.name)
            and strategy in (None, one.strategy.name)
        )
        if chosen:
            return replace(self, recipes=chosen)
        asked = {"model": model, "task": task, "strategy": strategy}
        given = " and ".join(f"{name} {value[:40]!r}" for name, value in asked.items() if value is not None)
        known = {
            "model": sorted({one.model.name for one in self.recipes}),
            "task": sorted({one.task.name for one in self.recipes}),
            "strategy": sorted({one.strategy.name for one in self.recipes}),
        }
        choices = "; ".join(f"{name}: {', '.join(values)}" for name, values in known.items() if asked[name] is not None)
        raise SettingsError(f"{self.name} has no recipe for {given}: choose from {choices}.")

    @cached_property
    def _tag(self) -> str:
        """Tells suites of the same name in different places apart."""
        return digest([str(self.path.resolve()).encode()]).removeprefix("sha256:")[:8]


def suites() -> tuple[Suite, ...]:
    """The suites that come with the explorer."""
    return tuple(_read(path, built_in=True) for path in sorted(FOLDER.iterdir()) if path.is_dir())


def find_suite(text: str) -> Suite:
    """A suite by name, or the recipes at a path: a folder of .toml files, or one such file.

    Raises:
        SettingsError: neither, a folder without recipes, a recipe that cannot be used, or two of one name.
    """
    names = [path.name for path in sorted(FOLDER.iterdir()) if path.is_dir()]
    if text in names:
        return _read(FOLDER / text, built_in=True)
    path = typed_path(text)
    if path is None or not path.exists():
        raise SettingsError(
            f"{text[:80]!r} is neither a suite nor a file: choose one of {', '.join(names)}, "
            "or give a recipe (.toml) or a folder of them."
        )
    return _read(path, built_in=False)


def _read(path: Path, *, built_in: bool) -> Suite:
    files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    if not files:
        raise SettingsError(f"{path} holds no .toml file: give a recipe or a folder of them.")
    recipes = tuple(read_recipe(file) for file in files)
    (name, count), *_ = Counter(one.name for one in recipes).most_common(1)
    if count > 1:
        raise SettingsError(f"{path} has {count} recipes of the name {name!r}: give each its own.")
    return Suite(path.name.removesuffix(".toml") or "recipes", path, recipes, built_in=built_in)
