"""Progress is told before, during and after, and can stop the work."""

from __future__ import annotations

import pytest

from explorer.core.errors import Stopped
from explorer.core.progress import part, track


def test_items_pass_unchanged_and_every_step_is_told() -> None:
    told: list[tuple[int, int]] = []
    assert list(track("abc", lambda done, total: told.append((done, total)))) == ["a", "b", "c"]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert list(track("abc", None)) == ["a", "b", "c"]


def test_the_callback_can_stop_the_work() -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Stopped

    seen: list[str] = []

    def work() -> None:
        for item in track("abc", stop):
            seen.append(item)

    with pytest.raises(Stopped):
        work()
    assert seen == ["a", "b"]


def test_parts_of_the_work_join_up() -> None:
    told: list[float] = []

    def report(done: int, total: int) -> None:
        told.append(done / total)

    for start, end in ((0.0, 0.25), (0.25, 1.0)):
        piece = part(report, start, end)
        assert piece is not None
        for done in range(5):
            piece(done, 4)
    assert told == pytest.approx([0, 0.062, 0.125, 0.188, 0.25, 0.25, 0.438, 0.625, 0.812, 1.0], abs=1e-3)


def test_a_part_without_steps_is_done() -> None:
    told: list[tuple[int, int]] = []
    piece = part(lambda done, total: told.append((done, total)), 0.0, 0.5)
    assert piece is not None
    piece(0, 0)
    assert told == [(500, 1000)]
    assert part(None, 0.0, 1.0) is None
