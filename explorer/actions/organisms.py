"""`study organisms`: what searches find where the truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from explorer.actions.choices import Kinds, ModelChoice, TaskChoice, TasksChoice, kinds_or_all
from explorer.actions.request import ALONE, Arg, Request, Result, Tools
from explorer.actions.search import SHARE, at_most
from explorer.core.errors import SettingsError

if TYPE_CHECKING:
    from explorer.experiments.organisms import HabitSummary, Organism, OrganismSearch
    from explorer.models import View
    from explorer.search.request import SearchRequest
    from explorer.tasks import Task

Known = tuple[Path, "Organism"]


@dataclass(frozen=True, eq=False)
class OrganismsResult(Result):
    """Every search, and the means of each strategy on each habit.

    Attributes:
        kinds: of the matrices whose values could be removed.
        max_removed: how many at most, as it was asked.
        searches: one per organism, strategy and seed.
        summary: one per habit and strategy.
    """

    kinds: str
    max_removed: str
    scorer: str
    searches: tuple[OrganismSearch, ...]
    summary: tuple[HabitSummary, ...]


@dataclass(frozen=True, kw_only=True)
class StudyOrganisms(Request):
    """Search models whose harmful values are known, and say how many of those each strategy finds.

    Precision is the share of the removed values that were planted. Recall is the share of the habit's parts that were
    undone: values of one part act together, and removing any of them undoes it. In an organism without a habit whatever
    is removed is false. A seed is that of the splits and of the search; other seeds of an organism are folders of their
    own. An organism may have been trained on test examples of other splits than its own: its accuracy says whether the
    ability is back, not how far it generalises. Searches are recorded as those of `search` are: a study that was
    stopped goes on.

    Example: `eigenprune study organisms build/organisms --strategy paper --strategy verified`
    """

    command: ClassVar[str] = "study organisms"

    organisms: Annotated[
        tuple[Path, ...],
        Arg("Folder of a model organism, or of several, as `make organisms` makes them.", positional=True),
    ]
    strategy: Annotated[
        tuple[str, ...], Arg("A strategy or control of `search`; may be given several times. Default: all.")
    ] = ()
    seeds: Annotated[int, Arg("Searches with seeds 0 to N - 1.", least=1)] = 3
    kinds: Kinds = "all"
    max_removed: Annotated[str, Arg("Most values to remove: a number, or a share of all such as 0.02.")] = SHARE
    time: Annotated[float | None, Arg("Seconds after which a search ends with the best mask so far.", least=0.0)] = None
    limit: Annotated[int | None, Arg("Use only the first N train examples.", least=1)] = None
    scorer: Annotated[str, Arg("What scores the values: gradient, hybrid, or another of `score`.")] = "gradient"
    other_limit: Annotated[int, Arg("Measure the other task on its first N test examples.", least=1)] = 400

    def run(self, tools: Tools = ALONE) -> OrganismsResult:
        """Search all of them.

        Raises:
            ExplorerError: an organism, strategy or scorer that cannot be had, or a task that its model cannot take.
        """
        from explorer.attribution import SCORERS
        from explorer.experiments.organisms import summarised
        from explorer.search import SEARCHES

        if self.scorer not in SCORERS:
            raise SettingsError(f"{self.scorer[:40]!r} is not a scorer: choose one of {', '.join(SCORERS)}.")
        for name in self.strategy:
            if name not in SEARCHES:
                raise SettingsError(f"{name[:40]!r} is not a search strategy: choose one of {', '.join(SEARCHES)}.")
        kinds_or_all(self.kinds)
        strategies = tuple(dict.fromkeys(self.strategy)) or tuple(SEARCHES)
        found = [one for known in self._known() for one in self._searches(known, strategies, tools=tools)]
        return OrganismsResult(
            self.kinds, self.max_removed, self.scorer, searches=tuple(found), summary=summarised(found)
        )

    def _known(self) -> list[Known]:
        """The organisms, each folder once."""
        from explorer.experiments.organisms import find_organisms, read_organism

        folders = dict.fromkeys(folder for given in self.organisms for folder in find_organisms(given))
        return [(folder, read_organism(folder)) for folder in folders]

    def _searches(self, known: Known, strategies: tuple[str, ...], tools: Tools) -> Iterator[OrganismSearch]:
        from explorer.experiments.organisms import judged
        from explorer.search.conductor import Elsewhere, Recording, Watcher, conduct
        from explorer.search.journal import default_journals
        from explorer.spectra.cache import default_cache

        folder, organism = known
        svds, recording = default_cache(tools.notice), Recording(default_journals(tools.notice))
        for seed in range(self.seeds):
            task = TaskChoice(task=organism.task, seed=seed).open("train", self.limit, tools)
            others = TasksChoice(task=(organism.other,), seed=seed).open("test", None, tools)
            view = ModelChoice(model=str(folder)).open_for(task, "train", self.limit, tools=tools)
            for strategy in strategies:
                request = self._request(strategy, seed, view)
                with tools.searching(f"{folder.name}, {strategy}, seed {seed}") as bar:
                    report = conduct(
                        request, view, task, svds=svds, recording=recording,
                        elsewhere=Elsewhere([self._cut(other) for other in others]),
                        watcher=Watcher(bar.progress, after=bar.after),
                    )  # fmt: skip
                if report.found.stopped == "stopped":
                    raise KeyboardInterrupt
                found = judged(folder.name, organism, report)
                tools.remark(f"{folder.name}, {strategy}, seed {seed}: {found.hits} of {found.removed} were planted")
                yield found

    def _cut(self, other: Task) -> Task:
        return replace(other, test=other.test[: self.other_limit])

    def _request(self, strategy: str, seed: int, view: View) -> SearchRequest:
        from explorer.models.matrices import matrices, shape
        from explorer.search.request import SearchRequest

        kinds = kinds_or_all(self.kinds)
        total = sum(min(shape(view, key)) for key in matrices(view, kinds))
        return SearchRequest(
            strategy, kinds, None, per_head=True, mode="freeze", scorer=self.scorer, limit=self.limit,
            max_removed=at_most(self.max_removed, total), seconds=self.time, seed=seed, controls=0, test_limit=None,
        )  # fmt: skip
