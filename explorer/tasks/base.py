"""What a task is: examples in three disjoint splits. Text only."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from explorer.errors import TaskError
from explorer.files import digest

SPLITS = ("train", "validation", "test")
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
T = TypeVar("T")
Splits = tuple[tuple[T, ...], tuple[T, ...], tuple[T, ...]]  # train, validation, test


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the answer text that follows it directly (with its leading space, if it has one).

    Attributes:
        choices: the answers among which the most probable one is taken, the right one among them; empty if it is open.
        distractor: one wrong answer to compare the right one with; None if there is none.

    Raises:
        TaskError: the answer is not among the choices, a choice comes twice, or the distractor is the answer.
    """

    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    distractor: str | None = None

    def __post_init__(self) -> None:
        if self.choices and self.answer not in self.choices:
            raise TaskError(
                f"answer {self.answer[:40]!r} is not among the choices {', '.join(map(repr, self.choices))[:80]}: "
                "write it exactly as one of them, its leading space included."
            )
        if len(set(self.choices)) < len(self.choices):
            raise TaskError(f"a choice comes twice in {', '.join(map(repr, self.choices))[:80]}: name each one once.")
        if self.distractor == self.answer:
            raise TaskError(f"the distractor {self.answer[:40]!r} is the answer itself: give a wrong answer.")


@dataclass(frozen=True)
class Task:
    """Examples to score on (`train`), to choose on (`validation`) and to report on (`test`).

    Attributes:
        name: the name in the TASKS table, or the file it was read from.
        bos: whether a beginning-of-sequence token goes in front, if the tokenizer has one.
        seed: seed of the split.
        shots: how many train examples stand in front of every prompt; the prompts already hold them.
        template: the prompt template if it is not the task's own; the prompts are already made from it.
    """

    name: str
    description: str
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    seed: int
    bos: bool = True
    shots: int = 0
    template: str | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the examples of all splits: equal exactly when the task asks the same.

        Shots and template are covered because the prompts are made with them.
        """
        splits = [
            [(one.prompt, one.answer, one.choices, one.distractor) for one in getattr(self, split)] for split in SPLITS
        ]
        return digest([json.dumps([self.bos, splits]).encode()])

    def split(self, name: str, limit: int | None = None) -> tuple[Example, ...]:
        """The examples of one split, or its first `limit` (splits are shuffled, so that is a random sample).

        Raises:
            TaskError: no such split, an empty one, or a limit below 1.
        """
        if name not in SPLITS:
            raise TaskError(f"{name!r} is not a split: choose one of {', '.join(SPLITS)}.")
        if limit is not None and limit < 1:
            raise TaskError(f"a limit of {limit} examples leaves nothing to measure: give 1 or more.")
        examples: tuple[Example, ...] = getattr(self, name)
        if not examples:
            raise TaskError(f"the {name} split of {self.name} is empty: choose another split or add examples to it.")
        return examples[:limit]

    def seen(self, name: str) -> int:
        """How many examples of a split have a prompt that an earlier one (train, validation, test) has, too.

        0 for every built-in task; a file that names its splits can be otherwise.
        """
        place = SPLITS.index(name)
        earlier = {one.prompt for split in SPLITS[:place] for one in getattr(self, split)}
        return sum(one.prompt in earlier for one in getattr(self, name))


def split_items(items: Sequence[T], seed: int, key: Callable[[T], object]) -> Splits[T]:
    """Shuffle by `seed` and cut into train (70 %), validation (10 %) and test (20 %, as published).

    Items with the same `key` stay together, so that none of them is in two splits.
    """
    groups: dict[object, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    n_test, n_validation = round(TEST_SHARE * len(order)), round(VALIDATION_SHARE * len(order))
    held_out = n_test + n_validation
    return _flat(order[held_out:]), _flat(order[n_test:held_out]), _flat(order[:n_test])


def split_examples(examples: Sequence[Example], seed: int) -> Splits[Example]:
    """`split_items` for examples: those with the same prompt stay together."""
    return split_items(examples, seed, lambda example: example.prompt)


def _flat(groups: Sequence[Sequence[T]]) -> tuple[T, ...]:
    return tuple(item for group in groups for item in group)
