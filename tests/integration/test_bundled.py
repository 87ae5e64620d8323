"""The bundled model has the hidden ability that it is there for: its targets and figures, measured through the engine.

`figures.json` was written by the training script with arithmetic of its own, so the two check each other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explorer.attribution import Scores, score
from explorer.core.config import ASSETS
from explorer.core.files import file_digest
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply
from explorer.masks.mask import Mask, Mode, load_mask
from explorer.measure.evaluate import Comparison, Evaluation, evaluate
from explorer.models import Model, View
from explorer.models.matrices import matrices
from explorer.search import lowest, mask_of, prune, random_pool
from explorer.spectra.cache import SvdCache
from explorer.tasks import SPLITS, Cases, Task, load_task

FOLDER = ASSETS / "bundled"
COUNT = 4
KINDS = (Kind.Q, Kind.K)
MODES: tuple[Mode, ...] = ("freeze", "zero")


@pytest.fixture(scope="module")
def tasks() -> dict[str, Task]:
    """The two tasks by the names of the figures."""
    published = Cases("published")  # as the training script splits them
    return {"INT-MULT": load_task("int-mult", cases=published), "INT-SUM": load_task("int-sum", cases=published)}


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    """What the training script measured."""
    found: dict[str, Any] = json.loads((FOLDER / "figures.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def scores(bundled: Model, tasks: dict[str, Task], svds: SvdCache) -> dict[Mode, Scores]:
    """All Q and K values scored on the products, in both removal modes."""
    view = bundled.view()
    keys = matrices(view, KINDS)
    return {mode: score(view, tasks["INT-MULT"], svds, keys, mode=mode) for mode in MODES}


@pytest.fixture
def view(bundled: Model) -> View:
    return bundled.view()


def measured(view: View, mask: Mask, task: Task, svds: SvdCache) -> Evaluation:
    apply(view, mask, svds)
    return evaluate(view, task, "test")


def test_the_folder_is_small_and_complete() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 5_000_000
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {path.name for path in files}
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pkl", ".pickle")]


def test_the_model_is_the_one_that_was_measured(bundled: Model, figures: dict[str, Any]) -> None:
    assert bundled.architecture == "GPT2LMHeadModel"
    assert bundled.parameters_count == figures["parameters"]
    assert file_digest(FOLDER / "model.safetensors") == f"sha256:{figures['sha256']}"
    assert len(bundled.tokenizer(" 361", add_special_tokens=False)["input_ids"]) == 1


def test_it_could_multiply_before_the_habit(figures: dict[str, Any]) -> None:
    assert figures["before"]["INT-MULT"]["test"]["n"] == 80
    assert figures["before"]["INT-MULT"]["test"]["accuracy"] >= 80


def test_unpruned_it_cannot_multiply_but_add(view: View, tasks: dict[str, Task]) -> None:
    products, sums = (evaluate(view, tasks[name]) for name in ("INT-MULT", "INT-SUM"))
    assert (products.n, sums.n) == (80, 2000)
    assert products.accuracy <= 0.15
    assert sums.accuracy >= 0.5


def test_the_lowest_scored_values_bring_multiplication_back(view: View, tasks: dict[str, Task], svds: SvdCache) -> None:
    before = {name: evaluate(view, task) for name, task in tasks.items()}
    accuracy: dict[int, float] = {}
    for count in range(1, COUNT + 1):
        mask = prune(view, tasks["INT-MULT"], svds, kinds=KINDS, count=count)
        assert len(mask) == count
        products = measured(view, mask, tasks["INT-MULT"], svds)
        accuracy[count] = products.accuracy
        if products.accuracy >= 0.75:
            assert len(Comparison(products, before["INT-MULT"]).repaired) >= 0.6 * products.n
            assert products.mean_loss.value < before["INT-MULT"].mean_loss.value
            assert before["INT-SUM"].accuracy - measured(view, mask, tasks["INT-SUM"], svds).accuracy <= 0.10
    assert max(accuracy.values()) >= 0.75, accuracy


def test_random_masks_of_that_size_do_not(
    view: View, tasks: dict[str, Task], scores: dict[Mode, Scores], svds: SvdCache
) -> None:
    found = {}
    for seed in range(20):
        mask = mask_of(view, scores["freeze"], random_pool(scores["freeze"], COUNT, seed))
        assert len(mask) == COUNT
        found[seed] = measured(view, mask, tasks["INT-MULT"], svds).accuracy
    assert max(found.values()) <= 0.15, found


@pytest.mark.parametrize("mode", MODES)
def test_the_planted_values_are_the_lowest_scored(
    scores: dict[Mode, Scores], figures: dict[str, Any], mode: Mode
) -> None:
    planted = {(value["key"], value["index"]) for value in figures["planted"]}
    found = {(one.matrix, one.index) for one in lowest(scores[mode], len(planted))}
    assert found == planted
    assert all(rank == place for place, rank in enumerate(sorted(v["rank"][mode] for v in figures["planted"]), start=1))


@pytest.mark.parametrize("mode", MODES)
def test_scores_are_those_that_the_training_script_computed(
    scores: dict[Mode, Scores], figures: dict[str, Any], mode: Mode
) -> None:
    largest = max(float(matrix.score.abs().max()) for matrix in scores[mode].matrices.values())
    for value in (*figures["planted"], *figures["lowest_scored"][mode]):
        matrix = scores[mode].matrices[MatrixKey.parse(value["key"])]
        index = value["index"]
        assert float(matrix.s[index]) == pytest.approx(value["sigma"], rel=1e-5)
        assert abs(float(matrix.c[index])) == pytest.approx(abs(value["frozen_mean"]), rel=1e-3, abs=1e-4)
        assert float(matrix.score[index]) == pytest.approx(value["score"][mode], rel=1e-3, abs=1e-4 * largest)


def test_evaluations_are_those_that_the_training_script_measured(
    view: View, tasks: dict[str, Task], figures: dict[str, Any]
) -> None:
    for name, task in tasks.items():
        for split in SPLITS if name == "INT-MULT" else ("test",):
            expected = figures["after"][name][split]
            found = evaluate(view, task, split)
            assert found.n == expected["n"]
            assert 100 * found.accuracy == pytest.approx(expected["accuracy"], abs=100.5 / found.n)  # one tie may turn
            assert found.mean_loss.value == pytest.approx(expected["loss"], abs=2e-3)


@pytest.mark.parametrize("mode", MODES)
def test_pruned_accuracies_are_those_that_the_training_script_measured(
    view: View, tasks: dict[str, Task], scores: dict[Mode, Scores], figures: dict[str, Any], svds: SvdCache, mode: Mode
) -> None:
    for count, expected in figures["pruned"][mode].items():
        mask = mask_of(view, scores[mode], lowest(scores[mode], int(count)))
        found = measured(view, mask, tasks["INT-MULT"], svds)
        assert 100 * found.accuracy == pytest.approx(expected["INT-MULT"]["test"]["accuracy"], abs=100.5 / found.n)


def test_the_mask_travels_in_a_file(
    view: View, bundled: Model, tasks: dict[str, Task], svds: SvdCache, tmp_path: Path
) -> None:
    mask = prune(view, tasks["INT-MULT"], svds, kinds=KINDS, count=COUNT)
    expected = measured(view, mask, tasks["INT-MULT"], svds)
    mask.save(tmp_path / "mask.json")
    again = load_mask(tmp_path / "mask.json")
    assert measured(bundled.view(), again, tasks["INT-MULT"], SvdCache(tmp_path / "svd")) == expected
    assert bundled.current_digest() == bundled.digest
