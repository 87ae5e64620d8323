"""What a task is: examples in three disjoint splits. Text only."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from explorer.errors import TaskError
from explorer.files import digest

SPLITS = ("train", "validation", "test")
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the answer text that follows it directly (with its leading space, if it has one)."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Task:
    """Examples to score on (`train`), to choose on (`validation`) and to report on (`test`).

    Attributes:
        name: the name in the TASKS table, or the file it was read from.
        bos: whether a beginning-of-sequence token goes in front, if the tokenizer has one.
        seed: seed of the split.
    """

    name: str
    description: str
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    seed: int
    bos: bool = True

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the examples of all splits: equal exactly when the task asks the same."""
        examples = (f"{split}\0{one.prompt}\0{one.answer}\1" for split in SPLITS for one in getattr(self, split))
        return digest([f"{self.bos}\1{''.join(examples)}".encode()])

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


def split_examples(
    examples: Sequence[Example], seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...], tuple[Example, ...]]:
    """Shuffle by `seed` and cut into train (70 %), validation (10 %) and test (20 %, as published)."""
    order = list(examples)
    random.Random(seed).shuffle(order)
    n_test, n_validation = round(TEST_SHARE * len(order)), round(VALIDATION_SHARE * len(order))
    held_out = n_test + n_validation
    return tuple(order[held_out:]), tuple(order[n_test:held_out]), tuple(order[:n_test])
