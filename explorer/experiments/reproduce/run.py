"""Run recipes: each cell is kept as soon as it is measured, and taken from there when it is asked for again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explorer.attribution import SCORERS
from explorer.core.errors import ExplorerError, SettingsError, TaskError
from explorer.core.finite import plain
from explorer.core.progress import Progress, part
from explorer.experiments.reproduce.cells import Cell, CellStore, Control, Figures, Found
from explorer.experiments.reproduce.models import Models, NotHadError
from explorer.experiments.reproduce.recipe import Recipe, Released, Searched
from explorer.masks.mask import Mask
from explorer.measure.evaluate import Evaluation, evaluate
from explorer.models import View
from explorer.models.matrices import matrices, shape
from explorer.search import SEARCHES
from explorer.search.conductor import Watcher, conduct
from explorer.search.control_runs import ControlRuns
from explorer.search.controls import check_control, refuse_earlier
from explorer.search.journal import JournalFile
from explorer.search.released import ReleasedSettings, run_released
from explorer.search.request import SearchRequest
from explorer.spectra.cache import SvdCache
from explorer.tasks import TASKS, Task, with_metric


@dataclass(frozen=True)
class Outcome:
    """A recipe and its cell, or the reason why there is none; `kept` says that the cell was there already."""

    recipe: Recipe
    cell: Cell | None = None
    reason: str | None = None
    kept: bool = False


@dataclass(frozen=True)
class Measured:
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

    def run(self, recipe: Recipe, progress: Progress | None = None) -> Outcome:
        """The recipe's outcome: kept from before, measured now, or the reason why it can be neither."""
        try:
            if not self._fresh and (cell := self._kept(recipe)) is not None:
                return Outcome(recipe, cell, kept=True)
            cell, mask = self._measure(recipe, progress)
        except ExplorerError as error:
            return Outcome(recipe, reason=str(error))
        self._store.save(recipe, cell, mask)
        return Outcome(recipe, cell)

    def _kept(self, recipe: Recipe) -> Cell | None:
        """The stored cell, unless the recipe, the local model, the data, or what counts as right have changed."""
        cell = self._store.load(recipe)
        if cell is None or (self._models.given(recipe) or cell.source) != cell.source:
            return None
        try:
            task = self._task(recipe)
            same = task.digest == cell.task_digest and recipe.metric_of(task) == cell.after.metric
            return cell if same else None
        except NotHadError:
            return cell

    def _task(self, recipe: Recipe, shots: int = 0) -> Task:
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

    def _measure(self, recipe: Recipe, progress: Progress | None) -> tuple[Cell, Mask]:
        whole = self._task(recipe)
        task = with_metric(_cut(whole, recipe.task.validation_limit), recipe.metric_of(whole))
        model = self._models.get(recipe, whole, part(progress, 0.0, 0.1))
        view, bar = model.view(), part(progress, 0.1, 1.0)
        reference = self._reference(recipe, view)
        given = recipe.strategy
        found = (
            _released(recipe, given, view, task, self._svds, bar)
            if isinstance(given, Released)
            else self._searched(recipe, given, view, task, bar)
        )
        cell = Cell(
            recipe=recipe.name, recipe_digest=recipe.digest, source=self._models.source(recipe),
            model_digest=model.digest, basis=model.basis, dtype=model.dtype, task_digest=whole.digest,
            removed=len(found.mask), mask_digest=found.mask.digest, reference=reference,
            found=_found(recipe, found.mask), versions=dict(found.mask.provenance.versions), **found.fields,
        )  # fmt: skip
        return cell, found.mask

    def _searched(self, recipe: Recipe, given: Searched, view: View, task: Task, progress: Progress | None) -> Measured:
        keys = matrices(view, given.chosen, per_head=not given.stacked)
        request = SearchRequest(
            given.name, given.chosen, None, per_head=not given.stacked, mode=given.mode, scorer=given.scorer,
            limit=recipe.task.limit, max_removed=given.at_most(sum(min(shape(view, key)) for key in keys)),
            seconds=given.seconds, seed=recipe.seed, controls=recipe.control_draws, test_limit=recipe.task.test_limit,
            growth=given.max_growth, control_names=recipe.controls,
        )  # fmt: skip
        watcher = Watcher(part(progress, 0.0, 0.6), after=part(progress, 0.6, 1.0))
        found = conduct(request, view, task, self._svds, journals=self._journals, fresh=self._fresh, watcher=watcher)
        if found.found.stopped == "stopped":  # by Ctrl-C: half a search is no cell
            raise KeyboardInterrupt
        return Measured(
            found.mask,
            {
                "before": _figures(found.baseline),
                "after": _figures(found.test),
                "controls": _controls(found.controls),
                "stopped": found.found.stopped,
                "forwards": found.forwards,
                "seconds": found.seconds,
            },
        )

    def _reference(self, recipe: Recipe, view: View) -> Figures | None:
        """The unpruned model with solved examples in front of the same test prompts."""
        if not recipe.task.reference_shots:
            return None
        task = self._task(recipe, shots=recipe.task.reference_shots)
        task = with_metric(task, recipe.metric_of(task))
        return _figures(evaluate(view, task, "test", limit=recipe.task.test_limit))


def check(recipes: Sequence[Recipe]) -> None:
    """Raise SettingsError if a recipe names a strategy, scorer or control that there is not, before anything runs."""
    for one in recipes:
        given = one.strategy
        for name in one.controls:
            _named(one, "controls", name, check_control)
        if isinstance(given, Searched):
            _named(one, "strategy.name", given.name, refuse_earlier)
            if given.name not in SEARCHES:
                choices = ", ".join(("as-released", *SEARCHES))
                raise SettingsError(f"{one.name}: strategy.name {given.name!r} is not known: choose one of {choices}.")
            if given.scorer not in SCORERS:
                choices = ", ".join(SCORERS)
                raise SettingsError(
                    f"{one.name}: strategy.scorer {given.scorer!r} is not known: choose one of {choices}."
                )


def _named(recipe: Recipe, field: str, name: str, checked: Callable[[str], None]) -> None:
    """Say which recipe and field a name stands in, if it is refused."""
    try:
        checked(name)
    except SettingsError as error:
        raise SettingsError(f"{recipe.name}: {field}: {error}") from None


def in_order(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Recipes of one model in one basis one after the other, so that it is loaded once; otherwise as they come."""
    first: dict[tuple[Any, ...], int] = {}
    for place, one in enumerate(recipes):
        first.setdefault(_loaded(one), place)
    return sorted(recipes, key=lambda one: first[_loaded(one)])


def _loaded(recipe: Recipe) -> tuple[Any, ...]:
    tuned = None if recipe.finetune is None else (recipe.task.name, recipe.finetune.model_dump_json())
    return recipe.model.name, recipe.model.dtype, tuned, recipe.released


def _cut(task: Task, limit: int | None) -> Task:
    """The task with the validation examples that the recipe takes; the other splits are limited where they are used."""
    return task if limit is None else replace(task, validation=task.split("validation", limit))


def _released(
    recipe: Recipe, given: Released, view: View, task: Task, svds: SvdCache, progress: Progress | None
) -> Measured:
    settings = ReleasedSettings(given.fraction, given.batch_size, given.answer_token)
    found = run_released(
        view, task, svds, given.chosen or (), settings,
        limit=recipe.task.limit, test_limit=recipe.task.test_limit, seed=recipe.seed,
        control_draws=recipe.control_draws, control_names=recipe.controls, progress=progress,
    )  # fmt: skip
    return Measured(
        found.mask,
        {
            "before": _figures(found.baseline),
            "after": _figures(found.test),
            "whole_before": _figures(found.exact["baseline"]),
            "whole_after": _figures(found.exact["released"]),
            "averaged": None if found.averaged_test is None else _figures(found.averaged_test),
            "controls": _controls(found.controls),
            "forwards": found.forwards,
            "seconds": found.seconds,
        },
    )


def _found(recipe: Recipe, mask: Mask) -> Found | None:
    if recipe.truth is None:
        return None
    known = {(one.matrix, one.index) for one in recipe.truth.values}
    hits = sum((one.matrix, one.index) in known for one in mask.removed)
    return Found(hits=hits, removed=len(mask), known=len(known))


def _figures(evaluation: Evaluation) -> Figures:
    return Figures.of(evaluation.as_dict())


def _controls(controls: Mapping[str, ControlRuns]) -> dict[str, Control]:
    return {name: Control.model_validate(plain(one.as_dict())) for name, one in controls.items()}
