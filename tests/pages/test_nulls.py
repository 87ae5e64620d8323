"""One mask, one control, one seed: Prune, `eval` and the report of a search draw the same masks and say the same."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from explorer.attribution import Scores
from explorer.masks.mask import Mask
from explorer.measure.evaluate import Evaluation, evaluate
from explorer.models import View
from explorer.search import mask_cells
from explorer.search import report as reports
from explorer.search.outcome import Budget
from explorer.search.problem import Problem
from explorer.tasks import load_task
from tests.commands import run
from tests.pages.app import Engine, captions, click, mask_in, open_page, settled

DRAWS = 20


def drawn_by_hand(scores: Scores, mask: Mask, seed: int) -> set[tuple[str, int]]:
    """As many values of each matrix as the mask has, by Python's own sampling."""
    lots = Random(seed)
    return {
        (str(key), index)
        for key, removed in mask.by_matrix.items()
        for index in lots.sample(range(len(scores.matrices[key].s)), len(removed))
    }


def in_force(view: View) -> set[tuple[str, int]]:
    """The values that the view's weights lack."""
    parts = [part for _, _, parts in view.applied.values() for part in parts]
    return {(str(key), one.index) for key, removed in parts for one in removed}


def test_prune_eval_and_search_have_one_null(
    engine: Engine, scores: Scores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = click(open_page("Prune"), "remove-lowest")
    app.button_group(key="split").set_value("test")
    app = click(settled(app.run()), "controls")
    mask = mask_in(app)
    mask.save(tmp_path / "m.json")

    words = ("eval", "--model", "bundled", "--task", "int-mult", "--mask", tmp_path / "m.json", "--json")
    found = json.loads(run(*words, "--controls", DRAWS).stdout)["controls"]
    assert (found["strategy"], found["draws"]) == ("random-per-matrix", DRAWS)

    measured: list[set[tuple[str, int]]] = []

    def watched(view: View, *rest: Any, **options: Any) -> Evaluation:
        measured.append(in_force(view))
        return evaluate(view, *rest, **options)

    monkeypatch.setattr(mask_cells, "evaluate", watched)
    task = load_task("int-mult")
    problem = Problem(engine.view, task, engine.svds, tuple(scores.matrices), Budget(4))
    control_names = ("random-per-matrix",)
    strategy = lambda given: given.measure(mask)  # noqa: E731
    report = reports.search(
        problem, task, "by hand", strategy, evidence=reports.Evidence(control_draws=DRAWS, control_names=control_names)
    )
    runs = report.controls["random-per-matrix"]

    assert {(one.matrix, one.index) for one in report.mask.removed} == {(o.matrix, o.index) for o in mask.removed}
    assert measured[-DRAWS:] == [drawn_by_hand(scores, mask, seed) for seed in range(DRAWS)]
    assert [one.accuracy for one in runs.runs] == found["accuracy"]
    assert [one.mean_loss.value for one in runs.runs] == pytest.approx(found["loss"], rel=1e-6)
    assert found["percentile"] == {"accuracy": runs.accuracy_percentile, "loss": runs.loss_percentile}
    low, high = (100 * end(found["accuracy"]) for end in (min, max))
    assert f"random-per-matrix: {low:.1f} to {high:.1f} %" in captions(app)
    assert f"percentile {runs.accuracy_percentile:.0f}" in captions(app)


def test_a_pool_is_one_pool_in_commands_and_in_searches(engine: Engine, scores: Scores, tmp_path: Path) -> None:
    task, mask = load_task("int-mult"), engine.lowest(scores, 4)
    mask.save(tmp_path / "m.json")
    words = ("eval", "--model", "bundled", "--task", "int-mult", "--mask", tmp_path / "m.json", "--json")
    found = json.loads(run(*words, "--controls", 5, "--control", "random-pool").stdout)["controls"]
    implied = json.loads(run(*words, "--controls", 5, "--control-kinds", "Q,K").stdout)["controls"]
    problem = Problem(engine.view, task, engine.svds, tuple(scores.matrices), Budget(4))
    evidence = reports.Evidence(control_draws=5, control_names=("random-pool",))
    report = reports.search(problem, task, "by hand", lambda given: given.measure(mask), evidence=evidence)
    runs = report.controls["random-pool"].runs
    kinds = {one.key.kind for one in mask.removed}
    if kinds == {key.kind for key in scores.matrices}:
        assert found == implied
    assert (implied["strategy"], implied["loss"]) == ("random-pool", [one.mean_loss.value for one in runs])
