"""`--bos`, `--chat` and `--system` on the commands that read a task, and in what they write."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from explorer.cli import app
from explorer.masks.activations import read_prompt
from explorer.masks.mask import load_mask
from explorer.measure.evaluate import evaluate
from explorer.models import load
from explorer.tasks import Example, Framing, load_task
from tests.commands import refused, report, run
from tests.unit.test_tokens import CHATML, IDS, save, words

CHAT = ("--chat", "--system", "w19")
FRAMING = Framing(chat=True, system="w19")
ASKED = {"bos": "auto", "chat": True, "system": "w19"}


@pytest.fixture(scope="module")
def chatting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("chatting"), words(CHATML))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"prompt": f"w{i} w{j}", "answer": f" w{(i + j) % 9}", "choices": [f" w{(i + j) % 9}", " w10 w11"]}
        for i in range(5)
        for j in range(5, 9)
    ]
    path = tmp_path_factory.mktemp("tasks") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def commands(group: Any, before: str = "") -> dict[str, Any]:
    found = {}
    for name, one in group.commands.items():
        found |= commands(one, f"{before}{name} ") if hasattr(one, "commands") else {f"{before}{name}": one}
    return found


def test_every_command_that_words_a_task_frames_it() -> None:
    options = {
        name: {word for parameter in one.params for word in parameter.opts}
        for name, one in commands(get_command(app)).items()
    }
    wording = {name for name, words in options.items() if "--shots" in words}
    assert wording >= {"eval", "score", "prune", "search", "effects", "curve", "readout", "finetune", "tasks show"}
    assert {name for name, words in options.items() if {"--bos", "--chat", "--system"} <= words} == wording | {
        "activations", "attention", "generate",
    }  # fmt: skip


@pytest.mark.slow
def test_a_chat_goes_through_scores_masks_measurements_and_reports(chatting: Path, file: Path, tmp_path: Path) -> None:
    asked = load_task(str(file), shots=1, framing=FRAMING)
    common = ("--model", chatting, "--task", file, "--shots", 1, *CHAT)
    mask = tmp_path / "mask.json"
    made = report("prune", *common, "--kinds", "V", "--count", 3, "--out", mask)
    assert {name: made[name] for name in ASKED} == ASKED
    assert made["task_digest"] == asked.digest != load_task(str(file), shots=1).digest
    kept = load_mask(mask).provenance
    assert (kept.task_digest, kept.chat, kept.system, kept.bos) == (asked.digest, True, "w19", "auto")
    measured = report("eval", *common, "--mask", mask, "--split", "test")
    assert {name: measured[name] for name in ASKED} == ASKED
    view = load(str(chatting), dtype="float32", device="cpu").view()
    assert measured["baseline"]["loss"] == pytest.approx(evaluate(view, asked, "test").mean_loss.value, abs=1e-6)
    (damage,) = report("mask", "damage", *common, "--mask", mask, "--text", "none")["tasks"]
    assert {name: damage[name] for name in ASKED} == ASKED
    assert damage["baseline"]["loss"] == pytest.approx(measured["baseline"]["loss"], abs=1e-6)
    for command in (("effects", "--value", "L0.V.H0:0"), ("readout", "--matrix", "L0.V.H0"), ("curve", "--kinds", "V")):
        found = report(command[0], *common, *command[1:])
        assert {name: found[name] for name in ASKED} == ASKED, command
    printed = run("prune", *common, "--kinds", "V", "--count", 3, "--out", mask).stdout
    (line,) = (line for line in printed.splitlines() if "eigenprune eval" in line)
    assert shlex.join(CHAT) in line


def test_a_mask_made_as_usual_says_nothing_of_it(chatting: Path, file: Path, tmp_path: Path) -> None:
    """Such a file is one that older versions read."""
    run("prune", "--model", chatting, "--task", file, "--kinds", "V", "--count", 1, "--out", tmp_path / "mask.json")
    assert not set(json.loads((tmp_path / "mask.json").read_text())["provenance"]) & set(ASKED)


def test_a_search_is_asked_in_its_framing(chatting: Path, file: Path, tmp_path: Path) -> None:
    words = ("search", "--model", chatting, "--task", file, "--kinds", "V", "--max-removed", 2, "--controls", 0)
    out, folder = tmp_path / "mask.json", tmp_path / "report"
    found = report(*words, *CHAT, "--bos", "always", "--out", out, "--report", folder)
    assert (found["bos"], found["chat"], found["system"]) == ("always", True, "w19")
    kept = json.loads((folder / "report.json").read_text())
    assert (kept["bos"], kept["chat"], kept["system"]) == ("always", True, "w19")
    page = (folder / "report.html").read_text()
    assert "system message" in page
    assert "a chat" in page


def test_one_prompt_is_read_in_a_chat_with_its_turns_of(chatting: Path) -> None:
    turns = ("--turn", "w1 w2", "--turn", "w3")
    found = report("activations", "--model", chatting, "--prompt", "w5", "--answer", " w6", *CHAT, *turns)
    said = ["<s>", "w19", "<e>", "<u>", "w1", "w2", "<e>", "<a>", "w3", "<e>", "<u>", "w5", "<e>", "<a>"]
    assert [one["text"] for one in found["tokens"]] == said
    assert found["lens"][0]["id"] == IDS["w6"]
    assert found["turns"] == ["w1 w2", "w3"]
    view = load(str(chatting), dtype="float32", device="cpu").view()
    reading = read_prompt(view, Example("w5", "", shown=(("w1 w2", "w3"),)), FRAMING)
    assert found["next"]["baseline"][0]["id"] == reading.top(1)[0][0]


@pytest.mark.slow
def test_what_cannot_be_asked_is_refused_in_one_sentence(chatting: Path, folder: Path, file: Path) -> None:
    common = ("eval", "--task", file)
    assert "no chat template" in refused(*common, "--model", folder, "--chat")
    assert "belongs to a chat" in refused(*common, "--model", folder, "--system", "w1")
    assert "choose one of auto, always, never" in refused(*common, "--model", folder, "--bos", "sometimes")
    assert "--turn is a turn of a chat" in refused("activations", "--model", folder, "--prompt", "w1", "--turn", "w2")
    said = refused("activations", "--model", chatting, "--prompt", "w1", "--chat", "--turn", "w2")
    assert "--turn is given 1 times" in said


def test_always_is_refused_for_a_tokenizer_without_bos(tmp_path: Path, file: Path) -> None:
    save(tmp_path, words(bos=False))
    assert "has no BOS token" in refused("eval", "--model", tmp_path, "--task", file, "--bos", "always")


def test_validate_names_tokens_beyond_the_embedding_and_unknown_words_and_choices_that_are_the_same(
    tmp_path: Path,
) -> None:
    tokenizer = words()
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    save(tmp_path / "model", tokenizer)
    rows = [
        {"prompt": "w1 <pad>", "answer": " w2", "split": "train"},
        {"prompt": "w1 here there", "answer": " w2", "split": "test"},
        {"prompt": "w3", "answer": " w2", "choices": [" w2", "  w2"], "split": "validation"},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run("tasks", "validate", file, "--model", tmp_path / "model", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["unknown"] == {"train": 0.0, "validation": 0.0, "test": 2 / 3}
    problems = {one["split"]: one["problem"] for one in found["problems"]}
    assert set(problems) == {"train", "validation"}
    assert "token '<pad>' (27) of 'w1 <pad> w2' is beyond the 27 rows" in problems["train"]
    assert "are the same tokens" in problems["validation"]
    said = run("tasks", "validate", file, "--model", tmp_path / "model")
    assert "does not know 67 % of the test prompts" in said.stderr
    measured = run("eval", "--model", tmp_path / "model", "--task", file, "--split", "test", "--json")
    assert "does not know 67 % of the prompts of rows.jsonl" in measured.stderr
