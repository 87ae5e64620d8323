"""Run recipes: each cell is kept as soon as it is measured, and taken from there when it is asked for again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explorer.attribution import SCORERS
from explorer.core.errors import ExplorerError, SettingsError, TaskError
from explorer.core.progress import Progress, part
from explorer.experiments.reproduce.cells import CellStore, HarmfulHits, SuiteCell
from explorer.experiments.reproduce.models import Models, NotHadError
from explorer.experiments.reproduce.recipe import Released, Searched, SuiteRecipe
from explorer.masks.mask import Mask
from explorer.measure.evaluate import evaluate
from explorer.measure.figures import Figures
from explorer.measure.opened import device_name
from explorer.models import View
from explorer.models.matrices import matrices, shape
from explorer.search import SEARCHES
from explorer.search.conductor import Recording, Watcher, conduct
from explorer.search.control_runs import ControlFigures, ControlRuns
from explorer.search.controls import check_control, refuse_earlier
from explorer.search.journal import JournalFile
from explorer.search.released import ReleasedRequest, ReleasedSettings, run_released
from explorer.search.request import SearchRequest
from explorer.spectra.cache import SvdCache
from explorer.tasks import TASKS, Task, with_metric


@dataclass(frozen=True)
class RecipeOutcome:
    """A recipe and its cell, or the reason why there is none; `kept` says that the cell was there already."""

    recipe: SuiteRecipe
    cell: SuiteCell | None = None
    reason: str | None = None
    kept: bool = False


@dataclass(frozen=True)
class CellParts:
    """What a strategy gave: the mask, and the fields of the cell that are its own."""

    mask: Mask
    fields: Mapping[str, Any]


class Runner:
    """Runs recipes one after the other.

    Args:
        store: where finished cells are, and are put.
        models: where models come from.
        svds: decompositions.
        journals: where searches are recorded, and go on if they were stopped; None to begin each of them anew.
        data: folder of the data of tasks that need it.
        fresh: measure cells again that are there already.
    """

    def __init__(
        self,
        store: CellStore,
        models: Models,
        svds: SvdCache,
        *,
        journals: JournalFile | None = None,
        data: Path | None = None,
        fresh: bool = False,
    ) -> None:
        self._store, self._models, self._svds, self._journals = store, models, svds, journals
        self._data, self._fresh = data, fresh
        self._no_task: dict[str, str] = {}

    def run(self, recipe: SuiteRecipe, progress: Progress | None = None) -> RecipeOutcome:
        """The recipe's outcome: kept from before, measured now, or the reason why it can be neither."""
        try:
            if (cell := self.kept(recipe)) is not None:
                return RecipeOutcome(recipe, cell, kept=True)
            cell, mask = self.measure(recipe, progress)
        except ExplorerError as error:
            return RecipeOutcome(recipe, reason=str(error))
        return self.keep(recipe, cell, mask)

    def keep(self, recipe: SuiteRecipe, cell: SuiteCell, mask: Mask) -> RecipeOutcome:
        """Put a measured cell into the store."""
        self._store.save(recipe, cell, mask)
        return RecipeOutcome(recipe, cell)

    def kept(self, recipe: SuiteRecipe) -> SuiteCell | None:
        """The stored cell, unless the recipe, the local model, the data, or what counts as right have changed.

        None, too, where cells are to be measured again.
        """
        if self._fresh:
            return None
        cell = self._store.load(recipe)
        if cell is None or (self._models.given(recipe) or cell.source) != cell.source:
            return None
        try:
            task = self._task(recipe)
            same = task.digest == cell.task_digest and recipe.metric_of(task) == cell.after.metric
            return cell if same else None
        except NotHadError:
            return cell

    def _task(self, recipe: SuiteRecipe, shots: int = 0) -> Task:
        name = recipe.task.name
        if name in self._no_task:
            raise NotHadError(self._no_task[name])
        try:
            return recipe.load_task(self._data, shots=shots)
        except TaskError as error:
            if not TASKS[name].needs_data:
                raise
            self._no_task[name] = f"needs --data: {error}"
            raise NotHadError(self._no_task[name]) from None

    def measure(self, recipe: SuiteRecipe, progress: Progress | None = None) -> tuple[SuiteCell, Mask]:
        """Run a recipe; nothing is kept of it.

        Raises:
            ExplorerError: its model or data cannot be had, or refuse it.
        """
        whole = self._task(recipe)
        task = with_metric(_cut(whole, recipe.task.validation_limit), recipe.metric_of(whole))
        model = self._models.get(recipe, whole, part(progress, 0.0, 0.1))
        view, bar = model.view(), part(progress, 0.1, 1.0)
        reference = self._reference(recipe, view)
        given = recipe.strategy
        found = (
            _released(recipe, given, view, task=task, svds=self._svds, progress=bar)
            if isinstance(given, Released)
            else self._searched(recipe, given, view, task=task, progress=bar)
        )
        cell = SuiteCell(
            recipe=recipe.name, recipe_digest=recipe.digest, source=self._models.source(recipe),
            model_digest=model.digest, basis=model.basis, dtype=model.dtype, device=device_name(view.device),
            task_digest=whole.digest, removed=len(found.mask), mask_digest=found.mask.digest, reference=reference,
            found=_found(recipe, found.mask), versions=dict(found.mask.provenance.versions), **found.fields,
        )  # fmt: skip
        return cell, found.mask

    def _searched(
        self, recipe: SuiteRecipe, given: Searched, view: View, task: Task, progress: Progress | None
    ) -> CellParts:
        keys = matrices(view, given.chosen, per_head=not given.stacked)
        request = SearchRequest(
            given.name, given.chosen, None, per_head=not given.stacked, mode=given.mode, scorer=given.scorer,
            limit=recipe.task.limit, max_removed=given.at_most(sum(min(shape(view, key)) for key in keys)),
            seconds=given.seconds, seed=recipe.seed, controls=recipe.control_draws, test_limit=recipe.task.test_limit,
            growth=given.max_growth, control_names=recipe.controls,
        )  # fmt: skip
        watcher = Watcher(part(progress, 0.0, 0.6), after=part(progress, 0.6, 1.0))
        recording = None if self._journals is None else Recording(self._journals, self._fresh)
        found = conduct(request, view, task, svds=self._svds, recording=recording, watcher=watcher)
        if found.found.stopped == "stopped":  # by Ctrl-C: half a search is no cell
            raise KeyboardInterrupt
        return CellParts(
            found.mask,
            {
                "before": Figures.of(found.baseline),
                "after": Figures.of(found.test),
                "controls": _controls(found.controls),
                "stopped": found.found.stopped,
                "forwards": found.forwards,
                "seconds": found.seconds,
            },
        )

    def _reference(self, recipe: SuiteRecipe, view: View) -> Figures | None:
        """The unpruned model with solved examples in front of the same test prompts."""
        if not recipe.task.reference_shots:
            return None
        task = self._task(recipe, shots=recipe.task.reference_shots)
        task = with_metric(task, recipe.metric_of(task))
        return Figures.of(evaluate(view, task, "test", limit=recipe.task.test_limit))


def check(recipes: Sequence[SuiteRecipe]) -> None:
    """Raise SettingsError if a recipe names a strategy, scorer or control that there is not, before anything runs."""
    for one in recipes:
        given = one.strategy
        for name in one.controls:
            _named(one, "controls", name, checked=check_control)
        if isinstance(given, Searched):
            _named(one, "strategy.name", given.name, checked=refuse_earlier)
            if given.name not in SEARCHES:
                choices = ", ".join(("as-released", *SEARCHES))
                raise SettingsError(f"{one.name}: strategy.name {given.name!r} is not known: choose one of {choices}.")
            if given.scorer not in SCORERS:
                choices = ", ".join(SCORERS)
                raise SettingsError(
                    f"{one.name}: strategy.scorer {given.scorer!r} is not known: choose one of {choices}."
                )


def _named(recipe: SuiteRecipe, field: str, name: str, checked: Callable[[str], None]) -> None:
    """Say which recipe and field a name stands in, if it is refused."""
    try:
        checked(name)
    except SettingsError as error:
        raise SettingsError(f"{recipe.name}: {field}: {error}") from None


def in_order(recipes: Sequence[SuiteRecipe]) -> list[SuiteRecipe]:
    """Recipes of one model in one basis one after the other, so that it is loaded once; otherwise as they come."""
    first: dict[tuple[Any, ...], int] = {}
    for place, one in enumerate(recipes):
        first.setdefault(_loaded(one), place)
    return sorted(recipes, key=lambda one: first[_loaded(one)])


def _loaded(recipe: SuiteRecipe) -> tuple[Any, ...]:
    tuned = None if recipe.finetune is None else (recipe.task.name, recipe.finetune.model_dump_json())
    return recipe.model.name, recipe.model.dtype, tuned, recipe.released


def _cut(task: Task, limit: int | None) -> Task:
    """The task with the validation examples that the recipe takes; the other splits are limited where they are used."""
    return task if limit is None else replace(task, validation=task.split("validation", limit))


def _released(
    recipe: SuiteRecipe, given: Released, view: View, task: Task, svds: SvdCache, progress: Progress | None
) -> CellParts:
    settings = ReleasedSettings(given.fraction, given.batch_size, given.answer_token)
    request = ReleasedRequest(
        given.chosen or (), settings, recipe.task.limit, test_limit=recipe.task.test_limit, seed=recipe.seed,
        control_draws=recipe.control_draws, control_names=recipe.controls,
    )  # fmt: skip
    found = run_released(view, task, svds, request=request, progress=progress)
    return CellParts(
        found.mask,
        {
            "before": Figures.of(found.baseline),
            "after": Figures.of(found.test),
            "whole_before": Figures.of(found.exact["baseline"]),
            "whole_after": Figures.of(found.exact["released"]),
            "averaged": None if found.averaged_test is None else Figures.of(found.averaged_test),
            "controls": _controls(found.controls),
            "forwards": found.forwards,
            "seconds": found.seconds,
        },
    )


def _found(recipe: SuiteRecipe, mask: Mask) -> HarmfulHits | None:
    if recipe.truth is None:
        return None
    known = {(one.matrix, one.index) for one in recipe.truth.values}
    hits = sum((one.matrix, one.index) in known for one in mask.removed)
    return HarmfulHits(hits=hits, removed=len(mask), known=len(known))


def _controls(controls: Mapping[str, ControlRuns]) -> dict[str, ControlFigures]:
    return {name: one.figures for name, one in controls.items()}
