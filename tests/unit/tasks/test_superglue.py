"""CB, COPA and RTE: prompts as published, labels in words and numbers, folders as they are found in the wild."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from explorer import tasks
from explorer.core.errors import TaskError
from explorer.tasks import Example, load_task
from explorer.tasks.superglue import in_folder

PAIR = {"premise": "It rained.", "hypothesis": "It was wet."}
COPA = {"premise": "The man woke.", "choice1": "It rang.", "choice2": "He slept.", "question": "cause"}
LABELS = {
    "cb": ["entailment", "contradiction", "neutral"],
    "rte": ["entailment", "not_entailment"],
    "copa": ["choice1", "choice2"],
}
ANSWERS = {
    "cb": (" entails", " contradicts", " is neutral"),
    "rte": (" entails", " contradicts"),
    "copa": (" 1", " 2"),
}
PROMPTS = {
    "cb": "Premise: It rained.\n\nHypothesis: It was wet.\n\nDoes the premise entail, contradict or is neutral to the "
    "hypothesis?\nAnswer (entails, contradicts, is neutral): The premise",
    "rte": "Premise: It rained.\n\nHypothesis: It was wet.\n\nDoes the premise entail or contradict to the "
    "hypothesis?\nAnswer (entails or contradicts): The premise",
    "copa": "Premise: The man woke.\nWhat was the cause of this?\n\nAlternative 1: It rang.\nAlternative 2: He slept."
    "\n\nWhat is the correct alternative?\nThe correct alternative is alternative",
}
NAMES = sorted(LABELS)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    """What a test fetches from its own hub is not what the next one finds."""
    tasks._made.cache_clear()
    yield
    tasks._made.cache_clear()


def record(name: str, label: Any, **changes: Any) -> dict[str, Any]:
    return {**(COPA if name == "copa" else PAIR), "label": label, "idx": 0, **changes}


def write(folder: Path, rows: list[Any], file: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def save(folder: Path, name: str, *, numbers: bool, inner: str | None = None, validation: str = "validation") -> Path:
    labels: list[Any] = list(range(len(LABELS[name]))) if numbers else LABELS[name]
    place = folder / (name if inner is None else inner)
    train = [record(name, labels[i % len(labels)], premise=f"Train {i}.") for i in range(20)]
    test = [record(name, label, premise=f"Test {label}.") for label in labels]
    write(place, train, "train.jsonl")
    write(place, [*test, record(name, labels[0])], f"{validation}.jsonl")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_prompts_answers_and_splits_are_as_published(name: str, tmp_path: Path) -> None:
    words = load_task(name, data=save(tmp_path / "words", name, numbers=False))
    numbers = load_task(name, data=save(tmp_path / "numbers", name, numbers=True))
    assert Example(PROMPTS[name], ANSWERS[name][0], ANSWERS[name]) in words.test
    assert sorted(one.answer for one in words.test) == sorted((*ANSWERS[name], ANSWERS[name][0]))
    assert [one.answer for one in words.train] == [one.answer for one in numbers.train]
    assert (len(words.train), len(words.validation), len(words.test)) == (16, 4, len(LABELS[name]) + 1)
    assert not words.bos
    assert load_task(name, seed=1, data=tmp_path / "words").train != words.train


@pytest.mark.parametrize(("inner", "validation"), [("CB", "val"), ("", "validation"), ("cb", "val")])
def test_folders_as_they_come_are_found(inner: str, validation: str, tmp_path: Path) -> None:
    expected = load_task("cb", data=save(tmp_path / "a", "cb", numbers=False))
    found = load_task("cb", data=save(tmp_path / "b", "cb", numbers=False, inner=inner, validation=validation))
    assert found.digest == expected.digest


def test_examples_of_the_test_split_are_taken_out_of_train(tmp_path: Path) -> None:
    rows = [record("rte", 0, premise=f"{i % 8}.") for i in range(12)]
    write(tmp_path, rows, "train.jsonl")
    write(tmp_path, rows[:3], "validation.jsonl")
    task = load_task("rte", data=tmp_path)
    assert (len(task.train), len(task.validation), len(task.test)) == (4, 1, 3)
    assert [task.seen(split) for split in ("train", "validation", "test")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        (
            "cb",
            record("cb", "maybe"),
            "line 2: label 'maybe' is not known; expected entailment, contradiction, neutral or",
        ),
        ("cb", record("cb", -1), "label '-1' is not known"),
        ("cb", record("cb", True), "label 'True' is not known"),
        ("cb", {"premise": "a", "hypothesis": "b"}, "label 'None' is not known"),
        ("rte", record("rte", 2), "label '2' is not known; expected entailment, not_entailment or 0 to 1"),
        ("rte", {"premise": "a", "label": 0}, "line 2: no hypothesis; SuperGLUE's lines have a text there"),
        ("copa", record("copa", 0, question="why"), "question 'why' is not known; expected cause or effect"),
        ("copa", [1], "line 2: not a JSON object"),
    ],
)
def test_a_bad_line_is_named(name: str, row: Any, reason: str, tmp_path: Path) -> None:
    write(tmp_path / name, [record(name, 0), row], "train.jsonl")
    write(tmp_path / name, [record(name, 0)], "val.jsonl")
    with pytest.raises(TaskError) as caught:
        load_task(name, data=tmp_path)
    assert str(caught.value).startswith(f"{name}/train.jsonl, line 2: ")
    assert reason in str(caught.value)


def test_a_folder_without_the_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"has no copa/train\.jsonl: give the folder of SuperGLUE's JSON lines"):
        load_task("copa", data=tmp_path)
    write(tmp_path, [], "train.jsonl")
    write(tmp_path, [], "validation.jsonl")
    with pytest.raises(TaskError, match=r"train\.jsonl is empty"):
        load_task("copa", data=tmp_path)


def test_without_a_folder_rows_come_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_task("rte", data=save(tmp_path, "rte", numbers=True))

    def load_dataset(repo: str, name: str) -> dict[str, list[Any]]:
        assert (repo, name) == ("aps/super_glue", "rte")
        files = {split: tmp_path / "rte" / f"{split}.jsonl" for split in ("train", "validation")}
        return {split: [json.loads(line) for line in path.read_text().splitlines()] for split, path in files.items()}

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert load_task("rte", seed=0).digest == expected.digest


def test_a_hub_out_of_reach_is_one_sentence() -> None:
    with pytest.raises(
        TaskError, match=r"cb could not be had from the hub's aps/super_glue \(.*\): give the folder of"
    ):
        load_task("cb")


def test_a_template_may_use_the_published_placeholders(tmp_path: Path) -> None:
    task = load_task("copa", data=save(tmp_path, "copa", numbers=False), template="{premise}|{choice_1}|{choice_2}")
    assert any(one.prompt == "The man woke.|It rang.|He slept." for one in task.test)


def test_a_folder_has_the_tasks_that_lie_under_their_names(tmp_path: Path) -> None:
    save(tmp_path, "cb", numbers=True, inner="CB", validation="val")
    save(tmp_path, "copa", numbers=True)
    (tmp_path / "copa" / "validation.jsonl").unlink()
    assert [name for name in NAMES if in_folder(name, tmp_path)] == ["cb"]
    assert [name for name in NAMES if in_folder(name, tmp_path / "CB")] == ["cb"]  # those lines are not RTE's
    assert not [name for name in NAMES if in_folder(name, tmp_path / "nowhere")]
