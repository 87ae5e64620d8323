"""The parts of a direction's card, each a job of its own, so that quick ones do not wait for slow ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from explorer.actions import ShowDirection
from explorer.attribution.effect_store import default_effects
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress
from explorer.experiments.direction import (
    Direction,
    DirectionEffects,
    DirectionFlips,
    DirectionScore,
    LibraryPlace,
    SpectrumPlace,
)
from explorer.masks.library import Library
from explorer.measure.context_store import default_contexts
from explorer.measure.contexts import DirectionContexts
from explorer.measure.corpora import TOKENS, Corpus, task_corpus, text_corpus
from explorer.measure.perplexity import read_text
from explorer.models import View
from explorer.spectra.similar import SimilarDirections
from explorer.tasks import Task
from explorer.ui.jobs.runner import Key
from explorer.ui.jobs.work import on_view
from explorer.ui.session import Bench, Setting, requests
from explorer.ui.session.notices import notices

T = TypeVar("T")


@dataclass(frozen=True)
class Looked:
    """What the page looks at: a direction on a bench."""

    bench: Bench
    key: MatrixKey
    index: int

    @property
    def name(self) -> str:
        """It in words."""
        return f"{self.key} value {self.index}"

    def direction(self, view: View) -> Direction:
        """The engine's."""
        return Direction(view, self.bench.svds, self.key, index=self.index, mode=self.bench.mode)

    def place(self) -> SpectrumPlace | None:
        """Where it stands in the spectrum."""
        return self._job("place", lambda one, _: one.place(), f"Decomposing {self.key}")

    def score(self) -> DirectionScore | None:
        """Its score with a bootstrap error."""
        task, limit = self.bench.task, self.bench.score_limit
        return self._job("score", lambda one, _: one.score(task, limit), f"Scoring {self.name}")

    def effects(self, others: Sequence[Task]) -> DirectionEffects | None:
        """Its exact effects, and the gain curve."""
        bench = self.bench

        def work(one: Direction, progress: Progress) -> DirectionEffects:
            store = default_effects(notices().append)
            return one.effects(bench.task, others, limit=bench.score_limit, store=store, progress=progress)

        asked = tuple(task.digest for task in others)
        return self._job("effects", work, f"Measuring {self.name}", of=asked)

    def flips(self, c: float) -> DirectionFlips | None:
        """Which examples flip without it; c is its frozen mean."""
        bench = self.bench

        def work(one: Direction, progress: Progress) -> DirectionFlips:
            return one.flips(bench.task, c, split=bench.split, limit=bench.eval_limit)

        return self._job("flips", work, f"Removing {self.name} alone")

    def contexts(self, text: Path | None, *, task: bool) -> DirectionContexts | None:
        """Where it is active in the task or in a text; None for the text that comes along."""
        bench = self.bench

        def corpus() -> Corpus:
            if task:
                return task_corpus(bench.model, bench.task, limit=bench.score_limit, tokens=TOKENS)
            return text_corpus(bench.model, read_text() if text is None else read_text(text))

        def work(one: Direction, progress: Progress) -> DirectionContexts:
            return one.contexts(corpus(), store=default_contexts(notices().append), progress=progress)

        return self._job("contexts", work, "Looking for contexts of all directions", of=(task, text))

    def similar(self) -> tuple[SimilarDirections, ...] | None:
        """The most similar directions of other matrices."""
        return self._job("similar", lambda one, progress: one.similar(progress=progress), "Comparing directions")

    def library(self) -> LibraryPlace:
        """The masks of the library that hold it; not kept, since they change."""
        with self.bench.views.borrow() as view:
            return self.direction(view).library(Library.default())

    def request(self, setting: Setting, others: Sequence[str] = (), text: Path | None = None) -> ShowDirection:
        """All of it as a request."""
        bench = setting.bench
        return ShowDirection(
            matrix=str(self.key), index=self.index, model=setting.model, task=setting.task, other=tuple(others),
            text=None if text is None else str(text), mode=bench.mode, limit=bench.score_limit, split=bench.split,
            eval_limit=bench.eval_limit,
        )  # fmt: skip

    def _job(self, part: str, work: Callable[[Direction, Progress], T], label: str, *, of: Key = ()) -> T | None:
        request = self.request(requests.by_contents(self.bench))
        key = ("direction", part, request, *of)
        return on_view(self.bench, key, lambda view, progress: work(self.direction(view), progress), label=label)
