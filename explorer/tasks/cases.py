"""Which cases of a task are for searching and which for testing: what stays together, what is held out, wordings."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from explorer.core.errors import SettingsError, TaskError

SplitRule = Literal["twins", "published"]
HeldOut = Literal["operands", "answers", "wordings"]
SPLIT_RULES: tuple[SplitRule, ...] = get_args(SplitRule)
HELD_OUT: tuple[HeldOut, ...] = get_args(HeldOut)
MOST_WORDINGS = 100
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
T = TypeVar("T")
Splits = tuple[tuple[T, ...], tuple[T, ...], tuple[T, ...]]  # train, validation, test


@dataclass(frozen=True)
class Cases:
    """How a task's cases fall into splits, and how many wordings they are asked in.

    Attributes:
        splits: `twins`: cases that share an answer by symmetry, such as `3 * 11` and `11 * 3`, are in one split.
            `published`: every ordered pair for itself, as in the paper; for reproductions.
        hold_out: what test cases have that no case of train or validation has. `operands`: numbers, names, inputs (and
            validation cases have some that no train case has). `answers`. `wordings`: templates. None: nothing more.
        wordings: in how many of the task's wordings for searching the cases are asked, in turn.
        only: a condition that examples must hold (`explorer.tasks.only`), such as `i=3`; None for all of them.

    Raises:
        SettingsError: a number of wordings below 1, or something held out of the published splits.
    """

    splits: SplitRule = "twins"
    hold_out: HeldOut | None = None
    wordings: int = 1
    only: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.wordings <= MOST_WORDINGS:
            raise SettingsError(f"{self.wordings} wordings cannot be taken: give 1 to {MOST_WORDINGS}.")
        if self.splits == "published" and self.hold_out is not None:
            raise SettingsError(
                f"the published splits hold nothing out: leave out {self.hold_out}, or the published splits."
            )

    def as_dict(self) -> dict[str, Any]:
        """`splits`, `hold_out`, `wordings` and `only`, for a report."""
        return {"splits": self.splits, "hold_out": self.hold_out, "wordings": self.wordings, "only": self.only}


USUAL_CASES = Cases()


def as_cases(
    splits: str = "twins", hold_out: str | None = None, wordings: int = 1, *, only: str | None = None
) -> Cases:
    """Cases from options; raises SettingsError for an unknown rule, or as `Cases` does."""
    rules: dict[str, SplitRule] = {rule: rule for rule in SPLIT_RULES}
    if splits not in rules:
        raise SettingsError(f"splits {splits[:40]!r} are not known: choose one of {', '.join(SPLIT_RULES)}.")
    kinds: dict[str, HeldOut] = {kind: kind for kind in HELD_OUT}
    if hold_out is not None and hold_out not in kinds:
        raise SettingsError(f"{hold_out[:40]!r} cannot be held out: choose one of {', '.join(HELD_OUT)}.")
    return Cases(rules[splits], None if hold_out is None else kinds[hold_out], wordings, only=only)


def split_items(items: Sequence[T], seed: int, key: Callable[[T], object]) -> Splits[T]:
    """Shuffle by `seed` and cut into train (70 %), validation (10 %) and test (20 %, as published).

    Items with the same `key` stay together, so that none of them is in two splits.
    """
    keys = list(map(key, items))
    if len(set(keys)) == len(keys):  # nothing to keep together
        return _cut(list(items), seed)
    groups: dict[object, list[T]] = {}
    for item, name in zip(items, keys, strict=True):
        groups.setdefault(name, []).append(item)
    train, validation, test = _cut(list(groups.values()), seed)
    return _flat(train), _flat(validation), _flat(test)


def split_related(items: Sequence[T], seed: int, keys: Callable[[T], Iterable[Hashable]], *, what: str) -> Splits[T]:
    """The same where items may have several keys: those that share one, directly or over others, stay together.

    Groups are taken in an order by `seed` as long as they fit into test, then validation; the others are train.

    Raises:
        TaskError: the groups are too few or too large for three splits; `what` says of what they are.
    """
    groups = _related(items, keys)
    random.Random(seed).shuffle(groups)
    room = {"test": TEST_SHARE * len(items), "validation": VALIDATION_SHARE * len(items), "train": len(items)}
    found: dict[str, list[T]] = {name: [] for name in room}
    for group in groups:
        place = next(name for name in room if len(found[name]) + len(group) <= max(room[name], 1))
        found[place] += group
    return _shuffled(found["train"], found["validation"], found["test"], seed=seed, what=what)


def split_by_operands(items: Sequence[T], seed: int, operands: Callable[[T], Collection[str]]) -> Splits[T]:
    """Test items have an operand that no other item has, validation items one that no train item has.

    As many operands are held out, in an order by `seed`, as bring the shares nearest to those of other splits.

    Raises:
        TaskError: too few operands.
    """
    names = sorted({name for item in items for name in operands(item)})
    random.Random(seed).shuffle(names)
    test, rest = _held_out(items, names, operands, wanted=TEST_SHARE * len(items))
    kept = [name for name in names if any(name in operands(item) for item in rest)]
    validation, train = _held_out(rest, kept, operands, wanted=VALIDATION_SHARE * len(items))
    return _shuffled(train, validation, test, seed=seed, what="operands")


def _held_out(
    items: Sequence[T], names: Sequence[str], operands: Callable[[T], Collection[str]], wanted: float
) -> tuple[list[T], list[T]]:
    """The items that have one of the first names, of which there are about `wanted`, and the others."""
    place = {name: number for number, name in enumerate(names)}
    first = [min((place[name] for name in operands(item)), default=len(names)) for item in items]
    taken, count = 0, 0
    added: dict[int, int] = defaultdict(int)
    for number in first:
        added[number] += 1
    while taken < len(names) and (not count or abs(count + added[taken] - wanted) <= abs(count - wanted)):
        count += added[taken]
        taken += 1
    out = [item for item, number in zip(items, first, strict=True) if number < taken]
    return out, [item for item, number in zip(items, first, strict=True) if number >= taken]


def _related(items: Sequence[T], keys: Callable[[T], Iterable[Hashable]]) -> list[list[T]]:
    """Items in groups, in the order of their first items."""
    parent = list(range(len(items)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = place = parent[parent[place]]
        return place

    first: dict[Hashable, int] = {}
    for place, item in enumerate(items):
        for key in keys(item):
            one, other = root(first.setdefault(key, place)), root(place)
            parent[max(one, other)] = min(one, other)
    groups: dict[int, list[T]] = {}
    for place, item in enumerate(items):
        groups.setdefault(root(place), []).append(item)
    return list(groups.values())


def _shuffled(train: list[T], validation: list[T], test: list[T], *, seed: int, what: str) -> Splits[T]:
    """The splits, each in an order of its own, so that its first items are a sample of it."""
    if not (train and validation and test):
        raise TaskError(f"too few different {what} to hold some out of training and validation: hold out nothing.")
    draw = random.Random(seed)
    for part in (train, validation, test):
        draw.shuffle(part)
    return tuple(train), tuple(validation), tuple(test)


def _cut(order: list[T], seed: int) -> Splits[T]:
    random.Random(seed).shuffle(order)
    n_test, n_validation = round(TEST_SHARE * len(order)), round(VALIDATION_SHARE * len(order))
    held_out = n_test + n_validation
    return tuple(order[held_out:]), tuple(order[n_test:held_out]), tuple(order[:n_test])


def _flat(groups: Sequence[Sequence[T]]) -> tuple[T, ...]:
    return tuple(item for group in groups for item in group)
