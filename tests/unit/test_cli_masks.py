"""`mask` and `finetune` on the command line: files without a model, siblings, fine-tuned folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explorer.core.keys import Kind
from explorer.experiments.transfer import refreeze, transfer
from explorer.masks.damage import damage
from explorer.masks.mask import Mask, load_mask
from explorer.masks.sets import vote
from explorer.models import Model, load
from explorer.search import prune
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task, load_task
from tests import tiny
from tests.commands import refused, report, run
from tests.unit.test_transfer import saved

COUNTS = (3, 5, 4)


@pytest.fixture(scope="module")
def masks(model: Model, tiny_task: Task, svds: SvdCache) -> list[Mask]:
    """Masks from some of the train examples each, so that they differ in values and in means."""
    kinds = ([Kind.Q, Kind.K], [Kind.K, Kind.V], [Kind.Q, Kind.K, Kind.V])
    return [
        prune(model.view(), tiny_task, svds, kinds=one, count=count, limit=limit)
        for one, count, limit in zip(kinds, COUNTS, (2, 4, 6), strict=True)
    ]


@pytest.fixture
def files(masks: list[Mask], tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.json" for i in range(len(masks))]
    for mask, path in zip(masks, paths, strict=True):
        mask.save(path)
    return paths


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("explorer.models.load", fail)


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    rows = [
        {"prompt": one.prompt, "answer": one.answer, "split": split}
        for split in ("train", "validation", "test")
        for one in tiny.task().split(split)
    ]
    path = tmp_path / "tiny.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def entry(path: Path, mask: Mask) -> dict[str, Any]:
    return {
        "file": str(path),
        "mask_digest": mask.digest,
        "source": mask.model.source,
        "model_digest": mask.model.digest,
        "basis": "raw",
        "dtype": mask.model.dtype,
        "mode": "freeze",
        "gain": mask.gain,
        "removed": len(mask),
    }


# ------------------------------------------------------------------------------------------- show, diff, combine


def test_show_says_everything_that_the_file_says(no_model: None, masks: list[Mask], files: list[Path]) -> None:
    found, mask = report("mask", "show", files[1]), masks[1]
    assert {key: found[key] for key in entry(files[1], mask)} == entry(files[1], mask)
    assert found["provenance"] == json.loads(mask.to_json())["provenance"]
    values = [
        (one["matrix"], *value)
        for one in found["matrices"]
        for value in zip(one["indices"], one["sigma"], one["c"], strict=True)
    ]
    assert values == [(one.matrix, one.index, one.sigma, one.c) for one in mask.removed]
    for name, of in (("layers", lambda key: f"L{key.layer}"), ("kinds", lambda key: str(key.kind))):
        assert found[name] == {
            wanted: sum(of(one.key) == wanted for one in mask.removed)
            for wanted in {of(one.key) for one in mask.removed}
        }
    assert found["versions"] == []
    text = run("mask", "show", files[1]).stdout
    assert all(str(key) in text for key in mask.by_matrix)
    assert mask.digest in text
    assert f"{len(mask)} removed (freeze)" in text


def test_show_names_versions_that_are_others_here_and_lets_no_file_steer_the_terminal(
    no_model: None, masks: list[Mask], tmp_path: Path
) -> None:
    made = masks[0].provenance.model_copy(update={"versions": {"torch": "1.0", "no-such-package": "2"}})
    source = masks[0].model.model_copy(update={"source": "\x1b[31mred\x1b]0;title\x07"})
    masks[0].model_copy(update={"provenance": made, "model": source}).save(tmp_path / "odd.json")
    found = report("mask", "show", tmp_path / "odd.json")["versions"]
    assert [(one["package"], one["made_with"]) for one in found] == [("torch", "1.0"), ("no-such-package", "2")]
    assert found[0]["here"] is not None
    assert found[1]["here"] is None
    text = run("mask", "show", tmp_path / "odd.json").stdout
    assert "Made with torch 1.0; here is" in text
    assert "Made with no-such-package 2; it is not here." in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_diff_counts_what_two_files_share(no_model: None, masks: list[Mask], files: list[Path]) -> None:
    found = report("mask", "diff", files[0], files[2])
    a, b = ({(one.matrix, one.index) for one in mask.removed} for mask in (masks[0], masks[2]))
    totals = {"only_first": len(a - b), "only_second": len(b - a), "both": len(a & b)}
    assert {key: found[key] for key in totals} == totals
    assert found["jaccard"] == len(a & b) / len(a | b)
    assert (found["first"], found["second"]) == (entry(files[0], masks[0]), entry(files[2], masks[2]))
    for name, count in totals.items():
        assert sum(one[name] for one in found["matrices"]) == count
    assert f"Jaccard index {found['jaccard']:.3f}" in run("mask", "diff", files[0], files[2]).stdout


@pytest.mark.parametrize(
    ("words", "at_least"), [(("union",), 1), (("intersect",), 3), (("vote", "--at-least", "2"), 2)], ids=str
)
def test_combined_files_are_the_votes(
    no_model: None, masks: list[Mask], files: list[Path], tmp_path: Path, words: tuple[str, ...], at_least: int
) -> None:
    out, expected = tmp_path / "new" / "out.json", vote(masks, at_least)
    found = report("mask", words[0], *files, *words[1:], "--out", out)
    assert load_mask(out) == expected
    assert found == {
        "at_least": at_least,
        "masks": [entry(path, mask) for path, mask in zip(files, masks, strict=True)],
        "mask": entry(out, expected),
        "out": str(out),
    }
    assert (
        f"{len(expected)} removed, in at least {at_least} of 3 masks"
        in run("mask", words[0], *files, *words[1:], "--out", out).stdout
    )
    assert f"Made by {expected.provenance.derived.how} from" in run("mask", "show", out).stdout


def test_a_mask_less_another(no_model: None, masks: list[Mask], files: list[Path], tmp_path: Path) -> None:
    out, expected = tmp_path / "rest.json", masks[1].difference(masks[0])
    found = report("mask", "subtract", files[1], files[0], "--out", out)
    assert load_mask(out) == expected
    assert (found["at_least"], found["mask"]["removed"]) == (None, len(expected))
    assert f"{len(expected)} removed, in {files[1]} but not in" in run(
        "mask", "subtract", files[1], files[0], "--out", out
    ).stdout.replace("\n", " ")


def test_files_that_cannot_be_combined_are_sentences(
    no_model: None, masks: list[Mask], files: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    masks[0].model_copy(update={"mode": "zero"}).save(tmp_path / "zero.json")
    assert "1 mask file was given: give two or more" in refused("mask", "union", files[0], "--out", out)
    assert "3 of 2 masks" in refused("mask", "vote", files[0], files[1], "--at-least", 3, "--out", out)
    assert "cannot be combined" in refused("mask", "union", files[0], tmp_path / "zero.json", "--out", out)
    assert "none.json cannot be read" in refused("mask", "show", tmp_path / "none.json")
    assert not out.exists()
    differing = run("mask", "diff", files[0], tmp_path / "zero.json")
    assert (differing.exit_code, "the second by zero" in differing.stderr) == (0, True)


def test_scale_writes_the_same_values_with_another_gain(
    no_model: None, masks: list[Mask], files: list[Path], tmp_path: Path
) -> None:
    half, back = tmp_path / "new" / "half.json", tmp_path / "back.json"
    found = report("mask", "scale", files[0], "--gain", 0.5, "--out", half)
    assert found == {"given": entry(files[0], masks[0]), "mask": entry(half, load_mask(half)), "out": str(half)}
    assert load_mask(half) == masks[0].scaled(0.5)
    assert report("mask", "show", half)["gain"] == 0.5
    text = run("mask", "show", half).stdout
    assert f"{len(masks[0])} scaled to 50 % (freeze)" in text
    assert "Gain: 0.5" in text
    assert f"{len(masks[0])} scaled to 50 %" in run("mask", "scale", files[0], "--gain", 0.5, "--out", half).stdout
    run("mask", "scale", half, "--gain", 0, "--out", back)
    assert load_mask(back).digest == masks[0].digest
    assert "Input should be less than 1 (at gain)" in refused("mask", "scale", half, "--gain", 1, "--out", back)
    assert "mask of gain 0.5 cannot be combined" in refused("mask", "union", files[0], half, "--out", back)
    differing = run("mask", "diff", files[0], half)
    assert "the first mask are removed, those of the second scaled to 50 %" in differing.stderr.replace("\n", " ")


# ---------------------------------------------------------------------------------------------------- transfer


def test_a_mask_is_measured_on_other_tasks(
    folder: Path, model: Model, masks: list[Mask], files: list[Path], tiny_file: Path, svds: SvdCache
) -> None:
    words = ("mask", "transfer", "--model", folder, "--mask", files[1], "--task", tiny_file)
    found = report(*words)
    expected = damage(model.view(), masks[1], svds, [load_task(str(tiny_file))]).as_dict()
    assert found["tasks"] == json.loads(json.dumps(expected))["tasks"]
    assert found["given"] == found["mask"] == entry(files[1], masks[1])
    assert (found["values"], found["means"], found["median_match"], found["out"]) == (None, None, None, None)
    assert "with the mask" in run(*words).stdout


@pytest.mark.slow
def test_a_mask_is_carried_over_to_a_sibling_only_when_asked_for(
    arch: str, folder: Path, masks: list[Mask], files: list[Path], tiny_file: Path, tmp_path: Path, svds: SvdCache
) -> None:
    sibling, out = saved(arch, tmp_path / "sibling", noise=0.01), tmp_path / "carried.json"
    words = ("mask", "transfer", "--model", sibling, "--mask", files[1], "--task", tiny_file)
    assert "the mask was made for" in refused(*words)
    assert "add --to-sibling" in refused(*words, "--base", folder)
    found = report(*words, "--to-sibling", "--base", folder, "--out", out)
    task, view = load_task(str(tiny_file)), load(str(sibling), dtype="float32", device="cpu").view()
    expected = transfer(view, masks[1], svds, task)
    assert load_mask(out) == expected
    assert found["mask"] == entry(out, expected)
    assert found["means"] == task.name
    assert [one["c_before"] for one in found["values"]] == [one.c for one in masks[1].removed]
    assert [one["sigma"] for one in found["values"]] == [one.sigma for one in expected.removed]
    assert 0.5 < found["median_match"] <= 1
    text = run(*words, "--to-sibling", "--base", folder, "--out", out).stdout
    assert "Directions that match least" in text
    kept = report(*words, "--to-sibling", "--keep-means")
    assert [one["c"] for one in kept["values"]] == [one.c for one in masks[1].removed]
    assert (kept["means"], kept["median_match"]) == (None, None)


@pytest.mark.slow
def test_new_means_are_those_of_the_task(
    folder: Path, model: Model, masks: list[Mask], files: list[Path], tiny_file: Path, tmp_path: Path, svds: SvdCache
) -> None:
    out = tmp_path / "carried.json"
    words = ("mask", "transfer", "--model", folder, "--mask", files[1], "--task", tiny_file, "--limit", 3)
    assert "add --new-means" in refused(*words, "--out", out)
    assert "gives new means by itself" in refused(*words, "--to-sibling", "--new-means")
    found = report(*words, "--new-means", "--out", out)
    task = load_task(str(tiny_file))
    expected = refreeze(model.view(), masks[1], svds, task, limit=3)
    assert load_mask(out) == expected
    assert found["mask"] == entry(out, expected)
    assert (found["means"], found["median_match"]) == (task.name, None)
    assert [one["c_before"] for one in found["values"]] == [one.c for one in masks[1].removed]
    assert [one["c"] for one in found["values"]] == [one.c for one in expected.removed]
    measured = damage(model.view(), expected, svds, [task], limit=3).as_dict()
    assert found["tasks"] == json.loads(json.dumps(measured))["tasks"]
    text = run(*words, "--new-means").stdout
    assert f"Frozen means: train tokens of {task.name}" in text
    assert "Carried over from" not in text


def test_the_same_model_gets_its_mask_back(folder: Path, masks: list[Mask], files: list[Path], tiny_file: Path) -> None:
    words = ("--model", folder, "--mask", files[0], "--task", tiny_file, "--to-sibling", "--base", folder)
    found = report("mask", "transfer", *words)
    assert found["mask"] == found["given"]
    assert found["median_match"] == pytest.approx(1, abs=1e-5)
    assert all(one["c"] == one["c_before"] for one in found["values"])


# ---------------------------------------------------------------------------------------------------- finetune


@pytest.mark.slow
def test_a_fine_tuned_folder_is_written_and_reported(folder: Path, tiny_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    words = ("finetune", "--model", folder, "--task", tiny_file, "--optimizer", "adam", "--lr", "0.01", "--seed", 1)
    found = report(*words, "--steps", 4, "--batch-size", 2, "--out", out)
    assert found["digest"] == load(str(out), dtype="float32", device="cpu").digest
    assert (found["steps"], found["epochs"], found["seed"], found["optimizer"]) == (4, None, 1, "adam")
    assert len(found["losses"]) == 4
    assert set(found["before"]) == set(found["after"]) == set(found["change"]) == {"train", "validation", "test"}
    text = run(*words, "--epochs", 1, "--out", tmp_path / "again").stdout
    assert "after, test" in text
    assert str(tmp_path / "again") in text


def test_what_cannot_be_fine_tuned_is_refused_before_a_model_is_loaded(
    no_model: None, folder: Path, tiny_file: Path, tmp_path: Path
) -> None:
    words = ("finetune", "--model", folder, "--task", tiny_file)
    assert "is not an empty folder" in refused(*words, "--out", tmp_path)
    out = ("--out", tmp_path / "new")
    assert "epochs and 3 steps were asked for" in refused(*words, *out, "--epochs", 2, "--steps", 3)
    assert "not an optimizer" in refused(*words, *out, "--optimizer", "sgd")
    assert "learning rate is -1" in refused(*words, *out, "--lr", "-1")
    assert not (tmp_path / "new").exists()
