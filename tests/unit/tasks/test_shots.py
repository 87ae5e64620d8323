"""Few-shot prompts: whose examples stand in front, and what is never shown."""

from __future__ import annotations

import pytest

from explorer.core.errors import TaskError
from explorer.tasks import SPLITS, Example, Task, load_task, with_shots

LETTERS = "abcdefgh"


def small(*train: str, test: tuple[str, ...] = ("x", "y")) -> Task:
    return Task("small", "", _asked(train), _asked(("v",)), _asked(test), seed=0)


def _asked(prompts: tuple[str, ...] | str) -> tuple[Example, ...]:
    return tuple(Example(prompt, f" {prompt.upper()}") for prompt in prompts)


def test_the_same_examples_stand_in_front_of_every_prompt() -> None:
    task = with_shots(small(*LETTERS), 3)
    front = "a A\nb B\nc C\n"
    assert [one.prompt for one in task.test] == [front + "x", front + "y"]
    assert [one.prompt for one in task.validation] == [front + "v"]
    assert [one.prompt for one in task.train[3:]] == [front + letter for letter in LETTERS[3:]]
    assert [one.answer for one in task.test] == [" X", " Y"]
    assert task.shots == 3


def test_an_example_never_stands_in_front_of_itself() -> None:
    task = with_shots(small(*LETTERS), 3)
    assert [one.prompt for one in task.train[:3]] == ["b B\nc C\nd D\na", "a A\nc C\nd D\nb", "a A\nb B\nd D\nc"]


def test_held_out_and_repeated_prompts_are_not_shown() -> None:
    task = with_shots(small("a", "x", "a", "v", "b", "c", "d"), 2)
    assert task.test[0].prompt == "a A\nb B\nx"
    assert task.train[1].prompt == "a A\nb B\nx"
    assert task.train[2].prompt == "b B\nc C\na"


def test_prompts_of_several_lines_are_set_apart_by_an_empty_line() -> None:
    assert with_shots(small("a\nq", "b", "c"), 1).test[0].prompt == "a\nq A\nQ\n\nx"


@pytest.mark.parametrize("name", ["int-mult", "ioi", "greater-than", "capitals", "induction"])
def test_built_in_tasks_keep_their_examples(name: str) -> None:
    plain, shown = load_task(name, seed=1), load_task(name, seed=1, shots=4)
    assert plain.digest != shown.digest
    fronts = set()
    for split in SPLITS:
        for one, two in zip(plain.split(split), shown.split(split), strict=True):
            assert two.prompt.endswith("\n" + one.prompt)
            assert (two.answer, two.choices, two.distractor) == (one.answer, one.choices, one.distractor)
            front = two.prompt.removesuffix(one.prompt)
            assert one.prompt + one.answer + "\n" not in front
            assert front.count("\n") == 4
            fronts.add(front)
    assert len(fronts) == 1 + 4
    assert with_shots(plain, 0) is plain


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(
        TaskError, match="small has 3 different train prompts that are in no other split: 3 shots need 4"
    ):
        with_shots(small("a", "b", "c", "x", "a"), 3)
    for count in (-1, 65):
        with pytest.raises(TaskError, match=f"{count} shots cannot be given: choose 0 to 64"):
            with_shots(small(*LETTERS), count)
    with pytest.raises(TaskError, match="small has 1 shots already"):
        with_shots(with_shots(small(*LETTERS), 1), 1)
