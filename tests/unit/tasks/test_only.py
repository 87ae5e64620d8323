"""One slice of a task: which examples it has, in every split, however the task is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explorer.core.errors import TaskError
from explorer.tasks import SPLITS, Cases, Example, Framing, Task, load_task, only
from explorer.tasks.only import Condition, columns_of, values_of

ROWS = [
    {"prompt": f"{a} and {b} =", "answer": f" {a + b}", "topic": "even" if a % 2 == 0 else "odd", "weight": a / 4}
    for a in range(12)
    for b in range(5)
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return path


def every(task: Task) -> list[Example]:
    return [one for split in SPLITS for one in getattr(task, split)]


def prompts(task: Task) -> set[str]:
    return {one.prompt for one in every(task)}


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ("topic=even", lambda row: row["topic"] == "even"),
        (" topic = odd ", lambda row: row["topic"] == "odd"),
        ("weight=0.5..1", lambda row: 0.5 <= row["weight"] <= 1),
        ("weight= .5 .. 1. ", lambda row: 0.5 <= row["weight"] <= 1),
        ("weight=1.5", lambda row: row["weight"] == 1.5),
        ("answer=4", lambda row: row["answer"] == " 4"),
        ("prompt~7 AND", lambda row: "7 and" in row["prompt"]),
        ("length=9", lambda row: len(row["prompt"]) == 9),
    ],
)
def test_a_slice_has_the_examples_that_hold_its_condition(file: Path, condition: str, wanted: object) -> None:
    whole, part = load_task(str(file)), load_task(str(file), cases=Cases(only=condition))
    assert prompts(part) == {row["prompt"] for row in ROWS if wanted(row)}  # type: ignore[operator]
    for split in SPLITS:
        assert set(getattr(part, split)) <= set(getattr(whole, split)), "an example changed its split"
    assert part.digest != whole.digest
    assert part.cases.as_dict()["only"] == condition


def test_further_columns_of_files_are_kept_and_named(file: Path, tmp_path: Path) -> None:
    task = load_task(str(file))
    assert columns_of(every(task)) == ("answer", "length", "topic", "weight")
    assert task.description == "60 examples from own.jsonl, with topic, weight"
    table = tmp_path / "own.csv"
    lines = ["prompt,answer,topic,hard", *(f"{r['prompt']},{r['answer']},{r['topic']}," for r in ROWS)]
    table.write_text("\n".join(lines))
    read = load_task(str(table))
    assert {dict(one.columns)["topic"] for one in every(read)} == {"even", "odd"}
    assert columns_of(every(read)) == ("answer", "length", "topic")  # an empty cell is not there
    assert read.digest == load_task(str(file)).digest, "columns are nothing that is asked"


@pytest.mark.parametrize("name", ["length", "before"])
def test_a_further_column_does_not_hide_behind_one_that_all_tasks_have(name: str, tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    table.write_text(f"prompt,answer,{name}\n" + "".join(f"{r['prompt']},{r['answer']},a\n" for r in ROWS))
    with pytest.raises(TaskError, match=f"a field cannot be called '{name}'"):
        load_task(str(table))


def test_operands_of_built_in_tasks_are_columns() -> None:
    task = load_task("int-mult", cases=Cases(only="i=3"))
    assert {one.prompt.split(" x ")[0] for one in every(task)} == {"3"}
    assert len(every(task)) == 20
    assert {"first", "second", "giver", "place", "object"} <= set(columns_of(load_task("ioi").test))


@pytest.mark.parametrize("chat", [False, True])
def test_conditions_are_on_the_question_not_on_the_shots_before_it(file: Path, chat: bool) -> None:
    bare = load_task(str(file), cases=Cases(only="prompt~7 and"))
    shown = load_task(str(file), shots=2, framing=Framing(chat=chat), cases=Cases(only="prompt~7 and"))
    assert [len(getattr(bare, split)) for split in SPLITS] == [len(getattr(shown, split)) for split in SPLITS]
    for one in every(shown):
        assert "7 and" in values_of(one)["prompt"]
        assert int(values_of(one)["length"]) == len(values_of(one)["prompt"]) < 12


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("topic", "is no condition"),
        ("topic=", "is no condition"),
        ("colour=red", "has no column 'colour' .* prompt, answer, length, topic, weight"),
        ("topic=prime", "values of topic are such as '(even|odd)'"),
        ("weight=7..9", "values of weight are such as"),
        ("weight=0.0.0..9", "values of weight are such as"),
    ],
)
def test_what_is_no_slice_is_refused(file: Path, condition: str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        load_task(str(file), cases=Cases(only=condition))


def test_without_a_condition_the_task_is_itself() -> None:
    task = load_task("int-mult")
    assert only(task, None) is task
    assert Condition.read("a=b=c").value == "b=c"
