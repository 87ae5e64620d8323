"""Suites run with the ordinary searches, keep their cells, go on, and say what cannot be had."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from explorer.core.errors import SettingsError
from explorer.experiments.finetune import Training
from explorer.experiments.reproduce import run as runs
from explorer.experiments.reproduce.cells import CellStore
from explorer.experiments.reproduce.models import Models
from explorer.experiments.reproduce.recipe import read_recipe
from explorer.experiments.reproduce.run import Runner, in_order
from explorer.experiments.reproduce.suites import find_suite
from explorer.masks.apply import apply
from explorer.masks.mask import load_mask
from explorer.measure.evaluate import evaluate
from explorer.models import Model, load
from explorer.search.request import SearchRequest
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task, load_task
from tests.commands import refused, report
from tests.commands import run as command
from tests.unit.reproduce.recipes import QUICK, write

RELEASED = (
    QUICK.split("[strategy]")[0] + '[strategy]\nname = "as-released"\nkinds = "K"\nfraction = 0.05\nbatch_size = 5\n'
)
RELEASED = RELEASED.replace("validation_limit = 10\n", "")
GONE = 'source = "nobody/no-such-model"\nrevision = "abc"'


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client asks nobody."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def runner(tmp_path: Path, svds: SvdCache) -> Runner:
    return Runner(CellStore(_made(tmp_path / "cells")), Models(tmp_path / "models"), svds)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def suite(tmp_path: Path) -> Path:
    """As released and by a search, and one whose model cannot be had."""
    folder = tmp_path / "suite"
    published = "\n[published]\nbefore = 0\nafter = 90\nn = 12\ntolerance = 9\n"
    write(folder, QUICK + published, name="a-quick")
    write(folder, RELEASED + published, name="b-released")
    write(folder, QUICK.replace('"small"', '"gone"') + published, name="c-gone", source=GONE, label='label = "Gone"')
    return folder


def test_a_search_cell_is_what_search_and_evaluate_give(
    runner: Runner, tmp_path: Path, bundled: Model, svds: SvdCache
) -> None:
    recipe = read_recipe(write(tmp_path, QUICK + "\n[truth]\nvalues = [{ matrix = 'L0.K.H3', index = 0 }]\n"))
    outcome = runner.run(recipe)
    cell = outcome.cell
    assert cell is not None
    assert (cell.model_digest, cell.basis, cell.source) == (bundled.digest, "raw", "bundled")
    mask = load_mask(tmp_path / "cells" / "quick.mask.json")
    assert (len(mask), mask.digest) == (cell.removed, cell.mask_digest)
    task, view = load_task("int-mult"), bundled.view()
    assert cell.before.as_dict() == evaluate(view, task, "test", limit=12).as_dict()
    apply(view, mask, svds)
    assert cell.after.as_dict() == evaluate(view, task, "test", limit=12).as_dict()
    assert set(cell.controls) == {"random-per-matrix", "smallest", "largest"}
    assert (cell.controls["random-per-matrix"].draws, cell.controls["largest"].draws) == (2, 1)
    assert cell.found is not None
    assert cell.found.hits == sum((one.matrix, one.index) == ("L0.K.H3", 0) for one in mask.removed)


def test_a_released_cell_is_what_the_released_preset_gives(runner: Runner, tmp_path: Path, svds: SvdCache) -> None:
    from explorer.core.keys import Kind
    from explorer.search.released import ReleasedRequest, ReleasedSettings, run_released

    outcome = runner.run(read_recipe(write(tmp_path, RELEASED)))
    cell = outcome.cell
    assert cell is not None
    view = load("bundled", basis="folded", dtype="float32").view()
    request = ReleasedRequest([Kind.K], ReleasedSettings(0.05, 5), limit=24, test_limit=12, control_draws=2)
    wanted = run_released(view, load_task("int-mult"), svds, request)
    assert (cell.basis, cell.model_digest) == ("folded", view.model.digest)
    assert cell.mask_digest == wanted.mask.digest
    assert cell.before.as_dict() == wanted.baseline.as_dict()
    assert cell.after.as_dict() == wanted.test.as_dict()
    assert cell.averaged is None  # no value of O: the mask is as released
    assert wanted.averaged_test is None
    runs = wanted.controls["random-per-matrix"].runs
    assert cell.controls["random-per-matrix"].accuracy == tuple(one.accuracy for one in runs)


def test_shots_are_measured_on_the_unpruned_model(runner: Runner, tmp_path: Path, bundled: Model) -> None:
    cell = runner.run(read_recipe(write(tmp_path, test_limit="test_limit = 12\nreference_shots = 2"))).cell
    assert cell is not None
    assert cell.reference is not None
    wanted = evaluate(bundled.view(), load_task("int-mult", shots=2), "test", limit=12)
    assert cell.reference.as_dict() == wanted.as_dict()


@pytest.mark.slow
def test_a_fine_tuned_cell_is_pruned_after_training_that_is_done_once(
    runner: Runner, tmp_path: Path, bundled: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    import explorer.experiments.finetune

    asked: list[dict[str, Any]] = []
    real = explorer.experiments.finetune.finetune

    def watched(model: Model, task: Task, training: Training, **options: Any) -> Any:
        asked.append({"digest": model.digest, **asdict(training)})
        return real(model, task, training, **options)

    monkeypatch.setattr(explorer.experiments.finetune, "finetune", watched)
    tuned = "\n[finetune]\nlearning_rate = 0.001\n"
    first = runner.run(read_recipe(write(tmp_path, QUICK + tuned, name="first"))).cell
    second = runner.run(read_recipe(write(tmp_path, RELEASED + tuned, name="second"))).cell
    assert first is not None
    assert second is not None
    (one,) = asked
    assert (one["digest"], one["optimizer"], one["learning_rate"], one["limit"]) == (bundled.digest, "adam", 0.001, 24)
    (folder,) = (tmp_path / "models").iterdir()
    assert first.model_digest == load(str(folder), dtype="float32").digest != bundled.digest
    assert second.model_digest == load(str(folder), basis="folded", dtype="float32").digest
    assert bundled.current_digest() == bundled.digest


def test_kept_cells_are_not_measured_again_until_something_has_changed(
    runner: Runner, tmp_path: Path, svds: SvdCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = runner.run(read_recipe(write(tmp_path)))
    assert not first.kept
    monkeypatch.setattr(runs, "conduct", lambda *_, **__: pytest.fail("measured again"))
    monkeypatch.setattr("explorer.experiments.reproduce.models.load", lambda *_, **__: pytest.fail("loaded again"))
    again = runner.run(read_recipe(write(tmp_path)))
    assert (again.kept, again.cell) == (True, first.cell)
    store = CellStore(tmp_path / "cells")
    changed = [
        (Runner(store, Models(tmp_path), svds, fresh=True), {}),
        (Runner(store, Models(tmp_path, {"small": str(tmp_path / "other")}), svds), {}),
        (Runner(store, Models(tmp_path), svds), {"max_removed": "max_removed = 3"}),
    ]
    for other, replaced in changed:
        with pytest.raises(pytest.fail.Exception, match="loaded again"):
            other.run(read_recipe(write(tmp_path, **replaced)))


def test_a_suite_that_is_stopped_keeps_what_is_finished_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "suite"
    for name in ("a", "b", "c"):
        write(folder, name=name, max_removed=f"max_removed = {ord(name) - ord('a') + 1}")
    real, names = runs.conduct, []

    def stopped(request: SearchRequest, *given: Any, **further: Any) -> Any:
        names.append(request.max_removed)
        if request.max_removed == 2 and names.count(2) == 1:
            raise KeyboardInterrupt
        return real(request, *given, **further)

    monkeypatch.setattr(runs, "conduct", stopped)
    out = tmp_path / "out"
    assert command("reproduce", folder, "--out", out).exit_code == 130
    assert [path.name for path in sorted(out.glob("?.json"))] == ["a.json"]
    before = (out / "a.json").read_bytes()
    found = report("reproduce", folder, "--out", out)
    assert [one["status"] for one in found["cells"]] == ["kept", "measured", "measured"]
    assert names == [1, 2, 2, 3]
    assert (out / "a.json").read_bytes() == before


def test_half_a_search_is_no_cell(runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(problem: Any) -> None:
        problem.start()
        raise KeyboardInterrupt

    monkeypatch.setitem(runs.SEARCHES, "paper", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.run(read_recipe(write(tmp_path)))
    assert not list((tmp_path / "cells").iterdir())


def test_a_suite_runs_what_can_be_had_and_says_how_to_get_the_rest(tmp_path: Path, offline: None) -> None:
    folder, out = suite(tmp_path), tmp_path / "out"
    result = command("reproduce", folder, "--out", out)
    assert result.exit_code == 3
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("c-gone: "))
    assert "`hf download nobody/no-such-model --revision abc`" in line
    assert "--local nobody/no-such-model=FOLDER" in line
    assert "2 of 3 cells are in" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    found = command("reproduce", folder, "--out", out, "--json")
    assert found.exit_code == 3
    cells = {one["recipe"]: one for one in json.loads(found.stdout)["cells"]}
    assert [cells[name]["status"] for name in ("a-quick", "b-released", "c-gone")] == ["kept", "kept", "missing"]
    assert cells["a-quick"]["verdict"]["before_inside"] is True
    assert cells["c-gone"]["cell"] is cells["c-gone"]["verdict"] is None
    local = command("reproduce", folder, "--out", out, "--local", "gone=bundled", "--json")
    assert local.exit_code == 0
    assert [one["status"] for one in json.loads(local.stdout)["cells"]] == ["kept", "kept", "measured"]
    assert "Gone was taken from bundled." in command("reproduce", folder, "--out", out, "--show").stdout


def test_a_model_that_cannot_be_had_is_asked_for_once(
    tmp_path: Path, svds: SvdCache, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import explorer.experiments.reproduce.models as place

    asked, real = [], place.load

    def watched(name: str, **options: Any) -> Model:
        asked.append(name)
        return real(name, **options)

    monkeypatch.setattr(place, "load", watched)
    one = Runner(CellStore(tmp_path), Models(tmp_path), svds)
    reasons = {one.run(read_recipe(write(tmp_path, name=name, source=GONE))).reason for name in ("a", "b", "c")}
    assert len(reasons) == 1
    assert asked == ["nobody/no-such-model@abc"]


def test_tasks_without_their_data_say_so(tmp_path: Path, offline: None) -> None:
    path = write(tmp_path, QUICK.replace('"int-mult"', '"cb"'))
    result = command("reproduce", path, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 3
    (one,) = json.loads(result.stdout)["cells"]
    assert one["reason"].startswith("needs --data: cb could not be had from the hub's ")
    wrong = command("reproduce", path, "--out", tmp_path / "out", "--data", tmp_path, "--json")
    assert json.loads(wrong.stdout)["cells"][0]["reason"].startswith(f"needs --data: {tmp_path} has no cb/train.jsonl")


def test_what_a_method_refuses_is_a_reason_too(runner: Runner, tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, RELEASED.replace("fraction = 0.05", "fraction = 0.0001")))
    reason = runner.run(recipe).reason
    assert reason is not None
    assert "is less than one value" in reason


def test_markdown_json_and_text_say_what_is_kept(tmp_path: Path, offline: None) -> None:
    folder, out = suite(tmp_path), tmp_path / "out"
    ran = command("reproduce", folder, "--out", out, "--markdown")
    shown = command("reproduce", folder, "--out", out, "--show", "--markdown")
    assert (ran.exit_code, shown.exit_code) == (3, 0)
    assert ran.stdout == shown.stdout
    assert "c-gone: 'nobody/no-such-model' is not on this machine" in ran.stderr
    lines = [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in shown.stdout.splitlines()]
    columns, rule, *table = lines
    assert rule == ["---"] * len(columns)
    quick, gone = (dict(zip(columns, row, strict=True)) for row in table)
    assert (quick["model"], gone["model"]) == ("Small \\| one", "Gone")
    assert "task" not in columns  # all rows have the same
    kept = {name: json.loads((out / f"{name}.json").read_text(encoding="utf-8")) for name in ("a-quick", "b-released")}
    assert quick["published"] == "0.00 -> 90.00 % (n = 12)"
    for column, name, which in (
        ("before", "b-released", "before"),
        ("as released", "b-released", "after"),
        ("corrected", "a-quick", "after"),
    ):
        figures = kept[name][which]
        low, high = (f"{100 * bound:.1f}" for bound in figures["accuracy_interval"])
        assert quick[column] == f"{100 * figures['accuracy']:.1f} % [{low}, {high}] (n = 12)"
    draws = sorted(kept["a-quick"]["controls"]["random-per-matrix"]["accuracy"])
    assert f"({100 * draws[0]:.1f} % to {100 * draws[-1]:.1f} %)" in quick["controls, corrected"]
    assert {value for column, value in gone.items() if column not in ("model", "published")} == {"-"}
    cells = {one["recipe"]: one for one in report("reproduce", folder, "--out", out, "--show")["cells"]}
    assert cells["a-quick"]["cell"]["after"] == kept["a-quick"]["after"]
    assert cells["c-gone"]["status"] == "missing"
    text = command("reproduce", folder, "--out", out, "--show").stdout
    assert "published value inside our interval" in " ".join(text.split())


def test_several_strategies_of_one_task_have_a_row_each(tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    write(folder, name="a", max_removed="max_removed = 2\n[truth]\nvalues = [{ matrix = 'L0.K.H3', index = 0 }]")
    write(folder, name="b", max_removed="max_removed = 1", test_limit="test_limit = 12\nreference_shots = 1")
    columns, _, *rows = command("reproduce", folder, "--out", tmp_path / "out", "--markdown").stdout.splitlines()
    assert columns == (
        "| strategy | removed | before | after | loss before | loss after | random-per-matrix | smallest | "
        "largest | with shots | ability recovered | precision | recall |"
    )
    assert len(rows) == 2


def test_recipes_of_one_model_and_basis_come_together(tmp_path: Path) -> None:
    found = in_order(find_suite("paper").recipes)
    keys = [(one.model.name, one.task.name if one.finetune else None, one.released) for one in found]
    assert len(set(keys)) == sum(a != b for a, b in zip(keys, [None, *keys], strict=False))
    assert sorted(one.name for one in found) == sorted(one.name for one in find_suite("paper").recipes)


# ------------------------------------------------------------------------------------------- the command's words


def test_without_a_suite_the_suites_are_listed() -> None:
    found = {one["name"]: one for one in report("reproduce")["suites"]}
    assert {name: one["cells"] for name, one in found.items()} == {
        name: len(find_suite(name).recipes) for name in ("bundled", "paper", "smollm2")
    }
    assert "eigenprune reproduce SUITE" in command("reproduce").stdout


def test_what_cannot_be_used_is_said_in_a_sentence(tmp_path: Path) -> None:
    write(tmp_path / "one", max_removed='scorer = "guess"')
    write(tmp_path / "two", QUICK.replace('"paper"', '"luck"'))
    write(tmp_path / "three", name="a")
    (tmp_path / "three" / "b.toml").write_bytes((tmp_path / "three" / "a.toml").read_bytes())
    (tmp_path / "four").mkdir()
    assert refused("reproduce", "nothing").startswith(
        "'nothing' is neither a suite nor a file: choose one of bundled, "
    )
    assert "strategy.scorer 'guess' is not known: choose one of gradient" in refused("reproduce", tmp_path / "one")
    assert "strategy.name 'luck' is not known: choose one of as-released, paper" in refused(
        "reproduce", tmp_path / "two"
    )
    assert "has 2 recipes of the name 'a'" in refused("reproduce", tmp_path / "three")
    assert "holds no .toml file" in refused("reproduce", tmp_path / "four")
    assert refused("reproduce", "paper", "--model", "gpt3") == (
        "paper has no recipe for model 'gpt3': choose from model: gpt2, gpt2-finetuned, phi-2."
    )
    assert "give NAME=PLACE with one of bundled" in refused("reproduce", "bundled", "--local", "gpt2=x")
    both = command("reproduce", "bundled", "--show", "--json", "--markdown")
    assert both.exit_code == 2


def test_suites_are_chosen_by_model_task_and_strategy() -> None:
    paper = find_suite("paper")
    assert len(paper.only(model="gpt2").recipes) == 10
    assert len(paper.only(model="openai-community/gpt2", task="cb").recipes) == 4
    assert [one.name for one in paper.only("phi-2", "rte", "as-released").recipes] == ["phi-2-rte-as-released"]
    with pytest.raises(SettingsError, match="no recipe for model 'phi-2' and task 'ioi'"):
        paper.only(model="phi-2", task="ioi")
