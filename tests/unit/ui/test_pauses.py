"""Full garbage collections: short once what stays is known, and complete now and then."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from explorer.ui.jobs import pauses


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before, frozen = list(gc.callbacks), gc.get_freeze_count()
    gc.callbacks[:] = [one for one in before if not isinstance(one, pauses._Pauses)]
    gc.unfreeze()
    yield
    gc.callbacks[:] = before
    gc.unfreeze()
    if frozen:
        gc.freeze()


class Loop:
    """Garbage that only a collection frees."""

    def __init__(self) -> None:
        self.me = self


def alive() -> int:
    return sum(type(one) is Loop for one in gc.get_objects())


@pytest.mark.slow
def test_after_a_long_collection_its_survivors_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "LONG", -1.0)
    pauses.shorten()
    gc.collect(1)
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert gc.get_freeze_count() > 1000
    Loop()
    gc.collect()
    assert alive() == 0  # what came afterwards is collected as ever


def test_a_short_collection_freezes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "LONG", 1e9)
    pauses.shorten()
    gc.collect()
    assert gc.get_freeze_count() == 0


@pytest.mark.slow
def test_now_and_then_everything_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [Loop()]
    gc.collect()
    gc.freeze()
    kept.clear()  # garbage by now, but left out
    monkeypatch.setattr(pauses, "LONG", 1e9)
    pauses.shorten()
    freed: list[int] = []
    gc.callbacks.append(lambda phase, info: freed.append(info["collected"]) if phase == "stop" else None)
    gc.collect()
    monkeypatch.setattr(pauses, "EVERYTHING_EVERY", -1.0)
    gc.collect()
    assert freed[1] > 0
    assert alive() == 0


@pytest.mark.slow
def test_everything_is_looked_at_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [Loop()]
    gc.collect()
    gc.freeze()
    kept.clear()
    monkeypatch.setattr(pauses, "LONG", 1e9)
    pauses.everything()
    assert alive() == 0


def test_it_is_done_once() -> None:
    pauses.shorten()
    pauses.shorten()
    assert sum(isinstance(one, pauses._Pauses) for one in gc.callbacks) == 1
