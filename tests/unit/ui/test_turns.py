"""The fair queue."""

from __future__ import annotations

import threading

from explorer.ui.jobs.turns import Turns


def take(turns: Turns[str], count: int) -> list[str]:
    found = []
    for _ in range(count):
        turn = turns.get()
        assert turn is not None
        found.append(turn[1])
    return found


def test_owners_take_turns_and_each_ones_entries_keep_their_order() -> None:
    turns: Turns[str] = Turns()
    for entry in ("a1", "a2", "a3", "a4", "b1", "c1", "c2"):
        turns.put(entry[0], entry)
    assert take(turns, 7) == ["a1", "b1", "c1", "a2", "c2", "a3", "a4"]


def test_who_has_least_in_work_comes_first() -> None:
    turns: Turns[str] = Turns()
    for entry in ("a1", "a2", "a3"):
        turns.put("a", entry)
    assert take(turns, 2) == ["a1", "a2"]
    turns.put("b", "b1")
    turns.put("b", "b2")
    assert take(turns, 2) == ["b1", "b2"]
    turns.done("a")
    turns.done("a")
    turns.put("b", "b3")
    assert take(turns, 2) == ["a3", "b3"]


def test_only_an_owner_with_nothing_in_work_is_unserved() -> None:
    turns: Turns[str] = Turns()
    turns.put("a", "a1")
    turns.put("a", "a2")
    assert not turns.waits("a", 1)  # nobody is before them
    assert take(turns, 1) == ["a1"]
    assert turns.get_unserved() is None
    turns.put("b", "b1")
    assert not turns.waits("a", 1)
    assert not turns.waits("b", 3)
    assert turns.waits("b", 2)
    assert turns.get_unserved() == ("b", "b1")
    turns.done("a")
    assert turns.waits("a", 1)
    assert turns.get_unserved() == ("a", "a2")


def test_closing_lets_go_whoever_waits() -> None:
    turns: Turns[str] = Turns()
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(turns.get()))
    waiting.start()
    turns.close()
    waiting.join(10)
    turns.put("a", "a1")
    assert found == [turns.get()] == [None]
    assert turns.get_unserved() is None
