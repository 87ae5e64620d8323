"""Built-in tasks as published, and their splits."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from explorer.core.errors import TaskError
from explorer.tasks import SPLITS, TASKS, Cases, Example, Task, ioi, load_task
from explorer.tasks.base import split_examples

LIMITS = {"int-sum": 100, "int-mult": 20, "int-mult-12": 12}
SIGNS: dict[str, tuple[str, Callable[[int, int], int]]] = {
    "int-sum": ("+", lambda i, j: i + j),
    "int-mult": ("x", lambda i, j: i * j),
    "int-mult-12": ("*", lambda i, j: i * j),
}

MADE = sorted(name for name, spec in TASKS.items() if not spec.needs_data)


def all_examples(task: Task) -> list[Example]:
    return [*task.train, *task.validation, *task.test]


@pytest.mark.parametrize(("name", "sizes"), [("int-sum", (7000, 1000, 2000)), ("int-mult", (280, 40, 80))])
def test_the_splits_have_the_published_sizes_and_share_nothing(name: str, sizes: tuple[int, int, int]) -> None:
    task = load_task(name, cases=Cases("published"))
    assert tuple(len(task.split(split)) for split in SPLITS) == sizes
    assert len(set(all_examples(task))) == sum(sizes)


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_every_pair_is_asked_once_in_the_published_words(name: str) -> None:
    sign, result = SIGNS[name]
    found = set()
    for example in all_examples(load_task(name, seed=3)):
        match = re.fullmatch(rf"(\d+) {re.escape(sign)} (\d+) =", example.prompt)
        assert match, example.prompt
        i, j = int(match[1]), int(match[2])
        assert example.answer == f" {result(i, j)}"
        found.add((i, j))
    assert found == {(i, j) for i in range(LIMITS[name]) for j in range(LIMITS[name])}


@pytest.mark.parametrize("name", MADE)
def test_splits_follow_the_seed(name: str) -> None:
    assert load_task(name, seed=1) == load_task(name, seed=1)
    assert load_task(name, seed=1).digest == load_task(name, seed=1).digest
    assert load_task(name, seed=1).test != load_task(name, seed=2).test
    assert load_task(name, seed=1).digest != load_task(name, seed=2).digest
    assert set(all_examples(load_task(name, seed=1))) == set(all_examples(load_task(name, seed=2)))
    assert load_task(name).bos is True
    assert load_task(name).name == name


def test_splits_do_not_favour_small_numbers() -> None:
    first = [int(example.prompt.split()[0]) for example in load_task("int-sum").test]
    assert abs(sum(first) / len(first) - 49.5) < 3


def test_the_digest_tells_tasks_apart() -> None:
    one, two = Example("a", " b"), Example("c", " d")
    tasks = [
        Task("t", "", (one,), (), (two,), 0),
        Task("t", "", (two,), (), (one,), 0),
        Task("t", "", (one, two), (), (), 0),
        Task("t", "", (one,), (two,), (), 0),
        Task("t", "", (one,), (), (two,), 0, bos=False),
        Task("t", "", (Example("a ", "b"),), (), (two,), 0),
        Task("t", "", (Example("a", " b", (" b", " c")),), (), (two,), 0),
        Task("t", "", (Example("a", " b", (" c", " b")),), (), (two,), 0),
        Task("t", "", (Example("a", " b", distractor=" c"),), (), (two,), 0),
        Task("t", "", (Example("a", " b\0"),), (), (two,), 0),
    ]
    assert len({task.digest for task in tasks}) == len(tasks)
    assert Task("other", "words", (one,), (), (two,), 5).digest == tasks[0].digest


def test_examples_are_cut_into_shares_without_loss() -> None:
    examples = [Example(str(i), " x") for i in range(25)]
    train, validation, test = split_examples(examples, seed=0)
    assert [len(part) for part in (train, validation, test)] == [18, 2, 5]
    assert sorted((*train, *validation, *test), key=lambda e: int(e.prompt)) == examples


def test_a_limit_takes_the_first_examples_of_a_split() -> None:
    task = load_task("int-mult")
    assert task.split("test", 5) == task.test[:5]
    assert task.split("test", 1000) == task.test


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_that_leaves_nothing_is_refused(limit: int) -> None:
    with pytest.raises(TaskError, match=f"a limit of {limit} examples leaves nothing to measure"):
        load_task("int-mult").split("test", limit)


def test_splits_that_are_not_there_are_refused() -> None:
    with pytest.raises(TaskError, match="'dev' is not a split: choose one of train, validation, test"):
        load_task("int-mult").split("dev")
    with pytest.raises(TaskError, match="the validation split of t is empty: choose another"):
        Task("t", "", (), (), (), 0).split("validation")


@pytest.mark.parametrize("name", ["int-div", "", "a" * 5000, "~nobody-of-this-name/task", "no/such/file", "\0"])
def test_unknown_tasks_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(
        TaskError, match=r"is not a task: choose one of int-sum, int-mult, .* path of a \.jsonl or \.csv"
    ):
        load_task(name)


def test_a_file_of_any_name_is_read_as_json_lines(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="int-sum is made without data: leave out the data folder"):
        load_task("int-sum", data=tmp_path)
    (tmp_path / "task.txt").write_text('{"prompt": "a", "answer": " b"}\n')
    assert load_task(str(tmp_path / "task.txt")).train == (Example("a", " b"),)
    with pytest.raises(TaskError, match=r"none\.jsonl cannot be read \(No such file or directory\): check the path"):
        load_task(str(tmp_path / "none.jsonl"))


@pytest.mark.parametrize("name", MADE)
def test_no_prompt_is_in_two_splits_or_twice_in_one(name: str) -> None:
    for seed in range(3):
        prompts = [example.prompt for example in all_examples(load_task(name, seed))]
        assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("name", MADE)
def test_answers_follow_a_space_and_prompts_end_without_one(name: str) -> None:
    for example in all_examples(load_task(name)):
        assert example.prompt == example.prompt.strip()
        others = (*example.choices, *([example.distractor] if example.distractor else []))
        for text in (example.answer, *others):
            assert re.fullmatch(r" \S.*\S|.\S", text)


def test_the_indirect_object_is_the_name_that_was_said_once() -> None:
    first = 0
    for example in all_examples(load_task("ioi")):
        words = re.findall(r"[A-Z][a-z]+", example.prompt)
        names = [word for word in words if word in ioi.NAMES]
        assert names.count(example.answer.strip()) == 1
        assert example.distractor is not None
        assert names.count(example.distractor.strip()) == 2
        assert len(names) == 3
        first += names[0] == example.answer.strip()
    assert first == ioi.SIZE // 2  # the answer is not told by its place


def test_what_began_ends_later_in_the_same_century() -> None:
    first = 0
    for example in all_examples(load_task("greater-than")):
        start = int(example.prompt.split()[-4])
        later, earlier = int(example.answer), int(example.distractor or 0)
        assert earlier < start < later
        assert later - start == start - earlier
        assert len({year // 100 for year in (start, later, earlier)}) == 1
        assert set(example.choices) == {example.answer, example.distractor}
        first += example.choices[0] == example.answer
    assert 400 < first < 600


def test_induction_asks_for_the_word_that_came_next_before() -> None:
    for example in all_examples(load_task("induction")):
        words = example.prompt.split()
        last = words[-1]
        assert words.count(last) == 2
        assert example.answer == f" {words[words.index(last) + 1]}"
        assert example.distractor is not None
        assert example.distractor.strip() in words


def test_capitals_are_different_and_wrong_ones_are_wrong() -> None:
    examples = all_examples(load_task("capitals"))
    assert len({example.answer for example in examples}) == len(examples)
    known = {"France": " Paris", "Japan": " Tokyo", "Australia": " Canberra", "Kenya": " Nairobi", "Canada": " Ottawa"}
    found = {example.prompt: example for example in examples}
    for country, capital in known.items():
        assert found[f"The capital of {country} is"].answer == capital
