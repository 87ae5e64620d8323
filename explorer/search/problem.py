"""What a strategy is asked, and what it answers: one signature for all of them.

A strategy sees the train and the validation split; the task that it is given has no test split. What it asks goes
through `score` and `measure`, which know from the journal what was found before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from jaxtyping import Int
from torch import Tensor

from explorer.attribution import SCORERS, Scores, score
from explorer.attribution.base import frozen_means
from explorer.core.errors import SettingsError, Stopped
from explorer.core.finite import expm1
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask, Mode, Removed
from explorer.measure.batches import batches
from explorer.measure.evaluate import Evaluation, evaluate
from explorer.measure.overflow import check_losses
from explorer.measure.residuals import Kept, keep
from explorer.models import View
from explorer.search.anchor import HELD, text_loss
from explorer.search.journal import Journal
from explorer.search.outcome import Budget, Found, Point, State, Status
from explorer.search.records import (
    pack_matrices,
    pack_point,
    pack_tensors,
    unpack_matrices,
    unpack_point,
    unpack_tensors,
)
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task

T = TypeVar("T")


PARTS = 1000  # into which progress is divided


class OutOfTime(Exception):
    """The time budget is used up: the strategy ends, and the best mask so far is its result."""


@dataclass(eq=False)
class Problem:
    """One search: what may be removed from which model for which task, and what has been measured so far.

    Attributes:
        task: without its test split.
        keys: the matrices whose values may be removed.
        limit: examples used of the train split; None for all.
        text: blocks of plain-text tokens `[1, position]` on which the model should go on as before; the perplexity is
            measured on the last HELD of them, which strategies do not use otherwise.
        compute: the type in which proposals are computed, such as a narrower one that is faster
            (`explorer.models.compute`); the model's own if None. What is measured, and so whatever is accepted or
            reported, always is in the model's own.
        watch: told how far the search is, after every measurement and in between.
        journal: where answers are recorded, and found if they are there already; None to start anew and keep nothing.
        decided: the result whatever else is measured, where a mask is given and not searched for (`decide`).
        forwards: forward passes of one example so far (a backward pass counts as two), in all runs together. What a
            killed run had not recorded does not count.
    """

    view: View
    task: Task
    svds: SvdCache
    keys: tuple[MatrixKey, ...]
    budget: Budget
    mode: Mode = "freeze"
    scorer: str = "gradient"
    limit: int | None = None
    seed: int = 0
    text: tuple[Int[Tensor, "1 position"], ...] = ()
    compute: str | None = None
    progress: Progress | None = None
    watch: Callable[[Status], None] | None = None
    journal: Journal | None = None
    forwards: int = 0
    curve: list[Point] = field(default_factory=list)
    decided: Point | None = None
    _means: dict[str, Mapping[MatrixKey, Tensor]] = field(default_factory=dict)
    _share: float = 0.0
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.task = self.task.searchable
        if self.budget.growth is not None and len(self.text) <= HELD:
            raise SettingsError(
                f"the growth of the perplexity needs more than {HELD} blocks of text, not {len(self.text)}: leave "
                "out the limit for a model whose tokenizer does not know the text."
            )

    @property
    def examples(self) -> tuple[Example, ...]:
        """The train examples that are used."""
        return self.task.split("train", self.limit)

    @property
    def proposing_dtype(self) -> str:
        """The type in which proposals are computed."""
        return self.compute or self.view.model.dtype

    @cached_property
    def proposing(self) -> View:
        """The view that proposals are computed on: the problem's own, or one in another type."""
        model, dtype = self.view.model, self.proposing_dtype
        return self.view if dtype == model.dtype else model.view(dtype)

    @property
    def seconds(self) -> float:
        """Seconds that the search has taken, in all runs together."""
        return time.monotonic() - self._started if self.journal is None else self.journal.seconds

    @property
    def best(self) -> Point:
        """What was decided on; else the measured mask with the lowest validation loss within the budget.

        Of equals it is the smaller one.
        """
        if self.decided is not None:
            return self.decided
        allowed = [point for point in self.curve if self.allows(point)]
        return min(allowed, key=_rank)

    def allows(self, point: Point) -> bool:
        """Whether a measured mask is within the budget, and the model finite with it; the unpruned model always is."""
        return not point.removed or (self.budget.allows(point.removed, point.growth) and point.finite)

    @property
    def nearest(self) -> Point | None:
        """If no mask within the budget lowers the validation loss: the one that does, with the smallest growth.

        None if none does, or more is removed than the budget says.
        """
        growth, start = self.budget.growth, self.curve[0]
        if growth is None or self.best.removed:
            return None
        helping = [
            (point.growth, *_rank(point), point)
            for point in self.curve
            if point.growth is not None and point.finite and point.removed <= self.budget.removed
            and _rank(point) < _rank(start)
        ]  # fmt: skip
        return min(helping, key=lambda one: one[:3])[3] if helping else None

    def improves(self, point: Point, best: Point) -> bool:
        """Whether a measured mask is within the budget and has a lower validation loss than another."""
        return self.allows(point) and point.validation.mean_loss.value < best.validation.mean_loss.value

    def score(self, mask: Mask | None = None) -> Scores:
        """Scores of all values on the train split, at a mask (of the unpruned model if none is given).

        They propose, so they are computed in the type `compute`, but for the frozen means, which masks hold.
        """

        def compute() -> Scores:
            found = score(
                self.proposing, self.task, self.svds, keys=self.keys,
                scorer=self.scorer, mode=self.mode, limit=self.limit, seed=self.seed, mask=mask,
            )  # fmt: skip
            return found if self.proposing is self.view else self.with_means(found, mask)

        def unpack(data: bytes) -> Scores:
            tensors, numbers = unpack_tensors(data)
            return Scores(
                self.scorer, self.mode, self.task.name, split="train", n=len(self.examples), seed=self.seed,
                loss=numbers["loss"], matrices=unpack_matrices(tensors, self.keys), unit=SCORERS[self.scorer].unit,
                mask=mask, forwards=numbers["forwards"],
            )  # fmt: skip

        def pack(one: Scores) -> bytes:
            return pack_tensors(pack_matrices(one.matrices), {"loss": one.loss, "forwards": one.forwards})

        found = self._answer("score", "" if mask is None else mask.digest, compute, pack=pack, unpack=unpack, dear=True)
        self.forwards += round(found.forwards)
        return found

    def with_means(self, scores: Scores, mask: Mask | None) -> Scores:
        """Scores with the frozen means of now: what the matrices read on average with the mask on."""
        at = mask or self.mask()
        means, found = self._mean_inputs(at), {}
        for key, one in scores.matrices.items():
            svd = self.svds.get(self.view, key)
            found[key] = replace(one, c=frozen_means(self.view, key, svd, inputs=means, mask=at))
        return replace(scores, matrices=found)

    def _mean_inputs(self, mask: Mask) -> Mapping[MatrixKey, Tensor]:
        """Of the stacked matrices over the train examples, with a mask on; at hand if it was the last that they ran."""

        def compute() -> Mapping[MatrixKey, Tensor]:
            if mask.digest not in self._means:
                apply(self.view, mask, self.svds)
                self._run_train(mask)
            return self._means[mask.digest]

        def pack(means: Mapping[MatrixKey, Tensor]) -> bytes:
            return pack_tensors({str(site): mean for site, mean in means.items()}, {})

        def unpack(data: bytes) -> Mapping[MatrixKey, Tensor]:
            return {MatrixKey.parse(site): mean for site, mean in unpack_tensors(data)[0].items()}

        return self._answer("means", mask.digest, compute, pack=pack, unpack=unpack, dear=True)

    def _run_train(self, mask: Mask) -> Kept:
        """Run the train examples with the mask that is on the view, and note the mean inputs."""
        given = batches(self.view, self.task, self.examples)
        sites = tuple(dict.fromkeys(key.stacked for key in self.keys))
        kept = keep(self.view, given, inputs=sites, memory_bytes=0)
        self._means = {mask.digest: kept.means}
        return kept

    def start(self) -> Point:
        """The unpruned model, measured: the first point of the curve.

        Raises:
            NotFiniteError: an example on which its loss is not finite.
        """
        if self.curve:
            return self.curve[0]
        point = self.measure(self.mask())
        if not point.finite:
            apply(self.view, point.mask, self.svds)
            for found, what in ((point.validation, "validation"), (point.train, "train")):
                if found is not None:
                    check_losses(self.view, self.task, found.examples, losses=found.loss, what=what)
        return point

    def measure(self, mask: Mask, *, train: bool = True, rival: Point | None = None) -> Point:
        """Put a mask onto the view, run validation (and train) examples, and add the point to the curve.

        Args:
            mask: what is removed.
            train: whether train examples are measured.
            rival: a measured mask to be better than: as soon as this one is not, what is left is not measured, the
                dearest last.
        """

        def compute() -> Point:
            apply(self.view, mask, self.svds)
            point = Point(mask, None, evaluate(self.view, self.task, "validation"))
            if rival is not None and _rank(point) >= _rank(rival):
                return point
            if train:
                point = replace(point, train=self._train(mask))
                if rival is not None and point.train_loss > rival.train_loss:  # never of a rival without one
                    return point
            return replace(point, growth=self._growth())

        def pack(one: Point) -> bytes:
            return pack_point(one.mask, one.train, one.validation, growth=one.growth)

        point = self._answer(
            "measure", f"{mask.digest} {train} {rival is None}", compute, pack=pack, unpack=self._point
        )
        self.forwards += point.validation.n + (point.train.n if point.train else 0)
        self.forwards += HELD if point.growth is not None else 0
        self.curve.append(point)
        self.check()
        return point

    def complete(self, point: Point) -> Point:
        """A point of the curve with the train examples measured, too, in its place on the curve; itself if they are."""
        if point.train is not None:
            return point

        def compute() -> Point:
            apply(self.view, point.mask, self.svds)
            return replace(point, train=self._train(point.mask))

        def pack(one: Point) -> bytes:
            return pack_point(one.mask, one.train, one.validation, growth=one.growth)

        found = self._answer("train", point.mask.digest, compute, pack=pack, unpack=self._point)
        self.forwards += len(self.examples)
        self.curve[:] = [found if one is point else one for one in self.curve]
        self.check()
        return found

    def decide(self, point: Point) -> None:
        """Make a measured mask the result, whatever it does to the loss."""
        self.decided = point

    def mask(self, removed: Iterable[Removed] = ()) -> Mask:
        """A mask of this problem's model and mode."""
        return empty_mask(self.view.model, self.mode).with_removed(removed)

    def at(self, done: int, total: int) -> None:
        """A strategy says how far it is: what it has used up of its steps, or of what it may remove."""
        self._share = max(self._share, done / total if total else 1.0)

    def keep(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, float]) -> None:
        """Keep a strategy's own state as of now, for `kept`."""
        if self.journal is not None:
            self.journal.keep(pack_tensors(tensors, {**numbers, "forwards": self.forwards, "share": self._share}))

    def kept(self) -> State | None:
        """What the strategy kept last in an earlier run, with curve and cost as they were then; None if nothing."""
        data = None if self.journal is None else self.journal.kept()
        if self.journal is None or data is None:
            return None
        tensors, numbers = unpack_tensors(data)
        self.curve[:] = [self._point(answer) for answer in self.journal.answers("measure")]
        self.forwards, self._share = round(numbers.pop("forwards")), numbers.pop("share")
        return State(tensors, numbers)

    def check(self) -> None:
        """Say how far the search is; raise OutOfTime once the time budget is used up, but not while it is replayed.

        Lets the progress callback raise `Stopped`.
        """
        share, limit = self._share, self.budget.seconds
        if limit is not None:
            share = max(share, min(1.0, self.seconds / limit) if limit > 0 else 1.0)
        if self.progress is not None:
            self.progress(round(PARTS * share), PARTS)
        if self.watch is not None:
            self.watch(Status(share, len(self.curve), self.best))
        self._in_time()

    def _in_time(self) -> None:
        replaying = self.journal is not None and self.journal.replaying
        if self.budget.seconds is not None and self.seconds > self.budget.seconds and not replaying:
            raise OutOfTime

    def _train(self, mask: Mask) -> Evaluation:
        """The train examples with the mask that is on the view."""
        several = any(example.choices for example in self.examples)  # texts besides the answers, which have no means
        kept = None if several else self._run_train(mask)
        return evaluate(self.view, self.task, "train", limit=self.limit, kept=kept)

    def _growth(self) -> float | None:
        """Of the perplexity on the held-out text, for the view as it is now; None if there is no limit to it."""
        if self.budget.growth is None:
            return None
        loss = text_loss(self.view, self.text[-HELD:])  # before the unpruned model takes the view
        return expm1(loss - self.unpruned_text_loss)

    @cached_property
    def unpruned_text_loss(self) -> float:
        """Of the unpruned model on the held-out text, nats per token."""
        apply(self.view, self.mask(), self.svds)
        return text_loss(self.view, self.text[-HELD:])

    def _answer(
        self,
        kind: str,
        question: str,
        compute: Callable[[], T],
        pack: Callable[[T], bytes],
        unpack: Callable[[bytes], T],
        *,
        dear: bool = False,
    ) -> T:
        """From the journal if it was found before, else computed and recorded."""
        if self.journal is None:
            return compute()
        known = self.journal.next(kind, question)
        if known is not None:
            return unpack(known)
        if self.curve:
            self._in_time()  # a resumed search may have none left
        found = compute()
        self.journal.add(kind, question, pack(found), dear=dear)
        return found

    def _point(self, data: bytes) -> Point:
        removed, train, validation, growth = unpack_point(data, self.examples, self.task.split("validation"))
        return Point(self.mask(removed), train, validation, growth=growth)


def _rank(point: Point) -> tuple[float, int]:
    """What decides between masks within the budget, the better one first."""
    return point.validation.mean_loss.value, point.removed


Search = Callable[[Problem], None]


def solve(problem: Problem, strategy: Search) -> Found:
    """Run a strategy until it ends, time is up, or it is stopped; the best mask is kept.

    Ctrl-C stops it, and a progress callback that raises `Stopped`. The unpruned model is measured first and counts as a
    result; stopped before that, there is none, and the exception goes on.
    """
    stopped = ""
    try:
        problem.start()
        strategy(problem)
    except OutOfTime:
        stopped = "time"
    except (Stopped, KeyboardInterrupt):
        if not problem.curve:
            raise
        stopped = "stopped"
    finally:
        apply(problem.view, problem.mask(), problem.svds)
    return Found(problem.best, tuple(problem.curve), stopped, nearest=problem.nearest)
