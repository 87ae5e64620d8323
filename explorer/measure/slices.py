"""On which examples? Accuracy, loss change and flips of a mask by slices of the same examples.

Slices are made by the answer, the prompt's length, any column that the task has, or what was right before. A column of
many numbers is cut at quantiles; of many texts the most frequent are slices, and the others one together. Every slice
has its intervals and its paired test, and all tests of one table are adjusted together (Holm).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.core.columns import Column
from explorer.core.errors import SettingsError
from explorer.core.records import Record
from explorer.core.texts import accuracy_text, loss_text
from explorer.measure.evaluate import Comparison
from explorer.measure.multiple import holm_adjusted
from explorer.tasks import Example
from explorer.tasks.only import Condition, as_number, columns_of, values_of

BEFORE = "before"  # whether the unpruned model was right
MOST, MOST_NUMBERS, BINS = 20, 12, 5  # slices of texts; of numbers, unless there are so many, and then
LEVEL = 0.05
_RIGHT = {True: "right before", False: "wrong before"}


@dataclass(frozen=True)
class Slice(Record):
    """Some of the examples.

    Attributes:
        name: what they have in common.
        only: the condition that makes a task of them alone, as `--only` takes it; null where there is none.
        n, places: how many there are, and where they stand in the split.
        baseline, masked: n, accuracy, accuracy_interval (95 % Wilson), loss and its stderr, unpruned and with the mask.
        loss_change: value and stderr of the paired change, nats per example, and its 95 % bootstrap `interval`.
        repaired, broken: examples that went from wrong to right, and from right to wrong.
        p, p_holm: McNemar's exact test, alone, and adjusted for all slices of the table.
    """

    name: str
    only: str | None
    n: int
    places: tuple[int, ...]
    baseline: Mapping[str, Any]
    masked: Mapping[str, Any]
    loss_change: Mapping[str, Any]
    repaired: int
    broken: int
    p: float
    p_holm: float


def columns(examples: Sequence[Example]) -> tuple[str, ...]:
    """What slices can be made by."""
    return (*columns_of(examples), BEFORE)


def slices(found: Comparison, examples: Sequence[Example], by: str, *, seed: int = 0) -> tuple[Slice, ...]:
    """The slices of a comparison by a column, or the two by a condition such as `prompt~not`, the largest first.

    Args:
        found: the mask beside the unpruned model.
        examples: what was measured, with its columns, in the comparison's order.
        by: one of `columns`, or a condition.
        seed: of the bootstrap.

    Raises:
        SettingsError: no such column.
        TaskError: no condition.
    """
    groups = _groups(found, examples, by)
    tests = [Comparison(found.masked.only(places), found.baseline.only(places)) for _, _, places in groups]
    adjusted = holm_adjusted([one.accuracy_test.p for one in tests])
    return tuple(
        Slice(
            name, only, len(places), places=tuple(places),
            baseline=_figures(one, "baseline"), masked=_figures(one, "masked"),
            loss_change={
                "value": one.loss_change.value, "stderr": one.loss_change.stderr,
                "interval": list(one.loss_interval(seed)),
            },
            repaired=len(one.repaired), broken=len(one.broken), p=one.accuracy_test.p, p_holm=p_holm,
        )
        for (name, only, places), one, p_holm in zip(groups, tests, adjusted, strict=True)
    )  # fmt: skip


def _figures(found: Comparison, side: str) -> dict[str, Any]:
    one = found.baseline if side == "baseline" else found.masked
    return {
        "n": one.n, "accuracy": one.accuracy, "accuracy_interval": list(one.accuracy_interval),
        "loss": one.mean_loss.value, "loss_stderr": one.mean_loss.stderr,
    }  # fmt: skip


_Group = tuple[str, str | None, list[int]]  # name, condition, places


def _groups(found: Comparison, examples: Sequence[Example], by: str) -> list[_Group]:
    if by == BEFORE:
        sides = [(was, [place for place, one in enumerate(found.baseline.correct) if one is was]) for was in _RIGHT]
        return [(_RIGHT[was], None, places) for was, places in sides if places]
    if set("=~") & set(by):
        condition = Condition.read(by)
        held = [place for place, one in enumerate(examples) if condition.holds(one)]
        rest = [place for place in range(len(examples)) if place not in set(held)]
        both: list[_Group] = [(by.strip(), by.strip(), held), (f"not {by.strip()}", None, rest)]
        return [one for one in both if one[2]]
    if by not in columns_of(examples):
        known = ", ".join(columns(examples))
        raise SettingsError(f"there is no column {by[:40]!r}: slice by {known}, or by a condition such as prompt~not.")
    values = [values_of(one).get(by) for one in examples]
    texts = {place: value.strip() for place, value in enumerate(values) if value is not None and value.strip()}
    numbers = {place: number for place, text in texts.items() if (number := as_number(text)) is not None}
    counts = Counter(texts.values())
    if len(numbers) == len(texts) and len(counts) > MOST_NUMBERS:
        groups = _binned(by, numbers)
    else:
        shown = [text for text, _ in counts.most_common(MOST)]
        if len(numbers) == len(texts):
            shown.sort(key=float)
        groups = [(text, f"{by}={text}", [p for p, one in texts.items() if one == text]) for text in shown]
        others = [place for place, text in texts.items() if text not in set(shown)]
        if others:
            groups.append((f"{len(counts) - len(shown):,} others", None, others))
    without = [place for place in range(len(examples)) if place not in texts]
    return [*groups, *([(f"without {by}", None, without)] if without else [])]


def _binned(by: str, numbers: Mapping[int, float]) -> list[_Group]:
    """Numbers cut at quantiles, ascending; equal numbers share a slice."""
    values = np.array(list(numbers.values()))
    cuts = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
    bins: dict[int, list[int]] = {}
    for place, number in numbers.items():
        bins.setdefault(int(np.searchsorted(cuts, number, side="left")), []).append(place)
    groups: list[_Group] = []
    for _, places in sorted(bins.items()):
        low, high = (_number(end([numbers[place] for place in places])) for end in (min, max))
        name = low if low == high else f"{low} to {high}"
        groups.append((name, f"{by}={low}" if low == high else f"{by}={low}..{high}", places))
    return groups


def _number(value: float) -> str:
    """A number that reads back as itself."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


# ---- in words


def slices_sentence(found: Sequence[Slice], by: str) -> str:
    """How many slices there are and how many of them changed beyond chance, with what is to be known of that."""
    changed = [one for one in found if one.p_holm <= LEVEL]
    alone = sum(one.p <= LEVEL for one in found)
    names = f": {', '.join(one.name for one in changed)}" if changed else ""
    more = f" ({alone:,} alone)" if alone != len(changed) else ""
    said = (
        f"{len(found):,} slice{'s' * (len(found) != 1)}, tested together: with Holm's adjustment {len(changed):,} "
        f"change in accuracy at p ≤ {LEVEL:g}{more}{names}. Each interval is for its slice alone."
    )
    if by == BEFORE:
        said += " What was right before can only break and what was wrong can only be repaired, by any mask."
    return said


def _accuracy(figures: Mapping[str, Any]) -> str:
    return accuracy_text(figures["accuracy"], figures["accuracy_interval"], figures["n"])


def _change(change: Mapping[str, Any]) -> str:
    low, high = change["interval"]
    spread = f" [{low:+.3f}, {high:+.3f}]" if math.isfinite(low) else ""
    return f"{loss_text(change['value'], change['stderr'], signed=True)}{spread}"


SLICE_COLUMNS: tuple[Column[Slice], ...] = (
    Column("slice", lambda row: row.name),
    Column("unpruned", lambda row: row.baseline, _accuracy),
    Column("with the mask", lambda row: row.masked, _accuracy),
    Column("repaired", lambda row: row.repaired),
    Column("broken", lambda row: row.broken),
    Column("p (Holm)", lambda row: row.p_holm, lambda p: f"{p:.2g}"),
    Column("loss change", lambda row: row.loss_change, _change),
)
