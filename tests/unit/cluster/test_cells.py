"""Cells mean the same as text, and give in any process what is measured without them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from explorer.attribution import effect_costs, score
from explorer.attribution.effect_cells import EffectsCell, MaskLossCell, effect_cells, effects_by, joint_effects_by
from explorer.attribution.effect_store import EffectStore
from explorer.attribution.exact import EffectsJob, exact_effects, joint_effects
from explorer.core.errors import ClusterError, Stopped
from explorer.core.executor import Executor, InProcess, WorkCell
from explorer.core.keys import Kind, MatrixKey
from explorer.core.measuring import version_of
from explorer.experiments.cluster.worker import (
    CELLS,
    CODE,
    PACKAGE,
    SUBJECTS,
    installed,
    read_cell,
    read_subject,
    written,
)
from explorer.experiments.cluster.workers import read_answer
from explorer.experiments.reproduce.cells import CellStore
from explorer.experiments.reproduce.models import Models
from explorer.experiments.reproduce.recipe import SuiteRecipe, read_recipe
from explorer.experiments.reproduce.recipe_cells import RecipeCell, SuiteSubject, run_by
from explorer.experiments.reproduce.run import Runner
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask, Removed
from explorer.measure.batches import batches
from explorer.measure.evaluate import evaluate
from explorer.measure.opened import ModelAndTask, OpenedModel
from explorer.measure.sampling import draw_sample
from explorer.models import View
from explorer.models.matrices import matrices
from explorer.search.curve import curve
from explorer.search.mask_cells import MaskCell, masks_by, measured_masks
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests.crew import WrittenWork
from tests.unit.reproduce.recipes import QUICK, write

SVDS = SvdCache(None)
VALUES = [(MatrixKey(layer, kind), index) for layer in (0, 1) for kind in (Kind.OUT, Kind.IN) for index in range(9)]


def masks(view: View) -> list[Mask]:
    """Of no value, one and two, these scaled."""
    empty, some = empty_mask(view.model), []
    for layer in (0, 1):
        s = float(SVDS.get(view, MatrixKey(layer, Kind.OUT)).s[layer])
        some.append(Removed(matrix=f"L{layer}.OUT", index=layer, sigma=s, c=0.1 + layer / 3))
    return [empty, empty.with_removed(some[:1]), empty.with_removed(some).scaled(0.3)]


def cells(view: View, tmp_path: Path) -> list[WorkCell[object]]:
    runs = tuple(tuple((str(key), index) for key, index in VALUES[start : start + 9]) for start in (0, 9))
    mask = masks(view)[2]
    return [
        EffectsCell(runs, mask, "train", limit=None, context="sha256:of"),
        MaskCell(mask, "validation", 3, suffix=True),
        MaskLossCell(mask, "train", 2),
        RecipeCell(read_recipe(write(tmp_path, QUICK))),
    ]  # type: ignore[list-item]


def test_cells_are_read_as_they_were_written(view: View, tmp_path: Path) -> None:
    made = cells(view, tmp_path)
    assert {type(one).__name__ for one in made} == set(CELLS)
    for cell in made:
        read = read_cell(written(cell))
        assert read == cell
        assert (read.digest, written(read)) == (cell.digest, written(cell))
    assert len({cell.digest for cell in made}) == len(made)
    other = replace(made[1], limit=4)  # type: ignore[type-var]
    assert other.digest != made[1].digest


def test_subjects_are_read_as_they_were_written(view: View, tiny_task: Task) -> None:
    made = [ModelAndTask.of(view, tiny_task), SuiteSubject({"small": "/models/small"}, "cpu", None)]
    assert {type(one).__name__ for one in made} == set(SUBJECTS)
    for subject in made:
        assert read_subject(written(subject)) == subject
    assert read_subject(written(made[0])).task.digest == tiny_task.digest  # type: ignore[attr-defined]


@pytest.fixture(params=["here", "written"])
def executor(request: pytest.FixtureRequest, view: View, tiny_task: Task, svds: SvdCache) -> Executor:
    """This process, and one that is handed text and opens the model itself."""
    if request.param == "here":
        return InProcess(OpenedModel(view, tiny_task, svds))
    return WrittenWork(ModelAndTask.of(view, tiny_task))


@pytest.mark.parametrize("at_mask", [False, True])
def test_effects_are_those_of_this_process(
    executor: Executor, view: View, tiny_task: Task, svds: SvdCache, at_mask: bool
) -> None:
    cut, told = batches(view, tiny_task, tiny_task.split("train", 5)), []
    mask = masks(view)[int(at_mask)]
    wanted = exact_effects(view, cut, svds, VALUES, mask=mask)
    found = exact_effects(
        view, cut, svds, VALUES, mask=mask, apart=effects_by(executor, "train", 5),
        progress=lambda *one: told.append(one),
    )  # fmt: skip
    assert found.values == wanted.values
    assert list(found.values) == VALUES
    assert told[-1][0] == told[-1][1]


def test_effects_that_the_store_has_are_not_asked_for(
    view: View, tiny_task: Task, svds: SvdCache, tmp_path: Path
) -> None:
    cut, store = batches(view, tiny_task, tiny_task.train), EffectStore(tmp_path / "effects.sqlite", pytest.fail)
    work = InProcess(OpenedModel(view, tiny_task, svds))
    asked: list[WorkCell[object]] = []

    class Counting:
        def map_unordered(self, cells, progress=None):  # type: ignore[no-untyped-def]
            asked.extend(cells)
            yield from work.map_unordered(cells, progress)

    apart = effects_by(Counting(), "train", None)
    exact_effects(view, cut, svds, VALUES[:18], store=store, apart=apart)
    exact_effects(view, cut, svds, VALUES, store=store, apart=apart)
    named = [value for cell in asked for run in cell.flipped for value in run]  # type: ignore[attr-defined]
    assert sorted(named) == sorted(VALUES)
    assert len(asked) == 2  # the half that was measured is looked up
    assert len(store) == len(VALUES)


def test_cells_are_cut_by_what_they_cost(
    view: View, tiny_task: Task, svds: SvdCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few runs in each, of as many as its device is to take, none of them cut, and all in order."""
    cut = batches(view, tiny_task, tiny_task.train)
    job = EffectsJob.begin(view, cut, svds, mask=empty_mask(view.model), keys=[key for key, _ in VALUES])
    runs = [VALUES[start : start + 3] for start in range(0, len(VALUES), 3)]
    weights, tokens = view.model.parameters_count, sum(batch.tokens.numel() for batch in cut)
    first = 3 * 2 * weights * tokens  # of the first layer; a value of the second one costs half of that
    monkeypatch.setitem(effect_costs.RUN_FLOP, "cpu", 1.0)
    monkeypatch.setitem(effect_costs.CELL_FLOP, "cpu", 1.9 * first)
    found = effect_cells(runs, job, "train", limit=None)
    assert [len(cell.runs) for cell in found] == [2, 2, 2, 4, 2]
    assert [run for cell in found for run in cell.flipped] == runs
    monkeypatch.setitem(effect_costs.RUN_FLOP, "cpu", 2.0 * first)
    assert [len(cell.runs) for cell in effect_cells(runs, job, "train", limit=None)] == [1] * 12


def test_joint_effects_are_those_of_this_process(
    executor: Executor, view: View, tiny_task: Task, svds: SvdCache
) -> None:
    cut = batches(view, tiny_task, tiny_task.train)
    wanted = joint_effects(view, cut, svds, masks(view))
    assert joint_effects_by(executor, masks(view), "train", limit=None) == wanted


def test_masks_are_measured_as_by_evaluate_in_their_order(
    executor: Executor, view: View, tiny_task: Task, svds: SvdCache
) -> None:
    asked = [*masks(view), masks(view)[1]]  # one of them twice
    found = measured_masks(executor, tiny_task, asked, "train", limit=4)
    for mask, one in zip(asked, found, strict=True):
        apply(view, mask, svds)
        assert one == evaluate(view, tiny_task, "train", limit=4)


def test_a_curve_is_that_of_this_process(executor: Executor, view: View, tiny_task: Task, svds: SvdCache) -> None:
    scores = score(view, tiny_task, svds, matrices(view, [Kind.Q, Kind.K]))
    sample = draw_sample(view, tiny_task, "train", seconds=math.inf)
    wanted = curve(view, svds, scores, sample, [0, 1, 5])
    apart = masks_by(executor, tiny_task, "train", limit=len(sample.examples))
    for stop, other in zip(curve(view, svds, scores, sample, [0, 1, 5], apart=apart), wanted, strict=True):
        assert (stop.count, stop.comparison, stop.predicted) == (other.count, other.comparison, other.predicted)


def test_a_cell_does_not_mind_what_was_asked_before_it(view: View, tiny_task: Task, svds: SvdCache) -> None:
    """Streams that are kept for several cells are of the state that the next one begins with."""
    cut = batches(view, tiny_task, tiny_task.train)
    wanted = exact_effects(view, cut, svds, VALUES).values
    executor = InProcess(OpenedModel(view.model.view(), tiny_task, svds))
    first = exact_effects(view, cut, svds, VALUES[:9], apart=effects_by(executor, "train", None)).values
    list(executor.map_unordered([MaskCell(masks(view)[2], "train", None)]))
    second = exact_effects(view, cut, svds, VALUES[9:], apart=effects_by(executor, "train", None)).values
    assert {**first, **second} == dict(wanted)


def test_other_examples_than_were_asked_for_are_refused(view: View, tiny_task: Task, svds: SvdCache) -> None:
    cut = batches(view, tiny_task, tiny_task.split("train", 3))
    work = WrittenWork(ModelAndTask.of(view, tiny_task))
    with pytest.raises(ClusterError, match=r"^the worker on node: the model, the examples or the code are others here"):
        exact_effects(view, cut, svds, VALUES, apart=effects_by(work, "train", 4))


def test_another_model_than_was_asked_for_is_refused(view: View, tiny_task: Task) -> None:
    other = replace(ModelAndTask.of(view, tiny_task), as_loaded="another")
    cells = [MaskCell(masks(view)[0], "train", 2)]
    with pytest.raises(ClusterError, match="is another model here than where it was asked for"):
        list(WrittenWork(other).map_unordered(cells))
    with pytest.raises(ClusterError, match=r"^the worker on node: .*is not there"):
        list(WrittenWork(replace(other, model="/no/such/folder")).map_unordered(cells))


def test_other_code_is_refused_by_the_worker(view: View, tiny_task: Task) -> None:
    work = WrittenWork(ModelAndTask.of(view, tiny_task), {**installed(), CODE: "sha256:0"})
    with pytest.raises(ClusterError, match=r"^the worker on node has other code of eigenprune-explorer .* on both\.$"):
        list(work.map_unordered([MaskCell(masks(view)[0], "train", 2)]))


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ({}, r"has no eigenprune-explorer: install [\w. ]+ there"),
        ({PACKAGE: "0.0.1"}, r"has eigenprune-explorer 0\.0\.1, this machine [\w. ]+: install the same version"),
        ({PACKAGE: version_of(PACKAGE), "torch": "1.0"}, r"has torch 1\.0, this machine 2\.[\w.+]+: install the same"),
    ],
)
def test_what_a_worker_lacks_is_said_in_a_sentence(theirs: dict[str, str], said: str) -> None:
    with pytest.raises(ClusterError, match=rf"^the worker on far {said}"):
        read_answer(json.dumps(["far", json.dumps({"unfit": theirs})]))


def test_a_cell_that_is_told_to_stop_stops(view: View, tiny_task: Task) -> None:
    work = WrittenWork(ModelAndTask.of(view, tiny_task), stop=lambda: True)
    with pytest.raises(Stopped):
        list(work.map_unordered([MaskCell(masks(view)[0], "train", 2)]))


@pytest.mark.slow
def test_recipes_give_the_cells_of_this_process(tmp_path: Path, svds: SvdCache) -> None:
    recipe = read_recipe(write(tmp_path, QUICK))
    gone = read_recipe(
        write(tmp_path, QUICK.replace('"small"', '"gone"'), name="gone", source='source = "nobody/none"')
    )

    def runner(name: str) -> Runner:
        (tmp_path / name).mkdir(exist_ok=True)
        return Runner(CellStore(tmp_path / name), Models(tmp_path / "models"), svds)

    wanted = runner("here").run(recipe).cell
    work = WrittenWork(SuiteSubject({}, None, None))

    def outcomes(recipes: list[SuiteRecipe]) -> dict[str, object]:
        return {one.recipe.name: one for one in run_by(work, runner("apart"), recipes)}

    found = outcomes([recipe, gone])
    assert wanted is not None
    cell = found["quick"].cell  # type: ignore[attr-defined]
    assert replace(cell, seconds=0.0) == replace(wanted, seconds=0.0)
    assert cell.device == "cpu"
    masks = [(tmp_path / name / "quick.mask.json").read_bytes() for name in ("here", "apart")]
    assert masks[0] == masks[1]
    assert "nobody/none" in found["gone"].reason  # type: ignore[attr-defined]
    assert outcomes([recipe])["quick"].kept  # type: ignore[attr-defined]


def test_answers_are_plain_and_keep_what_is_not_finite(view: View, tiny_task: Task) -> None:
    work = WrittenWork(ModelAndTask.of(view, tiny_task))
    ((_, one),) = work.map_unordered([MaskLossCell(masks(view)[1], "train", 3)])
    assert json.loads(json.dumps(one.values)) == one.values
    assert str(one.machine) == "float32 on cpu"
