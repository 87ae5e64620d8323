"""The models that recipes name: one in memory at a time, fine-tuned first where a recipe says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from explorer.core.errors import ExplorerError, ModelError
from explorer.core.files import digest
from explorer.core.progress import Progress, part
from explorer.experiments.reproduce.recipe import SuiteRecipe
from explorer.models import NAMED, Model, load
from explorer.tasks import Task


class NotHadError(ExplorerError):
    """A model or data that a recipe needs and that cannot be had here; says how to get it."""


@dataclass(eq=False)
class Models:
    """Loads what recipes name.

    Attributes:
        folder: where fine-tuned models are kept.
        local: model folders or .gguf files to be taken instead, by the recipes' short names or sources.
        device: torch device; the settings' one if None.
    """

    folder: Path
    local: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None
    _missing: dict[str, str] = field(default_factory=dict)
    _held: tuple[tuple[str, str, str], Model] | None = None

    def source(self, recipe: SuiteRecipe) -> str:
        """What is loaded for a recipe, before any fine-tuning."""
        return self.given(recipe) or recipe.model.located

    def given(self, recipe: SuiteRecipe) -> str | None:
        """The local place that was given for a recipe's model."""
        return self.local.get(recipe.model.name) or self.local.get(recipe.model.source)

    def get(self, recipe: SuiteRecipe, task: Task, progress: Progress | None = None) -> Model:
        """The recipe's model in its basis; fine-tuned on the task's train split if the recipe says so.

        Raises:
            NotHadError: it cannot be had; asked once per source.
            ModelError: it cannot be used in this basis.
        """
        source = self.source(recipe)
        if recipe.finetune is not None:
            source = str(self._finetuned(recipe, task, part(progress, 0.0, 0.8)))
        return self._load(recipe, source, "folded" if recipe.released else "raw", progress=part(progress, 0.8, 1.0))

    def _load(self, recipe: SuiteRecipe, source: str, basis: str, progress: Progress | None) -> Model:
        key = (source, recipe.model.dtype, basis)
        if self._held is not None and self._held[0] == key:
            return self._held[1]
        if source in self._missing:
            raise NotHadError(self._missing[source])
        self._held = None  # before the next one, so that two are never in memory
        try:
            model = load(source, basis=basis, dtype=recipe.model.dtype, device=self.device, progress=progress)
        except ModelError as error:
            self._missing[source] = f"{str(error).rstrip('.')}. {self._how(recipe)}"
            raise NotHadError(self._missing[source]) from None
        self._held = key, model
        return model

    def _finetuned(self, recipe: SuiteRecipe, task: Task, progress: Progress | None) -> Path:
        """The folder of the fine-tuned model; made once for all recipes that ask for the same."""
        from explorer.experiments.finetune import Training, finetune

        assert recipe.finetune is not None
        source = self.source(recipe)
        how = recipe.finetune.model_dump(mode="json")
        asked = [source, recipe.model.dtype, task.digest, recipe.task.limit, recipe.seed, how]
        tag = digest([json.dumps(asked, sort_keys=True).encode()]).removeprefix("sha256:")[:12]
        folder = self.folder / f"{recipe.model.name}-{recipe.task.name}-{tag}"
        if not (folder / "config.json").is_file():
            given = recipe.finetune
            training = Training(
                epochs=given.epochs, learning_rate=given.learning_rate, batch_size=given.batch_size,
                optimizer=given.optimizer, seed=recipe.seed, limit=recipe.task.limit,
            )  # fmt: skip
            finetune(self._load(recipe, source, "raw", progress=None), task, training, out=folder, progress=progress)
        return folder

    def _how(self, recipe: SuiteRecipe) -> str:
        model = recipe.model
        if self.given(recipe) is not None:
            return "Give --local another place, or leave it out."
        if model.source in NAMED:
            return f"Or give a copy of it with --local {model.source}=FOLDER."
        revision = "" if model.revision is None else f" --revision {model.revision}"
        return (
            f"Where there is a network, `hf download {model.source}{revision}` fetches it; give a copy with "
            f"--local {model.source}=FOLDER."
        )
