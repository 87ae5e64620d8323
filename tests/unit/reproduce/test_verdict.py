"""Cells are kept whole, and mean what they say; figures worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from explorer.core.config import ASSETS
from explorer.core.errors import SettingsError
from explorer.experiments.reproduce.cells import CellStore, HarmfulHits, SuiteCell
from explorer.experiments.reproduce.recipe import Published, read_recipe
from explorer.experiments.reproduce.suites import find_suite
from explorer.experiments.reproduce.verdict import inside, recovered, verdict
from explorer.masks.mask import Mask, ModelIdentity
from explorer.measure.figures import Figures
from tests.unit.reproduce.recipes import write

MASK = Mask(model=ModelIdentity(source="x", digest=f"sha256:{'0' * 64}"))


def figures(correct: int, n: int, low: float, high: float) -> Figures:
    return Figures(n=n, accuracy=correct / n, accuracy_interval=(low, high), loss=1.0, loss_stderr=math.nan)


def cell(recipe_digest: str = "", **fields: Any) -> SuiteCell:
    # 11 and 12 of 80; the Wilson intervals are those of a table
    known = {
        "before": figures(11, 80, 0.0786, 0.2296),
        "after": figures(12, 80, 0.0879, 0.2441),
    }
    plain = {"recipe": "quick", "source": "x", "model_digest": "d", "basis": "raw", "task_digest": "t"}
    rest = {"removed": 0, "mask_digest": "m", "controls": {}, "forwards": 1, "seconds": 1.0, "versions": {}}
    return SuiteCell(recipe_digest=recipe_digest, **plain, **rest, **{**known, **fields})


def published(before: float, after: float, tolerance: float = 1.0) -> Published:
    return Published(before=before, after=after, n=80, tolerance=tolerance)


def test_a_published_value_is_inside_the_interval_or_not() -> None:
    assert verdict(published(13.75, 15.0), cell()).as_dict() == {
        "before_inside": True, "after_inside": True, "before_within": True, "after_within": True,
    }  # fmt: skip
    assert verdict(published(13.75, 97.5), cell()).as_dict() == {
        "before_inside": True, "after_inside": False, "before_within": True, "after_within": False,
    }  # fmt: skip
    found = verdict(published(22.0, 24.41, tolerance=5.0), cell())
    assert (found.before_inside, found.after_inside) == (True, True)
    assert (found.before_within, found.after_within) == (False, False)


def test_rounding_of_published_values_is_forgiven_and_no_more() -> None:
    ours = figures(1, 277, 0.00064, 0.02016)
    assert inside(2.02, ours)
    assert not inside(2.03, ours)
    assert inside(0.06, ours)
    assert not inside(0.05, ours)


def test_the_recovered_share_is_of_what_shots_bring_over_all_answer_tokens() -> None:
    reference = figures(51, 80, 0.5, 0.7)
    assert recovered(cell()) is None
    assert recovered(cell(reference=reference)) == pytest.approx(1 / 40)
    whole = {
        "whole_before": figures(31, 80, 0.3, 0.5),
        "whole_after": figures(21, 80, 0.2, 0.4),
    }
    assert recovered(cell(reference=reference, **whole)) == pytest.approx(-10 / 20)
    assert recovered(cell(reference=figures(11, 80, 0.1, 0.2))) is None


def test_precision_and_recall() -> None:
    assert HarmfulHits(hits=1, removed=4, known=2).precision == 0.25
    assert HarmfulHits(hits=1, removed=4, known=2).recall == 0.5
    assert HarmfulHits(hits=0, removed=0, known=2).precision is None


def test_a_kept_cell_comes_back_as_it_was_and_only_for_its_recipe(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path))
    store = CellStore(tmp_path / "cells")
    store.check_writable()
    assert store.load(recipe) is None
    given = cell(recipe.digest)
    store.save(recipe, given, MASK)
    assert store.load(recipe) == given
    assert sorted(path.name for path in store.folder.iterdir()) == ["quick.json", "quick.mask.json"]
    stored = json.loads(store.path(recipe).read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name))
    assert stored["before"]["loss_stderr"] is None
    assert store.load(read_recipe(write(tmp_path, max_removed="max_removed = 3"))) is None


def test_cells_of_earlier_versions_are_read_with_every_value() -> None:
    store, recipes = CellStore(ASSETS / "results" / "smollm2"), find_suite("smollm2").recipes
    for recipe in recipes:
        found = store.load(recipe)
        assert found is not None, recipe.name
        stored = json.loads(store.path(recipe).read_text(encoding="utf-8").replace("random-count", "random-per-matrix"))
        assert_holds(json.loads(found.to_json()), stored)
    assert len(recipes) > 20


def assert_holds(found: Any, stored: Any) -> None:
    """Everything that is stored is there; what was not written yet has its default."""
    if isinstance(stored, dict):
        for name, value in stored.items():
            assert_holds(found[name], value)
    else:
        assert found == stored


@pytest.mark.parametrize("text", ["", "{", "[]", '{"recipe": "quick"}', "\ufeff{}"])
def test_a_damaged_cell_is_measured_again(tmp_path: Path, text: str) -> None:
    recipe = read_recipe(write(tmp_path))
    store = CellStore(tmp_path)
    store.path(recipe).write_text(text, encoding="utf-8")
    assert store.load(recipe) is None


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"cannot be written .*: choose another --out\."):
        CellStore(tmp_path / "file" / "cells").check_writable()
