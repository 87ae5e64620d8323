"""The command line in this process: what it prints for programs and for people, and how it refuses."""

from __future__ import annotations

import ast
import inspect
import io
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import explorer
import explorer.cli.launch
import explorer.models
from explorer.actions.activations import ActivationsResult
from explorer.actions.effects import EffectsResult
from explorer.actions.evaluate import EvaluateResult
from explorer.actions.finetune import FinetuneResult
from explorer.actions.mask_files import CombineResult, DiffResult, MaskResult, ScaleResult
from explorer.actions.masks import DamageResult, TransferResult
from explorer.actions.models import FidelityResult, ModelEntry, ModelsResult
from explorer.actions.readout import ReadoutResult
from explorer.actions.scoring import CurveResult, PruneResult, Score, ScoreResult
from explorer.actions.spectra import (
    CheckpointRow,
    ListMatrices,
    MatricesResult,
    ShowCheckpoint,
    ShowSpectra,
    SpectraResult,
)
from explorer.actions.tasks import TaskResult, TasksResult, ValidateResult
from explorer.attribution import SCORERS, Options, score
from explorer.attribution.pace import Pace
from explorer.cli import app, console
from explorer.cli.parse import read
from explorer.cli.scoring import show_scores
from explorer.core.config import DTYPES, settings
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask, Mode, load_mask
from explorer.measure.evaluate import Comparison, evaluate
from explorer.models import NAMED, Model
from explorer.models.fetching import SMOLLM2, FetchedModel
from explorer.models.matrices import matrices, shape
from explorer.search import SEARCHES, STRATEGIES, mask_of, prune
from explorer.search.control_pool import ControlPool
from explorer.search.controls import beaten
from explorer.spectra.cache import SvdCache
from explorer.tasks import SPLITS, TASKS, load_task
from tests import plain, tiny
from tests.commands import keys_of, refused, report, run

GROUPS = ("models", "tasks", "mask", "study", "cache")
FIGURES = {
    "accuracy", "accuracy_interval", "choice", "exact", "guessing", "loss", "loss_stderr", "majority", "metric", "n",
    "removed",
}  # fmt: skip
COMMANDS = {
    ("models", "list"): ModelsResult,
    ("models", "fetch"): ModelEntry,
    ("models", "check"): FidelityResult,
    ("tasks", "list"): TasksResult,
    ("tasks", "show"): TaskResult,
    ("tasks", "validate"): ValidateResult,
    ("matrices",): MatricesResult,
    ("spectra",): SpectraResult,
    ("spectrum",): CheckpointRow,
    ("readout",): ReadoutResult,
    ("activations",): ActivationsResult,
    ("score",): ScoreResult,
    ("effects",): EffectsResult,
    ("prune",): PruneResult,
    ("curve",): CurveResult,
    ("eval",): EvaluateResult,
    ("finetune",): FinetuneResult,
    ("mask", "show"): MaskResult,
    ("mask", "diff"): DiffResult,
    ("mask", "union"): CombineResult,
    ("mask", "intersect"): CombineResult,
    ("mask", "vote"): CombineResult,
    ("mask", "scale"): ScaleResult,
    ("mask", "subtract"): CombineResult,
    ("mask", "transfer"): TransferResult,
    ("mask", "damage"): DamageResult,
    ("app",): None,
}


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    """The tiny task as a .jsonl file with named splits."""
    task = tiny.task()
    rows = [
        {"prompt": example.prompt, "answer": example.answer, "split": split}
        for split in SPLITS
        for example in task.split(split)
    ]
    path = tmp_path / "tiny.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def common(folder: Path, tiny_file: Path) -> tuple[str, ...]:
    """The options that every command about a task has."""
    return ("--model", str(folder), "--task", str(tiny_file))


@pytest.fixture
def mask_file(model: Model, tiny_file: Path, tmp_path: Path) -> Path:
    """A mask that removes three Q and K values of the tiny model."""
    task = load_task(str(tiny_file))
    mask = prune(model.view(), task, SvdCache(None), kinds=[Kind.Q, Kind.K], count=3)
    path = tmp_path / "made.json"
    mask.save(path)
    return path


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model fails the test: what is refused must be refused before that."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("explorer.models.load", load)


# ------------------------------------------------------------------------------------------------------- help


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_has_one_example_that_the_command_line_understands(words: tuple[str, ...]) -> None:
    text = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "400", "TERMINAL_WIDTH": "400"}).stdout
    (example,) = re.findall(r"Example: eigenprune (.*)", text)
    given = shlex.split(example)
    assert tuple(given[: len(words)]) == words
    # The parser refuses unknown options and bad values even when help is asked for.
    assert run(*given, "--help").exit_code == 0


@pytest.mark.parametrize(("words", "keys"), COMMANDS.items(), ids=[" ".join(words) for words in COMMANDS])
def test_help_names_the_keys_of_the_json(words: tuple[str, ...], keys: type | None) -> None:
    flat = " ".join(run(*words, "--help").stdout.split())
    if keys is None:
        assert "--json" not in flat
    else:
        assert f"Keys of --json: {', '.join(keys_of(keys))}." in flat


def test_the_first_help_names_commands_and_exit_codes() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert run().stdout == result.stdout
    for word in ("Exit codes", "130", *(words[0] for words in COMMANDS)):
        assert word in result.stdout


def test_options_name_every_entry_of_the_tables() -> None:
    text = " ".join(run("prune", "--help").stdout.replace("│", " ").split())
    for name in (*SCORERS, *STRATEGIES, *get_args(Mode), *Kind, *DTYPES, *NAMED):
        assert re.search(rf"\b{name}\b", text), name
    assert all(split in run("eval", "--help").stdout for split in SPLITS)


# ---------------------------------------------------------------------------------------------- models and tasks


def test_models_list_tells_what_is_on_this_machine(isolated_folders: Path) -> None:
    found = {entry["name"]: entry for entry in report("models", "list")["models"]}
    assert list(found) == list(NAMED)
    assert found["smollm2-135m"]["available"] is False
    assert Path(found["smollm2-135m"]["folder"]).is_relative_to(isolated_folders)
    assert found["bundled"]["available"] is (Path(found["bundled"]["folder"]) / "config.json").is_file()
    table = run("models", "list").stdout
    assert "bundled" in table
    assert "models fetch" in table


def test_models_fetch_puts_a_model_into_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fetch(model: FetchedModel, folder: Path, progress: Callable[[int, int], None]) -> None:
        assert model is small
        print("a library talks")
        progress(1, 2)
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    small = replace(SMOLLM2, name="small")
    monkeypatch.setattr(explorer.models.fetching, "fetch", fetch)
    monkeypatch.setitem(
        NAMED, "small", explorer.models.sources.NamedModel("a test", lambda _: tmp_path / "small", small)
    )
    result = run("models", "fetch", "small", "--json")
    assert json.loads(result.stdout) == {
        "name": "small",
        "summary": "a test",
        "available": True,
        "folder": str(tmp_path / "small"),
        "full_name": "small",
        "terms": None,
    }
    assert "a library talks" in result.stderr
    assert run("models", "fetch", "small").stdout == f"small is in {tmp_path / 'small'}\n"


@pytest.mark.slow
def test_tasks_list_gives_sizes_and_a_sample() -> None:
    found = {entry["name"]: entry for entry in report("tasks", "list")["tasks"]}
    assert list(found) == list(TASKS)
    assert found["int-mult"]["sizes"] == {"train": 280, "validation": 41, "test": 79}
    left, right = re.fullmatch(r"(\d+) x (\d+) =", found["int-mult"]["sample"]["prompt"]).groups()
    assert found["int-mult"]["sample"]["answer"] == f" {int(left) * int(right)}"
    assert "int-sum" in run("tasks", "list").stdout


# ----------------------------------------------------------------------------------------------------- weights


def test_matrices_have_the_shapes_of_the_architecture(arch: str, folder: Path) -> None:
    found = report("matrices", "--model", folder, "--stacked")
    assert found["basis"] == "raw"
    assert {entry["matrix"]: tuple(entry["shape"]) for entry in found["matrices"]} == {
        f"L{layer}.{kind}": shape for layer in range(tiny.LAYERS) for kind, shape in tiny.SHAPES[arch].items()
    }
    assert all(entry["rank"] == min(entry["shape"]) for entry in found["matrices"])


@pytest.mark.slow
def test_matrices_are_listed_per_head_and_by_kind(arch: str, folder: Path) -> None:
    found = [entry["matrix"] for entry in report("matrices", "--model", folder, "--kinds", "k,Q")["matrices"]]
    heads = [f"Q.H{h}" for h in range(tiny.Q_HEADS[arch])] + [f"K.H{h}" for h in range(tiny.KV_HEADS[arch])]
    assert found == [f"L{layer}.{name}" for layer in range(tiny.LAYERS) for name in heads]
    table = run("matrices", "--model", folder, "--kinds", "k,Q").stdout
    assert [line.split()[0] for line in table.splitlines() if " L" in line] == found


def test_spectra_are_those_of_numpy(folder: Path, plain64: Any) -> None:
    names = ["L1.K.H1", "L0.OUT"]
    found = report("spectra", "--model", folder, "--matrix", names[0], "--matrix", names[1], "--matrix", names[0])
    assert [entry["matrix"] for entry in found["spectra"]] == names
    for entry in found["spectra"]:
        _, s, _ = plain.svd(plain64, MatrixKey.parse(entry["matrix"]))
        assert entry["singular_values"] == pytest.approx(s, rel=1e-5)
        assert entry["cumulative_energy"] == pytest.approx(np.cumsum(s**2) / np.sum(s**2), rel=1e-5)
        assert entry["frobenius_norm"] == pytest.approx(np.sqrt(np.sum(s**2)), rel=1e-5)
        assert entry["spectral_norm"] == pytest.approx(s[0], rel=1e-5)
        assert entry["stable_rank"] == pytest.approx(np.sum(s**2) / s[0] ** 2, rel=1e-5)
        share = s / s.sum()
        assert entry["effective_rank"] == pytest.approx(np.exp(-np.sum(share * np.log(share))), rel=1e-5)
        assert (entry["rank"], entry["null_count"]) == (len(s), 0)
        close = [i for i in range(len(s) - 1) if (s[i] - s[i + 1]) / s[i] < 1e-2]
        assert sorted({j for i in close for j in (i, i + 1)}) == sorted(chain.from_iterable(entry["degenerate_blocks"]))


def test_the_table_of_a_spectrum_stops_where_it_is_told(folder: Path) -> None:
    text = run("spectra", "--model", folder, "--matrix", "L0.IN", "--top", "2").stdout
    rows = [line.split() for line in text.splitlines() if re.match(r" +\d+ ", line)]
    values = report("spectra", "--model", folder, "--matrix", "L0.IN")["spectra"][0]["singular_values"]
    assert [(int(row[0]), float(row[1])) for row in rows] == [(i, pytest.approx(values[i], rel=1e-5)) for i in range(2)]
    assert f"{len(values) - 2} smaller values of L0.IN not shown" in text


def test_a_damaged_cache_entry_is_a_notice_beside_the_result(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EIGENPRUNE_CACHE", str(tmp_path / "cache"))  # others go on to use theirs
    settings.cache_clear()
    words = ("spectra", "--model", folder, "--matrix", "L1.V")
    before = report(*words)
    entries = sorted((settings().cache_dir / "svd").glob("*.safetensors"))
    assert entries
    for entry in entries:
        entry.write_bytes(b"damaged")
    result = run(*words, "--json")
    assert json.loads(result.stdout) == before
    notice = "Cached decompositions were damaged: what is missing now is computed again."
    assert notice in result.stderr.splitlines()


# ------------------------------------------------------------------------------------------------ score and prune


def test_chosen_values_of_size_zero_are_said(tmp_path: Path, tiny_file: Path) -> None:
    folder = tiny.save("gpt2", tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if name.endswith("mlp.c_proj.weight")]:
        ends = (torch.linspace(1.0, 2.0, size) ** 1.5 for size in weights[name].shape)
        weights[name] = torch.outer(*ends)  # of rank 1, but for rounding
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    said = ("prune", "--model", folder, "--task", tiny_file, "--limit", 2, "--out", tmp_path / "m.json", "--count", 8)
    result = run(*said, "--kinds", "OUT")
    removed = load_mask(tmp_path / "m.json").removed
    null = [one for one in removed if one.index > 0]
    assert result.exit_code == 0
    assert len(removed) == 8
    assert f"{len(null)} of the 8 chosen values, such as" in result.stderr
    assert "have size zero: removing them does nothing." in result.stderr
    assert "size zero" not in run(*said, "--kinds", "Q").stderr


def test_values_that_are_exactly_zero_cannot_be_chosen(tmp_path: Path, tiny_file: Path) -> None:
    folder = tiny.save("gpt2", tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if name.endswith("mlp.c_proj.weight")]:
        weights[name] = torch.zeros_like(weights[name])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    said = ("prune", "--model", folder, "--task", tiny_file, "--limit", 2, "--out", tmp_path / "m.json", "--count", 2)
    result = run(*said, "--kinds", "OUT")
    assert (result.exit_code, result.stderr.count("2 values cannot be removed: choose 0 to 0")) == (2, 1)


@pytest.mark.slow
@pytest.mark.parametrize("scorer", [name for name in SCORERS if name != "as-released"])  # needs prompts of one length
@pytest.mark.parametrize("mode", get_args(Mode))
def test_scores_are_the_engines_most_harmful_first(
    scorer: str, mode: Mode, model: Model, common: tuple[str, ...], tiny_file: Path
) -> None:
    options = ("--scorer", scorer, "--mode", mode, "--limit", 4, "--seed", 5, "--stacked")
    found = report("score", *common, "--kinds", "K,OUT", *options)
    view, task = model.view(), load_task(str(tiny_file), 5)
    keys = matrices(view, (Kind.K, Kind.OUT), per_head=False)
    scores = score(view, task, SvdCache(None), keys, scorer=scorer, mode=mode, limit=4, seed=5)
    values = found["values"]
    assert {"n": found["n"], "seed": found["seed"], "split": found["split"]} == {"n": 4, "seed": 5, "split": "train"}
    assert (found["scorer"], found["mode"], found["loss"]) == (scorer, mode, scores.loss)
    assert found["model_digest"] == model.digest
    assert [value["score"] for value in values] == sorted(value["score"] for value in values)
    assert len(values) == scores.size
    for value in values:
        key, index = MatrixKey.parse(value["matrix"]), value["index"]
        assert value["score"] == float(scores.matrices[key].score[index])
        assert (value["sigma"], value["c"]) == (
            float(scores.matrices[key].s[index]),
            float(scores.matrices[key].c[index]),
        )


@pytest.mark.slow
def test_scores_come_with_errors_and_at_a_mask(
    model: Model, common: tuple[str, ...], tiny_file: Path, mask_file: Path
) -> None:
    words = ("score", *common, "--kinds", "Q", "--scorer", "integrated", "--steps", 2, "--bootstrap", 3)
    found = report(*words, "--mask", mask_file)
    mask, options = load_mask(mask_file), Options(bootstrap=3, steps=2)
    view, task = model.view(), load_task(str(tiny_file))
    keys = matrices(view, (Kind.Q,))
    scores = score(view, task, SvdCache(None), keys, scorer="integrated", mask=mask, options=options)
    assert (found["bootstrap"], found["unit"], found["mask_digest"]) == (3, "nats per example", mask.digest)
    assert found["loss"] == scores.loss
    for value in found["values"]:
        key, index = MatrixKey.parse(value["matrix"]), value["index"]
        one = scores.matrices[key]
        assert one.stderr is not None
        assert (value["score"], value["stderr"]) == (float(one.score[index]), float(one.stderr[index]))
        assert value["removed"] is (index in mask.indices(key))
    assert sum(value["removed"] for value in found["values"]) == sum(one.key.kind is Kind.Q for one in mask.removed)
    text = run(*words, "--mask", mask_file, "--top", 100).stdout
    assert "stderr" in text
    assert "yes" in text
    plain = report("score", *common, "--kinds", "Q")
    assert (plain["bootstrap"], plain["mask_digest"], plain["values"][0]["stderr"]) == (0, None, None)


def test_scores_at_a_mask_are_shown_though_its_file_is_gone(common: tuple[str, ...], mask_file: Path) -> None:
    request = read(Score, [*common, "--kinds", "Q", "--mask", str(mask_file)])
    result = request.run()
    mask_file.unlink()
    show_scores(request, result)
    assert "state" not in result.as_dict()


def test_copied_python_prints_what_json_prints(common: tuple[str, ...], mask_file: Path) -> None:
    for kind, words in (
        (Score, (*common, "--kinds", "Q", "--mask", str(mask_file))),
        (ListMatrices, ("--model", common[1])),
        (ShowSpectra, ("--model", common[1], "--matrix", "L0.Q.H0")),
        (ShowCheckpoint, ("--checkpoint", common[1])),
    ):
        request = read(kind, words)
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(request.as_python(), {})  # noqa: S102 (a text of ours)
        assert printed.getvalue() == run(*request.command.split(), *words, "--json").stdout


def test_the_released_score_takes_its_settings(folder: Path, tmp_path: Path, model: Model) -> None:
    path = tmp_path / "level.jsonl"
    rows = [{"prompt": f"w1 w{i}", "answer": f" w{i + 1} w3", "split": split} for split in SPLITS for i in range(3, 8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ("score", "--model", folder, "--task", path, "--kinds", "K", "--scorer", "as-released")
    found = report(*words, "--batch-size", 2, "--answer-token", 1)
    view, options = model.view(), Options(batch_size=2, answer_token=1)
    keys = matrices(view, (Kind.K,))
    scores = score(view, load_task(str(path)), SvdCache(None), keys, scorer="as-released", options=options)
    assert [value["score"] for value in found["values"]] == [entry[0] for entry in scores.ranking()]
    assert found["unit"] == SCORERS["as-released"].unit != "nats per example"
    result = run(*words, "--batch-size", 0)
    assert result.exit_code == 2
    assert "batch_size is 0: give 1 or more" in result.stderr


@pytest.mark.slow
def test_the_table_of_scores_is_the_head_of_the_ranking(common: tuple[str, ...]) -> None:
    words = ("score", *common, "--kinds", "Q")
    values = report(*words, "--top", 3)["values"]
    assert len(values) > 3
    text = run(*words, "--top", 3).stdout
    rows = [line.split() for line in text.splitlines() if line.startswith(" L")]
    assert [(row[0], int(row[1])) for row in rows] == [(v["matrix"], v["index"]) for v in values[:3]]
    assert "nats per example" in text
    assert "n = 6" in text


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_prune_writes_the_engines_mask(
    strategy: str, model: Model, common: tuple[str, ...], tiny_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "mask.json"
    options = ("--strategy", strategy, "--mode", "zero", "--seed", 3)
    found = report("prune", *common, "--kinds", "Q,K", "--count", 3, "--out", out, *options)
    wanted = prune(
        model.view(),
        load_task(str(tiny_file), 3),
        SvdCache(None),
        kinds=[Kind.Q, Kind.K],
        count=3,
        strategy=strategy,
        mode="zero",
        seed=3,
    )
    written = load_mask(out)
    assert written == wanted
    assert (found["removed"], found["mask_digest"], found["out"]) == (3, wanted.digest, str(out))
    assert [(v["matrix"], v["index"]) for v in found["values"]] == [(r.matrix, r.index) for r in wanted.removed]
    assert found["predicted_change"] == pytest.approx(sum(value["score"] for value in found["values"]))


def test_prune_scales_where_a_gain_is_given(
    model: Model, common: tuple[str, ...], tiny_file: Path, tmp_path: Path
) -> None:
    words = ("prune", *common, "--kinds", "Q,K", "--count", 3, "--gain", 0.25, "--out", tmp_path / "soft.json")
    found = report(*words)
    task = load_task(str(tiny_file))
    wanted = prune(model.view(), task, SvdCache(None), kinds=[Kind.Q, Kind.K], count=3, gain=0.25)
    assert load_mask(tmp_path / "soft.json") == wanted
    assert (wanted.gain, found["gain"], found["mask_digest"]) == (0.25, 0.25, wanted.digest)
    assert found["predicted_change"] == pytest.approx(0.75 * sum(value["score"] for value in found["values"]))
    assert "3 of " in (text := run(*words).stdout)
    assert "scaled to 25 % (freeze)" in text


@pytest.mark.slow
@pytest.mark.parametrize(("gain", "state"), [(0.0, "removed"), (0.5, "scaled to 50 %")])
def test_the_curve_is_what_masks_of_those_sizes_do(
    model: Model, common: tuple[str, ...], tiny_file: Path, tmp_path: Path, gain: float, state: str
) -> None:
    words = ("curve", *common, "--kinds", "Q,K", "--split", "test", "--eval-limit", 2, "--gain", gain)
    found = report(*words, "--counts", "3,1")
    assert set(found) == set(keys_of(CurveResult))
    assert [one["removed"] for one in found["stops"]] == [1, 3]
    for one in found["stops"]:
        assert set(one) == FIGURES | {"loss_change", "predicted_change"}
        out = tmp_path / "mask.json"
        made = report("prune", *common, "--kinds", "Q,K", "--count", one["removed"], "--gain", gain, "--out", out)
        wanted = comparison(model, tiny_file, load_mask(out), split="test", limit=2)
        assert one["loss"] == pytest.approx(wanted.masked.mean_loss.value, rel=1e-5)
        assert one["loss_change"]["value"] == pytest.approx(wanted.loss_change.value, rel=1e-4, abs=1e-6)
        assert (one["n"], one["accuracy"]) == (2, wanted.masked.accuracy)
        assert one["predicted_change"] == made["predicted_change"]
        assert found["scored"] == made["scored"]
    assert found["baseline"]["loss"] == pytest.approx(wanted.baseline.mean_loss.value, rel=1e-5)
    assert (found["split"], found["eval_split"], found["gain"]) == ("train", "test", gain)
    usual = report(*words)["stops"]
    assert (usual[0]["removed"], usual[-1]["removed"]) == (1, found["scored"])
    text = run(*words).stdout
    assert f"lowest-scored values {state}" in " ".join(text.split())
    assert "0 to" in refused(*words, "--counts", 100_000)
    assert report(*words, "--counts", 1, "--scorer", "random")["stops"][0]["predicted_change"] is None


def test_prune_prints_the_command_that_measures_the_mask(common: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "my mask.json"
    words = ("prune", *common, "--kinds", "all", "--count", 2, "--out", out, "--seed", 4, "--dtype", "float64")
    text = run(*words).stdout
    (line,) = (line for line in text.splitlines() if line.startswith("Measure it: "))
    program, *measure = shlex.split(line.removeprefix("Measure it: "))
    assert program == "eigenprune"
    found = report(*measure)
    assert (found["removed"], found["seed"]) == (2, 4)
    assert found["mask_digest"] == load_mask(out).digest
    assert "Predicted change: -" in text


def test_a_random_score_predicts_nothing(common: tuple[str, ...], tmp_path: Path) -> None:
    words = ("prune", *common, "--kinds", "Q", "--count", 2, "--scorer", "random", "--out", tmp_path / "mask.json")
    assert report(*words)["predicted_change"] is None
    assert "Predicted" not in run(*words).stdout


def test_a_mask_that_is_there_is_replaced_whole_or_not_at_all(
    common: tuple[str, ...], mask_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = mask_file.read_bytes()
    words = ("prune", *common, "--kinds", "V", "--count", 1, "--out", mask_file)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        assert "No space left on device" in refused(*words)
    assert mask_file.read_bytes() == before
    assert report(*words)["removed"] == 1
    assert [one.key.kind for one in load_mask(mask_file).removed] == [Kind.V]
    assert list(mask_file.parent.glob(".*.tmp")) == []


@pytest.mark.usefixtures("nothing_loads")
def test_an_unwritable_place_is_refused_before_the_work(common: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out, reason in (
        (tmp_path / "file" / "mask.json", "cannot be written"),
        (tmp_path, "is not a file"),
        (Path(os.devnull), "is not a file"),
    ):
        said = refused("prune", *common, "--kinds", "Q", "--count", 1, "--out", out)
        assert str(out) in said
        assert reason in said


# -------------------------------------------------------------------------------------------------------- eval


def comparison(model: Model, tiny_file: Path, mask: Mask, **options: Any) -> Comparison:
    """The same measurement through the engine."""
    view, svds, task = model.view(), SvdCache(None), load_task(str(tiny_file))
    baseline = evaluate(view, task, **options)
    apply(view, mask, svds)
    return Comparison(evaluate(view, task, **options), baseline)


@pytest.mark.slow
@pytest.mark.parametrize(("split", "limit"), [("test", None), ("validation", None), ("train", 3)])
def test_eval_gives_the_engines_figures(
    split: str, limit: int | None, model: Model, common: tuple[str, ...], tiny_file: Path, mask_file: Path
) -> None:
    limited = () if limit is None else ("--limit", limit)
    found = report("eval", *common, "--mask", mask_file, "--split", split, *limited)
    mask = load_mask(mask_file)
    wanted = comparison(model, tiny_file, mask, split=split, limit=limit)
    figures = {name: found[name] for name in (*wanted.masked.as_dict(), "removed")}
    assert figures == {**wanted.masked.as_dict(), "removed": 3}
    assert found["baseline"] == {**wanted.baseline.as_dict(), "removed": 0}
    assert found["loss_change"] == {"value": wanted.loss_change.value, "stderr": wanted.loss_change.stderr}
    assert found["accuracy_change"]["value"] == wanted.accuracy_change.value
    assert (found["repaired"], found["broken"]) == (len(wanted.repaired), len(wanted.broken))
    assert (found["mode"], found["mask_digest"], found["controls"]) == ("freeze", mask.digest, None)
    assert (found["task"], found["split"], found["model"]) == ("tiny.jsonl", split, common[1])
    assert found["loss"] != found["baseline"]["loss"]
    assert set(found) == set(keys_of(EvaluateResult))
    assert set(found["baseline"]) == FIGURES


@pytest.mark.slow
def test_eval_of_a_softer_mask_and_its_controls(
    model: Model, common: tuple[str, ...], tiny_file: Path, mask_file: Path, tmp_path: Path
) -> None:
    mask = load_mask(mask_file).scaled(0.5)
    mask.save(tmp_path / "half.json")
    words = ("eval", *common, "--mask", tmp_path / "half.json", "--controls", 1, "--seed", 11)
    words += ("--control", "random-pool")
    found = report(*words)
    wanted = comparison(model, tiny_file, mask, split="test")
    assert (found["loss"], found["gain"], found["removed"]) == (wanted.masked.mean_loss.value, 0.5, 3)
    assert report("eval", *common, "--mask", mask_file)["loss"] != found["loss"]
    assert "3 scaled to 50 % (freeze)" in run(*words).stdout
    view, svds, task = model.view(), SvdCache(None), load_task(str(tiny_file))
    scores = score(view, task, svds, matrices(view, {one.key.kind for one in mask.removed}), scorer="random")
    apply(view, mask_of(view, scores, STRATEGIES["random-pool"](scores, 3, 11), gain=0.5), svds)
    assert found["controls"]["loss"] == [evaluate(view, task).mean_loss.value]


@pytest.mark.slow
def test_eval_compares_a_mask_with_another_one(
    model: Model, common: tuple[str, ...], tiny_file: Path, mask_file: Path, tmp_path: Path
) -> None:
    first, half = load_mask(mask_file), load_mask(mask_file).scaled(0.5)
    half.save(tmp_path / "half.json")
    before, after = (comparison(model, tiny_file, mask).masked for mask in (first, half))
    wanted, words = Comparison(after, before), ("eval", *common, "--against", mask_file)
    found = report(*words, "--mask", tmp_path / "half.json")
    assert found["baseline"] == {**before.as_dict(), "removed": 3, "mask_digest": first.digest}
    assert (found["loss"], found["mask_digest"]) == (after.mean_loss.value, half.digest)
    assert found["loss_change"] == {"value": wanted.loss_change.value, "stderr": wanted.loss_change.stderr}
    assert found["loss_change_interval"] == list(wanted.loss_interval())
    assert found["accuracy_test"]["p"] == wanted.accuracy_test.p
    back = report(*words)  # from the mask to the unpruned model
    assert (back["removed"], back["mask_digest"], back["baseline"]) == (0, None, found["baseline"])
    assert back["loss"] == comparison(model, tiny_file, first).baseline.mean_loss.value != found["loss"]
    shown = run(*words, "--mask", tmp_path / "half.json").stdout
    assert "with made.json" in shown
    assert "unpruned" not in shown
    assert "unpruned" in run(*words).stdout


def test_eval_without_a_mask_measures_the_unpruned_model(common: tuple[str, ...]) -> None:
    found = report("eval", *common)
    assert {name: found[name] for name in found["baseline"]} == found["baseline"]
    assert (found["removed"], found["mode"], found["mask_digest"]) == (0, None, None)
    assert found["loss_change"]["value"] == 0
    assert "Change" not in run("eval", *common).stdout


def test_the_standard_error_of_one_example_is_null(common: tuple[str, ...], mask_file: Path) -> None:
    found = report("eval", *common, "--limit", 1, "--mask", mask_file)
    assert (found["n"], found["loss_stderr"], found["loss_change"]["stderr"]) == (1, None, None)
    assert "± unknown nats" in run("eval", *common, "--limit", 1, "--mask", mask_file).stdout


@pytest.mark.slow
def test_controls_are_random_masks_of_the_same_size(
    model: Model, common: tuple[str, ...], tiny_file: Path, mask_file: Path
) -> None:
    words = ("eval", *common, "--mask", mask_file, "--controls", 3, "--control", "random-pool", "--seed", 11)
    controls = report(*words)["controls"]
    assert (controls["strategy"], controls["draws"], controls["seeds"]) == ("random-pool", 3, [11, 12, 13])
    view, svds, task = model.view(), SvdCache(None), load_task(str(tiny_file))
    keys = matrices(view, {one.key.kind for one in load_mask(mask_file).removed})
    scores = score(view, task, svds, keys, scorer="random")
    wanted = []
    for seed in controls["seeds"]:
        apply(view, mask_of(view, scores, STRATEGIES["random-pool"](scores, 3, seed)), svds)
        wanted.append(evaluate(view, task))
    assert controls["loss"] == [one.mean_loss.value for one in wanted]
    assert controls["accuracy"] == [one.accuracy for one in wanted]
    assert len(set(controls["loss"])) == 3
    text = run(*words).stdout
    assert "3 masks of the control random-pool: accuracy" in text
    assert "The mask beats" in text


def test_controls_are_as_the_mask_is_per_head_or_stacked(model: Model) -> None:
    view = model.view()
    removed = [{"matrix": name, "index": 0, "sigma": 1.0} for name in ("L0.K.H1", "L1.Q", "L1.OUT")]
    mask = Mask.model_validate({**empty_mask(model).model_dump(), "removed": removed}, strict=False)
    found = set(ControlPool("random-pool").keys(view, mask))
    assert found == {
        *matrices(view, (Kind.K,)),
        *matrices(view, (Kind.Q,), per_head=False),
        *matrices(view, (Kind.OUT,)),
    }


@pytest.mark.parametrize(
    ("value", "others", "percent"),
    [(3.0, [1.0, 2.0], 100), (0.0, [1.0, 2.0], 0), (1.0, [1.0, 1.0], 50), (2.0, [1.0, 2.0, 3.0, 4.0], 37.5)],
)
def test_percentiles_count_ties_half(value: float, others: list[float], percent: float) -> None:
    assert beaten(value, others) == percent


def test_another_seed_than_the_masks_is_a_note(common: tuple[str, ...], mask_file: Path) -> None:
    assert (
        "Note: the mask was scored on splits of seed 0" in run("eval", *common, "--mask", mask_file, "--seed", 1).stderr
    )
    assert "Note:" not in run("eval", *common, "--mask", mask_file).stderr


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("models fetch gpt5", ("'gpt5'", *NAMED)),
        ("matrices", ("--model",)),
        ("matrices --model bundled --kinds X", ("'X'", *Kind)),
        ("matrices --model bundled --dtype int8", ("'int8'", *DTYPES)),
        ("spectra --model bundled --matrix K3", ("'K3'", "L0.K.H1")),
        ("spectra --model bundled --matrix L0.QK", ("'L0.QK'", "L0.OV.H1")),
        ("matrices --model bundled --basis fold", ("'fold'", "raw", "folded")),
        ("spectrum --checkpoint bundled --layers 3-1", ("'3-1'", "0-3,7")),
        ("readout --model bundled --task int-mult --matrix L0.K.H1 --mode mean", ("'mean'", *get_args(Mode))),
        ("score --model bundled --task int-mult --kinds Q --mode mean", ("'mean'", *get_args(Mode))),
        ("score --model bundled --task int-mult --kinds Q --scorer guess", ("'guess'", *SCORERS)),
        ("score --model bundled --task int-div --kinds Q", ("'int-div'", *TASKS)),
        ("score --model bundled --task none.jsonl --kinds Q", ("none.jsonl",)),
        ("score --model bundled --task int-mult --kinds Q --limit 0", ("--limit", "1")),
        ("prune --model bundled --task int-mult --kinds Q --count -1 --out {tmp}/m", ("--count",)),
        (
            "prune --model bundled --task int-mult --kinds Q --count 1 --out {tmp}/m --strategy best",
            ("'best'", *STRATEGIES),
        ),
        ("prune --model bundled --task int-mult --kinds Q --count 1 --out {tmp}/m --gain 1", ("--gain 1", "below 1")),
        ("curve --model bundled --task int-mult --kinds Q --counts 1,x", ("'1,x'", "1,4,16")),
        ("curve --model bundled --task int-mult --kinds Q --split dev", ("'dev'", *SPLITS)),
        ("curve --model bundled --task int-mult --kinds Q --gain -0.1", ("--gain -0.1",)),
        ("activations --model bundled --prompt x --head H3", ("'H3'", "L0.H3")),
        ("activations --model bundled --prompt x --mask {tmp}/none.json", ("none.json",)),
        ("search --model bundled --task int-mult --out {tmp}/m --strategy best", ("'best'", *SEARCHES)),
        ("search --model bundled --task int-mult --out {tmp}/m --time -1", ("--time", "0")),
        ("search --model bundled --task int-mult --out {tmp}/m --time nan", ("--time",)),
        ("search --model bundled --task int-mult --out {tmp}/m --layers 3-1", ("'3-1'", "0-3,7")),
        ("search --model bundled --task int-mult --out {tmp}/m --layers 0-99999999999", ("0-3,7",)),
        ("search --model bundled --task int-mult --out {tmp}/m --layers \u00b2", ("0-3,7",)),
        ("search --model bundled --task int-mult --out {tmp}/m --fraction 0.1", ("--fraction", "--as-released")),
        ("search --model bundled --task int-mult --out {tmp}/m --per-kind", ("--per-kind", "paper", "verified")),
        (
            "search --model bundled --task int-mult --out {tmp}/m --strategy paper --members 3",
            ("--members", "ensemble"),
        ),
        ("search --model bundled --task int-mult --out {tmp}/m --strategy ensemble --base best", ("'best'", "paper")),
        ("search --model bundled --task int-mult --out {tmp}/m --strategy ensemble --over int-div", ("'int-div'",)),
        (
            "search --model bundled --task int-mult --out {tmp}/m --strategy ensemble --over int-sum --members 3",
            ("--members", "tasks"),
        ),
        ("search --model bundled --task int-mult --out {tmp}/m --strategy ensemble --at-least 6", ("6 of 5 masks",)),
        (
            "search --model bundled --task int-mult --out {tmp}/m --strategy paper --as-released --split-seed 3",
            ("--as-released", "--split-seed"),
        ),
        (
            "search --model bundled --task int-mult --out {tmp}/m --strategy paper --as-released --per-kind",
            ("--per-kind", "--as-released"),
        ),
        *(
            (f"{command} --model bundled --task no-such-task {options}", (f"'{wrong}'",))
            for wrong, some in (
                ("W", "--kinds W"),
                ("melt", "--kinds Q --mode melt"),
                ("luck", "--kinds Q --scorer luck"),
            )
            for command, options in (
                ("score", some),
                ("curve", some),
                ("prune", f"{some} --count 1 --out {{tmp}}/m"),
            )
        ),
        (
            "prune --model bundled --task no-such-task --kinds Q --count 1 --out {tmp}/m --strategy luck",
            ("'luck'",),
        ),
        ("eval --model bundled --task int-mult --split dev", ("'dev'", *SPLITS)),
        ("eval --model bundled --task int-mult --mask {tmp}/none.json", ("none.json",)),
        ("eval --model bundled --task int-mult --controls 3", ("--mask",)),
    ],
)
def test_what_the_user_can_fix_is_one_sentence_before_any_model_is_loaded(
    line: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    said = refused(*shlex.split(line.format(tmp=tmp_path)))
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bogus", "No such command 'bogus'; see `eigenprune --help`."),
        ("--bogus", "No such option: --bogus; see `eigenprune --help`."),
        *((group, f"Missing command; see `eigenprune {group} --help`.") for group in GROUPS),
        ("app --host 0.0.0.0", "No such option: --host (Possible options: --port); see `eigenprune app --help`."),
    ],
)
def test_a_command_line_that_makes_no_sense_is_one_sentence(line: str, said: str) -> None:
    result = CliRunner().invoke(app, line, prog_name="eigenprune")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {said}\n")


@pytest.mark.slow
def test_what_needs_the_model_is_refused_in_one_sentence(
    folder: Path, common: tuple[str, ...], mask_file: Path, tmp_path: Path
) -> None:
    out, no_mask = tmp_path / "out.json", tmp_path / "no-mask.txt"
    no_mask.write_text("not a mask")
    assert "layer" in refused("spectra", "--model", folder, "--matrix", "L9.K")
    assert "heads 0 to" in refused("spectra", "--model", folder, "--matrix", "L0.K.H9")
    assert "0 to" in refused("prune", *common, "--kinds", "Q", "--count", 10_000, "--out", out)
    assert not out.exists()
    assert str(tmp_path) in refused("matrices", "--model", tmp_path)
    assert "nowhere" in refused("matrices", "--model", "./nowhere")
    assert "GATE" in refused("matrices", "--model", "bundled", "--kinds", "GATE")
    assert "warp" in refused("matrices", "--model", folder, "--device", "warp")
    assert "no-mask.txt" in refused("eval", *common, "--mask", no_mask)
    text = json.loads(mask_file.read_text())
    text["model"]["digest"] = "sha256:" + "0" * 64
    mask_file.write_text(json.dumps(text))
    assert "the mask was made for" in refused("eval", *common, "--mask", mask_file)
    mask_file.write_text("{")
    assert "not a usable mask file" in refused("eval", *common, "--mask", mask_file)


def test_ctrl_c_is_one_line_and_130(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("explorer.models.load", load)
    result = run("matrices", "--model", folder, "--json")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Stopped.\n")


def test_an_unusable_environment_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGENPRUNE_SEED", "many")
    assert "EIGENPRUNE_SEED is 'many'" in refused("eval", "--model", folder, "--task", "int-mult")


@pytest.mark.slow
def test_the_seed_of_the_settings_is_the_default(common: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGENPRUNE_SEED", "9")
    assert report("eval", *common)["seed"] == 9
    assert report("eval", *common, "--seed", 0)["seed"] == 0


# --------------------------------------------------------------------------------------------------------- app


@pytest.mark.parametrize("port", ["0", "70000", "http"])
def test_app_refuses_a_port_that_is_none(port: str) -> None:
    result = run("app", "--port", port)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: Invalid value for '--port'")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[list[str]]]:
    """What would have taken this process's place."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, words: commands.append(words))
    monkeypatch.setattr(explorer.cli.launch, "HOME", tmp_path)
    before = Path.cwd()
    yield commands
    assert Path.cwd() == before


def test_app_starts_streamlit_on_localhost(started: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("")
    assert run("app", "--port", 8642).exit_code == 0
    (words,) = started
    assert words[1:6] == ["-P", "-m", "streamlit", "run", str(tmp_path / "app.py")]
    assert words[words.index("--server.port") + 1] == "8642"
    assert words[words.index("--server.address") + 1] == "127.0.0.1"


def test_app_without_its_pages_is_one_sentence(started: list[list[str]], tmp_path: Path) -> None:
    result = run("app")
    assert (result.exit_code, result.stdout, started) == (2, "", [])
    assert f"there is no {tmp_path / 'app.py'}" in result.stderr


# ----------------------------------------------------------------------------------------------------- console


def test_figures_for_people_have_their_units() -> None:
    assert console.accuracy_text(0.125, (0.0604, 0.2), 80) == "12.5 % [6.0, 20.0] (n = 80)"
    assert console.loss_text(5.5481, 0.2971) == "5.548 ± 0.297 nats"
    assert console.loss_text(0.5, float("nan"), signed=True) == "+0.500 ± unknown nats"
    assert console.points_text(0.125, 0.031) == "+12.5 ± 3.1 percentage points"


def test_cells_are_not_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_table("[bold]title", ("[red]name",), [("[/x]",)])
    text = capsys.readouterr().out
    assert all(word in text for word in ("[bold]title", "[red]name", "[/x]"))


# ------------------------------------------------------------------------------------------- import explorer


def test_the_package_gives_every_name_it_promises() -> None:
    tree = ast.parse(inspect.getsource(explorer))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == explorer._MODULE_OF | {"widget": "explorer"}  # a room of its own, which needs a notebook
    assert sorted(imported) == sorted(explorer.__all__)
    assert set(explorer.__all__) <= set(dir(explorer))
    for name in explorer.__all__:
        found = getattr(explorer, name)
        assert found.__name__ == name if callable(found) else name.isupper() or inspect.ismodule(found)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = explorer.nothing


# ------------------------------------------------------------------------------------------------------ effects


@pytest.mark.slow
def test_effects_are_shown_and_have_the_keys_of_their_report(common: tuple[str, ...], mask_file: Path) -> None:
    words = ("effects", *common, "--value", "L0.Q.H0:0,2", "--value", "L0.IN:1", "--mask", mask_file)
    found = report(*words)
    assert set(found) == set(keys_of(EffectsResult))
    assert [(one["matrix"], one["index"]) for one in found["values"]] == [
        ("L0.Q.H0", 0), ("L0.Q.H0", 2), ("L0.IN", 1),
    ]  # fmt: skip
    assert all(set(one) == {"matrix", "index", "exact", "stderr", "removed"} for one in found["values"])
    shown = run(*words).stdout
    assert f"n = {found['n']}" in shown
    assert f"{found['values'][2]['exact']:+.3f}" in shown


@pytest.mark.slow
def test_all_effects_are_estimated_sampled_and_go_on(common: tuple[str, ...], model: Model, tmp_path: Path) -> None:
    everything = report("effects", *common, "--all", "--kinds", "Q,OUT")
    view = model.view()
    values = [(str(key), i) for key in matrices(view, [Kind.Q, Kind.OUT]) for i in range(min(shape(view, key)))]
    assert [(one["matrix"], one["index"]) for one in everything["values"]] == values
    assert everything["asked"] == len(values)
    table = tmp_path / "effects.csv"
    words = ("effects", *common, "--all", "--kinds", "Q,OUT", "--sample", "7", "--out", table)
    done = run(*words)
    assert "GFLOP/s" not in done.stderr, "all are known: there is nothing to estimate"
    sampled = report(*words)
    assert sampled["asked"] == len(sampled["values"]) == 7
    assert all(one in everything["values"] for one in sampled["values"])
    assert len(pd.read_csv(table)) == 7
    other = report(*words, "--seed", "5")
    assert [one["index"] for one in other["values"]] != [one["index"] for one in sampled["values"]]


@pytest.mark.slow
def test_what_all_effects_take_is_said_first_and_time_ends_them(
    common: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EIGENPRUNE_CACHE", str(tmp_path / "cache"))  # where no other test has measured any
    settings.cache_clear()
    monkeypatch.setattr("explorer.attribution.runs.TOKENS", 64)  # a few values at a time
    monkeypatch.setattr("explorer.attribution.pace.Pace", partial(Pace, clock=map(float, count(step=10)).__next__))
    part = report("effects", *common, "--all", "--time", "200")
    assert 0 < len(part["values"]) < part["asked"]
    shown = run("effects", *common, "--all", "--time", "60")
    assert f"{part['asked'] - len(part['values']):,} values to measure, {len(part['values']):,} more are known: " in (
        shown.stderr
    )
    assert "60 s is enough for about" in shown.stderr
    assert f"of {part['asked']:,} values were measured in the time given" in shown.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give one of them"),
        (("--all", "--value", "L0.Q.H0:0"), "give one of them"),
        (("--value", "L0.Q.H0:0", "--sample", "3"), "add --all"),
        (("--value", "L0.Q.H0:0", "--kinds", "Q"), "add --all"),
        (("--all", "--kinds", "QX"), "QX"),
        (("--all", "--time", "0"), "greater than or equal to 1"),
    ],
)
def test_effects_that_do_not_go_together_are_a_sentence(
    nothing_loads: None, common: tuple[str, ...], options: tuple[str, ...], message: str
) -> None:
    assert message in refused("effects", *common, *options)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["L0.Q.H0", "L0.Q.H0:", "L0.Q.H0:-1", "L0.Q.H0:1;2", "x:1"])
def test_values_that_cannot_be_read_are_a_sentence(nothing_loads: None, common: tuple[str, ...], text: str) -> None:
    said = refused("effects", *common, "--value", text)
    assert "L0.Q.H3:0,5" in said or "'x'" in said


@pytest.mark.slow
def test_controls_are_drawn_from_the_kinds_asked_for(
    common: tuple[str, ...], mask_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[set[str]] = []
    from explorer.search import controls

    chance = controls.CONTROLS["random-pool"]

    def watched(scores: Any, mask: Any, seed: int) -> Any:
        drawn.append({str(key) for key in scores.matrices})
        return chance(scores, mask, seed)

    monkeypatch.setitem(controls.CONTROLS, "random-pool", watched)
    words = ("eval", *common, "--mask", mask_file, "--controls", 1)
    report(*words, "--control-kinds", "V", "--control-stacked", "--control-limit", 2)
    report(*words, "--control-kinds", "V")
    stacked, heads = drawn
    assert stacked
    assert all(name.endswith(".V") for name in stacked)
    assert heads
    assert all(".V.H" in name for name in heads)
