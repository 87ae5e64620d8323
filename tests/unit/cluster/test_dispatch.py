"""The driver's loop: every cell once, workers busy, an end that can come at any time."""

from __future__ import annotations

import random

import pytest

from explorer.core.errors import Stopped
from explorer.experiments.cluster.dispatch import AHEAD, dispatch
from tests.crew import SleepingCrew


def seconds(cell: int) -> float:
    """Between 1 and 5, another for each cell."""
    return 1 + 4 * random.Random(cell).random()


@pytest.mark.parametrize(("workers", "cells"), [(1, 0), (1, 7), (3, 2), (4, 100), (64, 65)])
def test_every_cell_is_answered_once_with_its_own_answer(workers: int, cells: int) -> None:
    crew = SleepingCrew(workers, seconds)
    found = list(dispatch(crew, range(cells)))
    assert sorted(cell for cell, _ in found) == list(range(cells))
    assert all(answer == f"answer {cell}" for cell, answer in found)
    assert sorted(cell for _, cell in crew.sent) == list(range(cells))
    assert crew.most <= AHEAD
    assert crew.cancelled == []


def test_answers_come_as_they_are_ready_and_not_in_order() -> None:
    crew = SleepingCrew(2, lambda cell: 10.0 if cell == 0 else 1.0)
    assert [cell for cell, _ in dispatch(crew, range(4))] == [1, 2, 3, 0]
    assert crew.now == 10.0


def test_one_cell_waits_behind_each_worker_but_not_at_the_end() -> None:
    crew = SleepingCrew(2, lambda cell: 1.0)
    cells = dispatch(crew, range(8))
    next(cells)
    assert crew.most == AHEAD
    few = SleepingCrew(4, lambda cell: 1.0)
    assert len(list(dispatch(few, range(5)))) == 5
    assert few.most == 1  # the fifth cell waits here until the first worker is free, wherever that is


def test_progress_is_told_of_each_cell_and_while_none_comes() -> None:
    told: list[tuple[int, int]] = []
    list(dispatch(SleepingCrew(2, lambda cell: 5.0), range(4), lambda *one: told.append(one)))
    assert told[0] == (0, 4)
    assert told[-1] == (4, 4)
    assert told.count((0, 4)) > 10  # five seconds of looking whether to stop
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_stopping_cancels_what_is_not_answered() -> None:
    crew = SleepingCrew(2, lambda cell: 1.0)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise Stopped

    found: list[tuple[int, str]] = []
    with pytest.raises(Stopped):
        found.extend(dispatch(crew, range(10), stop))
    assert len(found) == 3
    assert len(crew.cancelled) == len(crew.sent) - 3 > 0


def test_closing_cancels_what_is_not_answered() -> None:
    crew = SleepingCrew(3, lambda cell: 1.0)
    cells = dispatch(crew, range(10))
    next(cells)
    cells.close()  # type: ignore[attr-defined]
    assert len(crew.cancelled) == len(crew.sent) - 1 > 0
