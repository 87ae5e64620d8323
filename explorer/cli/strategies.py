"""The options of `search` that belong to one strategy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from explorer.errors import SettingsError
from explorer.tasks import Task

if TYPE_CHECKING:
    from explorer.search.problem import Search

PerKind = Annotated[
    bool, typer.Option("--per-kind", help="paper: take the same share of every kind, not the lowest of all kinds.")
]
Base = Annotated[str | None, typer.Option("--base", help="ensemble: the strategy whose masks it combines; paper.")]
Members = Annotated[int | None, typer.Option("--members", min=2, help="ensemble: how many searches; 5.")]
Over = Annotated[
    str | None,
    typer.Option(
        "--over",
        help="ensemble: what its searches differ in: splits (halves of the train split), seeds, or other tasks with "
        "commas between, each beside --task; splits.",
    ),
]
AtLeast = Annotated[
    int | None,
    typer.Option(
        "--at-least",
        min=1,
        help="ensemble: how many of the masks must remove a value, 1 for the union; every number is tried.",
    ),
]
OWNERS = {"--per-kind": "paper", "--base": "ensemble", "--members": "ensemble", "--over": "ensemble",
          "--at-least": "ensemble"}  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """A strategy as it was asked for: what runs, and its options that are not the defaults, as plain values."""

    run: Search
    options: dict[str, Any]


@dataclass(frozen=True)
class StrategyOptions:
    """What the command was given; None or False for what was not."""

    per_kind: bool
    base: str | None
    members: int | None
    over: str | None
    at_least: int | None

    def choose(self, strategy: str, open_task: Callable[[str], Task]) -> Chosen:
        """The strategy with these options; other tasks that it asks for are opened by name.

        Raises:
            SettingsError: no such strategy, an option of another one, or a value that cannot be used.
        """
        from explorer.search import SEARCHES

        if strategy not in SEARCHES:
            raise SettingsError(f"{strategy[:40]!r} is not a search strategy: choose one of {', '.join(SEARCHES)}.")
        given = {f"--{name.replace('_', '-')}": value for name, value in asdict(self).items() if value}
        for option in given:
            if OWNERS[option] != strategy:
                raise SettingsError(f"{option} is an option of the strategy {OWNERS[option]}, not of {strategy}.")
        if not given:
            return Chosen(SEARCHES[strategy], {})
        return self._per_kind() if strategy == "paper" else self._ensemble(open_task)

    def _per_kind(self) -> Chosen:
        from explorer.search.paper import paper

        return Chosen(partial(paper, per_kind=True), {"per_kind": True})

    def _ensemble(self, open_task: Callable[[str], Task]) -> Chosen:
        from explorer.search.ensemble import EnsembleSettings, Over, ensemble

        named = [] if self.over in (None, *get_args(Over)) else [one.strip() for one in str(self.over).split(",")]
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
