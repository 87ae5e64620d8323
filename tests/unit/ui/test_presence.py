"""Who is here: closed tabs go after a while, unless they come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from explorer.ui.jobs.presence import Presence, Tab

SECONDS = 0.05


class World:
    """A presence whose connections the test opens and closes, and what it was told."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.told: list[str] = []
        self.presence = Presence(
            SECONDS,
            self.open.__contains__,
            lambda connection: self.told.append(f"close {connection}"),
            lambda session: self.told.append(f"gone {session}"),
            lambda: self.told.append("empty"),
        )

    def enter(self, connection: str, session: str) -> Tab:
        tab = Tab(connection, session, lambda: self.told.append(f"forget {connection}"))
        self.open.add(connection)
        self.presence.enter(tab)
        return tab

    def leave(self, tab: Tab) -> None:
        self.open.discard(tab.connection)
        self.presence.leave(tab)


def play(scene: Callable[[World], Coroutine[Any, Any, None]]) -> list[str]:
    """Play a scene in an event loop, and wait until all its timers have run.

    In a thread of its own: Playwright leaves a running loop in the thread of the tests.
    """

    async def whole(world: World) -> None:
        await scene(world)
        await asyncio.sleep(4 * SECONDS)

    world = World()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, whole(world)).result()
    return world.told


def test_a_closed_tab_goes_with_its_session_after_a_while() -> None:
    async def scene(world: World) -> None:
        world.enter("2", "b")
        world.leave(world.enter("1", "a"))
        await asyncio.sleep(SECONDS / 3)
        assert world.told == []

    assert play(scene) == ["close 1", "forget 1", "gone a"]


def test_with_the_last_tab_nobody_is_left() -> None:
    async def scene(world: World) -> None:
        world.leave(world.enter("1", "a"))

    assert play(scene) == ["close 1", "forget 1", "gone a", "empty"]


def test_a_reload_ends_the_connection_and_not_the_session() -> None:
    async def scene(world: World) -> None:
        world.leave(world.enter("1", "a"))
        world.enter("2", "a")

    assert play(scene) == ["close 1", "forget 1"]


def test_two_tabs_of_one_session_both_have_to_go() -> None:
    async def scene(world: World) -> None:
        first, second = world.enter("1", "a"), world.enter("2", "a")
        world.leave(first)
        await asyncio.sleep(2 * SECONDS)
        assert world.told == ["close 1", "forget 1"]
        world.leave(second)

    assert play(scene)[2:] == ["close 2", "forget 2", "gone a", "empty"]


def test_a_connection_that_comes_back_keeps_everything() -> None:
    async def scene(world: World) -> None:
        tab = world.enter("1", "a")
        world.leave(tab)
        world.enter("1", "a")  # its next run

    assert play(scene) == []


def test_a_connection_that_has_not_run_since_it_came_back_is_waited_for() -> None:
    async def scene(world: World) -> None:
        tab = world.enter("1", "a")
        world.leave(tab)
        world.open.add("1")
        await asyncio.sleep(3 * SECONDS)
        assert world.told == []
        world.open.discard("1")

    assert play(scene) == ["close 1", "forget 1", "gone a", "empty"]


def test_a_session_is_shown_elsewhere_only_while_another_connection_is_open() -> None:
    world = World()
    assert not world.presence.shown_elsewhere("a", "1")
    world.enter("1", "a")
    assert not world.presence.shown_elsewhere("a", "1")
    assert world.presence.shown_elsewhere("a", "2")
    assert not world.presence.shown_elsewhere("b", "2")
    world.open.discard("1")  # as a reload does
    assert not world.presence.shown_elsewhere("a", "2")
