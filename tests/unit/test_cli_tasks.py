"""The commands about tasks: lists, tokens, checks, wording options, choices, damage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explorer.core.keys import Kind
from explorer.masks.apply import apply
from explorer.masks.damage import damage
from explorer.masks.mask import load_mask
from explorer.measure.choices import alternatives
from explorer.measure.evaluate import evaluate
from explorer.measure.paired import bootstrap_interval, mcnemar
from explorer.models import Model
from explorer.search import prune
from explorer.spectra.cache import SvdCache
from explorer.tasks import SPLITS, TASKS, Task, load_task
from tests import tiny
from tests.commands import refused, report, run
from tests.unit.test_perplexity import TEXT

ROWS = [
    {
        "prompt": f"w{i} w{j}",
        "answer": f" w{(i * j) % 20}",
        "choices": [f" w{(i * j) % 20}", f" w{(i + j + 1) % 20} w1", " w2 w3 w4"],
        "distractor": f" w{(i + j + 2) % 20} w5",
    }
    for i in range(4)
    for j in range(5)
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "choices.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture
def task(file: Path) -> Task:
    return load_task(str(file))


@pytest.fixture
def mask_file(model: Model, task: Task, tmp_path: Path) -> Path:
    mask = prune(model.view(), task, SvdCache(None), kinds=[Kind.V], count=4)
    mask.save(tmp_path / "mask.json")
    return tmp_path / "mask.json"


def test_the_list_has_every_task_and_what_may_be_said_about_each(tmp_path: Path) -> None:
    found = {entry["name"]: entry for entry in report("tasks", "list")["tasks"]}
    assert list(found) == list(TASKS)
    for name, entry in found.items():
        assert entry["placeholders"] == list(TASKS[name].placeholders)
        assert (entry["sizes"] is None) == (entry["sample"] is None) == entry["needs_data"]
    for name, row in (
        ("cb", {"premise": "a", "hypothesis": "b"}),
        ("rte", {"premise": "a", "hypothesis": "b"}),
        ("copa", {"premise": "a", "choice1": "b", "choice2": "c", "question": "cause"}),
    ):
        (tmp_path / name).mkdir()
        for split, count in (("train", 10), ("validation", 3)):
            lines = [json.dumps({**row, "premise": f"{split} {i}", "label": i % 2}) for i in range(count)]
            (tmp_path / name / f"{split}.jsonl").write_text("\n".join(lines))
    entries = report("tasks", "list", "--data", tmp_path)["tasks"]
    assert {one["name"]: one["sizes"] for one in entries}["cb"] == {"train": 8, "validation": 2, "test": 3}


def test_show_gives_tokens_as_the_tokenizer_cuts_them(folder: Path, file: Path, task: Task) -> None:
    found = report("tasks", "show", file, "--model", folder, "--split", "test", "--limit", 2, "--shots", 1)
    shown = load_task(str(file), shots=1)
    assert (found["n"], found["shots"], found["task_digest"]) == (len(task.test), 1, shown.digest)
    for one, example in zip(found["examples"], shown.test[:2], strict=True):
        assert one["prompt_tokens"] == ["<bos>", *example.prompt.split()]
        assert one["answer_tokens"] == example.answer.split()
        assert (one["choices"], one["distractor"]) == (list(example.choices), example.distractor)
        assert one["problem"] is None
    text = run("tasks", "show", file, "--model", folder, "--limit", 1).stdout
    assert "3 + 1 tokens: '<bos>'" in text
    assert report("tasks", "show", "ioi", "--limit", 1)["examples"][0]["prompt_tokens"] is None


def test_validate_counts_and_names_what_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": "w1 w2", "answer": " w3", "split": "train"},
        {"prompt": "w1 w2", "answer": " w3", "split": "test"},
        {"prompt": "w4", "answer": " w3", "split": "test"},
        {"prompt": " ".join(["w1"] * 20), "answer": " w5", "choices": [" w5", " w6"], "split": "test"},
        {"prompt": "w4 w4", "answer": " unheard", "split": "test"},
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run("tasks", "validate", path, "--model", folder, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["sizes"] == {"train": 1, "validation": 0, "test": 4}
    assert found["seen"] == {"train": 0, "validation": 0, "test": 1}
    assert found["with_choices"] == {"train": 0, "validation": 0, "test": 1}
    assert found["answers"]["test"] == {"distinct": 3, "most_common": " w3", "majority": 0.5}
    assert found["answers"]["validation"] is None
    assert (found["longest"], found["context"]) == (21, tiny.POSITIONS)
    long, unheard = found["problems"]
    assert (long["split"], long["index"]) == ("test", 2)
    assert "has 21 tokens: this model reads 1 to 16" in long["problem"]
    assert "does not know all of the answer ' unheard'" in unheard["problem"]
    assert "test 2: the example has 21 tokens" in run("tasks", "validate", path, "--model", folder).stdout
    fine = run("tasks", "validate", path)
    assert fine.exit_code == 0
    assert "1 in an earlier split" in fine.stdout
    path.write_text('{"prompt": "a", "answer": "b"}\n{"prompt": "a"}\n')
    assert "own.jsonl, line 2: no answer" in refused("tasks", "validate", path)
    path.write_text('{"answer": "b"}\n{"prompt": "a"}\n')
    said = refused("tasks", "validate", path)
    assert said.startswith("2 lines of own.jsonl are no examples. Line 1: no prompt; ")
    assert " Line 2: no answer; " in said


def test_eval_reports_choices_leads_and_paired_tests(
    folder: Path, model: Model, file: Path, task: Task, mask_file: Path, svds: SvdCache, tmp_path: Path
) -> None:
    words = ("eval", "--model", folder, "--task", file, "--mask", mask_file)
    found, view = report(*words), model.view()
    before, choices_before = evaluate(view, task), alternatives(view, task)
    apply(view, load_mask(mask_file), svds)
    after, choices_after = evaluate(view, task), alternatives(view, task)
    assert found["accuracy_test"] == vars(mcnemar(after.correct, before.correct))
    changes = [now - then for now, then in zip(after.loss, before.loss, strict=True)]
    assert found["loss_change_interval"] == pytest.approx(bootstrap_interval(changes), abs=1e-6)
    for rule in ("sum", "mean"):
        one = found["choice"][rule]
        assert one["masked"] == choices_after.as_dict()["choice"][rule]
        assert one["baseline"] == choices_before.as_dict()["choice"][rule]
        assert one["test"] == vars(mcnemar(choices_after.correct(rule), choices_before.correct(rule)))
    assert found["lead"]["masked"]["value"] == pytest.approx(choices_after.mean_lead.value, abs=1e-6)
    text = run(*words).stdout
    assert "Choice by summed log-probability: " in text
    assert "Answer leads distractor by " in text
    without = tmp_path / "plain.jsonl"
    rows = [{"prompt": f"w{i} w{j}", "answer": " w3"} for i in range(1, 5) for j in range(1, 5)]
    without.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    plain = report("eval", "--model", folder, "--task", without, "--limit", 2)
    assert (plain["choice"], plain["lead"]) == (None, None)


def test_shots_and_templates_are_asked_in_every_command(folder: Path, model: Model, file: Path, tmp_path: Path) -> None:
    asked = ("--task", file, "--shots", 2, "--template", r"w7\n{prompt}")
    task = load_task(str(file), shots=2, template="w7\n{prompt}")
    expected = evaluate(model.view(), task)
    found = report("eval", "--model", folder, *asked)
    assert found["loss"] == pytest.approx(expected.mean_loss.value, abs=1e-6)
    assert (found["task_digest"], found["shots"], found["template"]) == (task.digest, 2, "w7\n{prompt}")
    scored = report("score", "--model", folder, *asked, "--kinds", "K")
    assert (scored["task_digest"], scored["shots"]) == (task.digest, 2)
    pruned = report("prune", "--model", folder, *asked, "--kinds", "K", "--count", 1, "--out", tmp_path / "m.json")
    assert pruned["task_digest"] == task.digest
    assert r"--shots 2 --template 'w7\n{prompt}'" in pruned["eval_command"]


def test_wording_that_cannot_be_used_is_one_sentence(file: Path, tmp_path: Path) -> None:
    words = ("eval", "--model", "bundled", "--task")
    assert "asks for {k}: this task has {i}, {j}" in refused(*words, "int-mult", "--template", "{k}")
    assert "400 shots cannot be given" in refused(*words, "int-mult", "--shots", 400)
    assert "made without data" in refused(*words, "int-mult", "--data", tmp_path)
    assert "has no cb/train.jsonl" in refused(*words, "cb", "--data", tmp_path)
    assert "holds its own examples" in refused(*words, file, "--data", tmp_path)


def test_damage_is_the_engines(
    folder: Path, model: Model, file: Path, task: Task, mask_file: Path, svds: SvdCache, tmp_path: Path
) -> None:
    (tmp_path / "plain.txt").write_text(TEXT)
    words = ("mask", "damage", "--model", folder, "--mask", mask_file, "--task", file, "--text", tmp_path / "plain.txt")
    found = report(*words, "--tokens", 30)
    mask = load_mask(mask_file)
    expected = damage(model.view(), mask, svds, [task], TEXT, tokens=30).as_dict()
    assert found["mask_digest"] == mask.digest
    assert found["tasks"][0]["masked"]["loss"] == pytest.approx(expected["tasks"][0]["masked"]["loss"], abs=1e-6)
    assert found["tasks"][0]["choice_test"] == expected["tasks"][0]["choice_test"]
    assert found["text"]["growth"]["value"] == pytest.approx(expected["text"]["growth"]["value"], abs=1e-5)
    assert found["text"]["masked"]["tokens"] == 30
    text = run(*words).stdout
    assert "Perplexity of 40 tokens of text" in text
    assert "McNemar p = " in text
    assert (
        report("mask", "damage", "--model", folder, "--mask", mask_file, "--task", file, "--text", "none")["text"]
        is None
    )


def test_damage_of_a_folded_mask_is_measured_in_its_basis(folder: Path, file: Path, tmp_path: Path) -> None:
    mask, options = tmp_path / "folded.json", ("--model", folder, "--basis", "folded", "--task", file)
    report("prune", *options, "--kinds", "Q", "--count", 2, "--out", mask)
    found = report("mask", "damage", *options, "--mask", mask, "--text", "none")
    assert (found["basis"], found["removed"]) == ("folded", 2)
    assert "basis" in refused("mask", "damage", "--model", folder, "--task", file, "--mask", mask, "--text", "none")


def test_damage_to_nothing_is_refused(mask_file: Path) -> None:
    said = refused("mask", "damage", "--model", "bundled", "--mask", mask_file, "--text", "none")
    assert said == "there is nothing to measure the mask on: give a --task, a --text, or both."


@pytest.mark.slow
def test_damage_leaves_out_the_bundled_text_for_a_model_that_does_not_read_it(
    folder: Path, file: Path, mask_file: Path
) -> None:
    words = ("mask", "damage", "--model", folder, "--mask", mask_file)
    found = report(*words, "--task", file)
    assert (len(found["tasks"]), found["text"]) == (1, None)
    assert "does not know the words of the bundled text: give a --task, or a --text" in refused(*words)
    assert "does not know" in refused(*words, "--task", file, "--text", "bundled")


def test_a_file_whose_splits_overlap_is_noted(folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "w1", "answer": " w2", "split": split} for split in SPLITS]
    (tmp_path / "same.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = run("eval", "--model", folder, "--task", tmp_path / "same.jsonl").stderr
    assert "1 of 1 test examples of same.jsonl are in an earlier split, too." in said
