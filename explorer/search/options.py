"""Options that belong to one strategy: what they are called, whose they are, and the search that they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, get_args

from explorer.core.errors import SettingsError
from explorer.search import SEARCHES
from explorer.search.controls import refuse_earlier
from explorer.search.ensemble import EnsembleSettings, Over, ensemble
from explorer.search.paper import paper
from explorer.search.problem import Search
from explorer.tasks import Task

OVER = get_args(Over)
_OWNERS = {
    "per_kind": "paper",
    "base": "ensemble",
    "members": "ensemble",
    "over": "ensemble",
    "at_least": "ensemble",
}


@dataclass(frozen=True)
class Chosen:
    """A strategy as it was asked for: what runs, and its options that are not the defaults, as plain values."""

    run: Search
    options: dict[str, Any]


@dataclass(frozen=True)
class StrategyOptions:
    """Options that were given; None or False for those that were not.

    Attributes:
        per_kind: `paper` takes the same share of every kind instead of the lowest values of all kinds.
        base: the strategy whose masks `ensemble` combines.
        members: how many searches `ensemble` combines, if they are over splits or seeds.
        over: what these differ in: `splits`, `seeds`, or the names of other tasks with commas between.
        at_least: how many of the masks must remove a value; `ensemble` tries every number if it is not given.
    """

    per_kind: bool = False
    base: str | None = None
    members: int | None = None
    over: str | None = None
    at_least: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The options that were given, by name."""
        return {name: value for name, value in asdict(self).items() if value}

    @property
    def other_tasks(self) -> tuple[str, ...]:
        """Names of the tasks that `over` names; none over splits or seeds."""
        return () if self.over in (None, *OVER) else tuple(one.strip() for one in str(self.over).split(","))

    def choose(self, strategy: str, open_task: Callable[[str], Task]) -> Chosen:
        """The strategy with these options; other tasks that it asks for are opened by name.

        Raises:
            SettingsError: no such strategy, an option of another one, or a value that cannot be used.
        """
        refuse_earlier(strategy)
        if strategy not in SEARCHES:
            raise SettingsError(f"{strategy[:40]!r} is not a search strategy: choose one of {', '.join(SEARCHES)}.")
        for name in self.given:
            if _OWNERS[name] != strategy:
                option = f"--{name.replace('_', '-')}"
                raise SettingsError(f"{option} is an option of the strategy {_OWNERS[name]}, not of {strategy}.")
        if self.per_kind:
            return Chosen(partial(paper, per_kind=True), {"per_kind": True})
        return self._ensemble(open_task) if self.given else Chosen(SEARCHES[strategy], {})

    def _ensemble(self, open_task: Callable[[str], Task]) -> Chosen:
        named = self.other_tasks
        if named and self.members is not None:
            raise SettingsError("--members is for splits and seeds: over tasks there is one search for each.")
        tasks = tuple(map(open_task, named))
        given = {"base": self.base, "resamples": self.members, "at_least": self.at_least}
        if self.over is not None and not named:
            given["over"] = self.over
        chosen = {name: value for name, value in given.items() if value is not None}
        settings = EnsembleSettings(**chosen, tasks=tasks)  # type: ignore[arg-type]
        told = {"tasks": [[one.name, one.digest] for one in tasks]} if tasks else {}
        return Chosen(partial(ensemble, settings=settings), {**chosen, **told})


USUAL = StrategyOptions()
