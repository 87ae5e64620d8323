"""Waiting for what a browser would draw better at once."""

from __future__ import annotations

import itertools

import pytest

from explorer.ui import painting


def test_what_is_there_soon_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(painting.runtime, "exists", lambda: True)
    looks = itertools.count()
    assert painting.awaited(lambda: next(looks), lambda found: found == 2, 60.0) == 2


def test_the_wait_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(painting.runtime, "exists", lambda: True)
    looks = itertools.count()
    assert painting.awaited(lambda: next(looks), lambda _: False, 2 * painting.MOMENT) is None
    assert next(looks) > 1


def test_without_a_browser_there_is_one_look() -> None:
    looks = itertools.count()
    assert painting.awaited(lambda: next(looks), lambda found: found == 0, 60.0) == 0
    assert painting.awaited(lambda: next(looks), lambda _: False, 60.0) is None
    assert next(looks) == 2
