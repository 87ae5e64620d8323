"""The time left of a job as it is told: near the truth at a steady pace, silent at another, and never growing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from explorer.ui.jobs.time_left import TimeLeft


def told(
    costs: Sequence[float], units: Sequence[float] | None = None
) -> tuple[list[tuple[float, float | None]], float]:
    """(seconds, what is told then) after each step and between steps, and how long all of it took.

    Args:
        costs: seconds of each step.
        units: how much of the progress bar each step fills; equal steps by default.
    """
    units = units or [1.0] * len(costs)
    left, now, done = TimeLeft(), 0.0, 0.0
    left.note(0.0, 0.0)
    said = []
    for cost, unit in zip(costs, units, strict=True):
        said.append((now + cost / 2, left.seconds(now + cost / 2)))
        now, done = now + cost, done + unit
        left.note(now, min(done / sum(units), 1.0))
        said.append((now, left.seconds(now)))
    return said, now


def never_grows(said: Sequence[tuple[float, float | None]]) -> bool:
    """Whether no figure is larger than the one before, silences apart."""
    pairs = [(one[1], two[1]) for one, two in pairwise(said)]
    return all(two <= one for one, two in pairs if one is not None and two is not None)


@pytest.mark.parametrize("seed", range(5))
def test_a_steady_pace_is_told_soon_and_right(seed: int) -> None:
    draw = random.Random(seed)
    said, end = told([draw.uniform(0.5, 1.5) for _ in range(100)])
    assert never_grows(said)
    figures = [(now, seconds) for now, seconds in said if seconds is not None and now < 0.95 * end]
    assert figures[0][0] < 0.15 * end
    assert len(figures) > 0.6 * len(said)
    assert all(0.5 < seconds / (end - now) < 2 for now, seconds in figures)


PORTIONS = {
    "cheap first": [(20, 0.1), (80, 1.0)],
    "dear first": [(20, 5.0), (80, 0.5)],
    "dear last": [(80, 0.5), (20, 5.0)],
    "a pause": [(40, 0.5), (1, 30.0), (59, 0.5)],
    "saw": [(10, 0.2), (10, 2.0)] * 5,
    "kept before": [(50, 0.001), (50, 1.0)],
}


@pytest.mark.parametrize("name", PORTIONS)
def test_portions_of_different_cost_never_make_it_grow(name: str) -> None:
    costs = [cost for count, cost in PORTIONS[name] for _ in range(count)]
    said, end = told(costs)
    assert never_grows(said)
    late = [(now, seconds) for now, seconds in said if seconds is not None and now > 0.9 * end and end - now > 1]
    assert all(seconds <= 3 * (end - now) for now, seconds in late)


def test_what_a_slow_portion_foretells_is_taken_back_at_once() -> None:
    said, end = told([5.0] * 20 + [0.5] * 80)
    assert max(seconds for now, seconds in said if seconds is not None and now < 100) > 300
    assert all(seconds < 30 for now, seconds in said if seconds is not None and end - 15 < now)


def test_work_that_hangs_falls_silent() -> None:
    left = TimeLeft()
    for second in range(21):
        left.note(float(second), second / 100)
    assert left.seconds(20.0) == pytest.approx(80.0)
    assert left.seconds(23.0) is not None
    assert left.seconds(90.0) is None


def test_less_than_before_is_a_new_beginning() -> None:
    left = TimeLeft()
    for second in range(11):
        left.note(float(second), second / 10)
    left.note(11.0, 0.0)
    assert left.seconds(11.5) is None
    for second in range(1, 6):
        left.note(11.0 + 4 * second, second / 10)
    assert left.seconds(31.0) == pytest.approx(20.0)


def test_nothing_is_told_of_what_has_hardly_begun() -> None:
    left = TimeLeft()
    left.note(0.0, 0.0)
    left.note(10.0, 0.02)
    assert left.seconds(10.0) is None


def test_its_memory_is_bounded() -> None:
    left = TimeLeft()
    for step in range(100_001):
        left.note(0.01 * step, step / 200_000)
    assert len(left._points) < 300
    assert left.seconds(1000.0) == pytest.approx(1000.0, rel=0.05)
