"""A search with everything that makes its result believable: held-out figures, controls, damage elsewhere, cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from explorer.core.executor import Executor
from explorer.core.progress import Progress, part
from explorer.core.texts import duration_text
from explorer.masks.apply import apply
from explorer.masks.belonging import read_for
from explorer.masks.damage import Damage, damage
from explorer.masks.mask import Mask
from explorer.measure.evaluate import Comparison, Evaluation, evaluate
from explorer.measure.figures import ComparisonFigures, Figures, SeenFigures
from explorer.measure.readers import measured_batches
from explorer.models import View
from explorer.search.control_runs import ControlRuns
from explorer.search.controls import DRAWS, OF_THE_MASK, POOL, RANDOM, draws, means_of
from explorer.search.evidence.choice import NO_EVIDENCE, EvidenceChoice
from explorer.search.evidence.claim import Claim
from explorer.search.evidence.figures import EvidenceFigures
from explorer.search.evidence.gather import gather
from explorer.search.evidence.sentence import Facts, licensed
from explorer.search.mask_cells import here, measured_masks
from explorer.search.outcome import Found, Point
from explorer.search.problem import Problem, Search, solve
from explorer.search.provenance import provenance
from explorer.search.report_file import PointFigures, SearchFile, SearchSettings
from explorer.tasks import Cases, Example, Task, read_in_search, seen

MANY, AFFORDABLE = 99, 120.0  # draws, and seconds that they may take
OF_THE_FILE = ("format", "schema_version", "metric", "mask")


@dataclass(frozen=True)
class Report:
    """The outcome of one search.

    Attributes:
        task: its name; `mask.provenance` says how it was asked.
        mask: the best mask on validation, or the nearest to the allowed growth of the perplexity if none within it
            helps (`found.reported`), with its provenance.
        found: the whole way there.
        train, validation, test: evaluations of the mask; the test split was used for this and the controls only.
        baseline: the unpruned model on the test split.
        controls: by name, on the test split; empty for a mask that removes nothing.
        damage: what the mask costs on other tasks and on plain text; None if that was not asked or nothing is removed.
        settings: what the search was told.
        test_limit: how many test examples mask, baseline and controls were measured on at most; None for all.
        forwards: forward passes of one example that the search took in all its runs (a backward pass counts as two).
        seconds: of the search, in all its runs.
        cases: which of the task's cases were for searching.
        read: the examples that the search has read.
        evidence: what the mask stands beside, beyond its controls; None if that was not asked or nothing is removed.
    """

    strategy: str
    task: str
    seed: int
    mask: Mask
    found: Found
    train: Evaluation
    validation: Evaluation
    test: Evaluation
    baseline: Evaluation
    controls: Mapping[str, ControlRuns]
    damage: Damage | None
    settings: SearchSettings
    test_limit: int | None
    forwards: int
    seconds: float
    cases: Cases
    read: tuple[Example, ...]
    evidence: EvidenceFigures | None = None

    @property
    def comparison(self) -> Comparison:
        """The mask beside the unpruned model, on the same test examples."""
        return Comparison(self.test, self.baseline)

    @cached_property
    def seen(self) -> SeenFigures:
        """How many test examples the search has seen, and the figures without them."""
        return SeenFigures.of(seen(self.read, self.test.examples), self.comparison)

    @cached_property
    def file(self) -> SearchFile:
        """All of it in figures: what is shown, and what a report file holds."""
        made, model = self.mask.provenance, self.mask.model
        return SearchFile(
            model=model.source, model_digest=model.digest, basis=model.basis, dtype=self.settings.dtype,
            task=self.task, task_digest=made.task_digest, shots=made.shots, template=made.template, bos=made.bos,
            chat=made.chat, system=made.system, **self.cases.as_dict(), metric=self.test.metric,
            strategy=self.strategy, seed=self.seed,
            mode=self.mask.mode, removed=len(self.mask), mask_digest=self.mask.digest, train=Figures.of(self.train),
            validation=Figures.of(self.validation), test=Figures.of(self.test), test_limit=self.test_limit,
            baseline=Figures.of(self.baseline), comparison=ComparisonFigures.of(self.comparison), seen=self.seen,
            controls={name: one.figures for name, one in self.controls.items()},
            curve=tuple(map(_point, self.found.curve)), damage=None if self.damage is None else self.damage.figures,
            evidence=self._evidence, stopped=self.found.stopped, growth=self.found.reported.growth,
            settings=self.settings, forwards=self.forwards, seconds=self.seconds,
            versions=dict(made.versions), mask=self.mask,
        )  # fmt: skip

    @property
    def _evidence(self) -> EvidenceFigures | None:
        """The evidence with the sentence that it licenses."""
        if self.evidence is None:
            return None
        text = None if self.damage is None else self.damage.figures.text
        facts = Facts(
            self.task,
            len(self.mask),
            Figures.of(self.test),
            evidence=self.evidence,
            text=text,
            controls=bool(self.controls),
        )
        return replace(self.evidence, sentence=licensed(facts))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the file's, but for what makes it a file."""
        return {name: value for name, value in self.file.as_dict().items() if name not in OF_THE_FILE}


@dataclass(frozen=True)
class Evidence:
    """What a search's mask is measured beside, once, on the test split.

    Attributes:
        control_draws: draws of each random control; 0 for no controls.
        control_names: which controls; `random-pool` draws from the problem's matrices.
        test_limit: measure mask, baseline and controls on the first so many test examples only.
        others: tasks to measure the damage on, on as many test examples.
        text: plain text to measure the damage on.
        executor: who measures the controls; this process if None.
        choice: what it is measured beside, beyond controls. With any of it, random controls are drawn MANY times where
            that takes AFFORDABLE seconds at most.
    """

    control_draws: int = DRAWS
    control_names: Sequence[str] = OF_THE_MASK
    test_limit: int | None = None
    others: Sequence[Task] = ()
    text: str | None = None
    executor: Executor | None = None
    choice: EvidenceChoice = NO_EVIDENCE


def search(
    problem: Problem,
    task: Task,
    name: str,
    strategy: Search,
    *,
    options: Mapping[str, Any] | None = None,
    evidence: Evidence | None = None,
    progress: Progress | None = None,
) -> Report:
    """Run a strategy, then measure its best mask, the unpruned model and the controls once on the test split.

    The view is left unpruned.

    Args:
        problem: what may be removed for which task; its own task has no test split.
        task: the whole task.
        name: of the strategy.
        strategy: what chooses the mask.
        options: of the strategy that are not its defaults, as plain values for the report.
        evidence: what the mask is measured beside.
        progress: told (done, total) of what follows the search.

    Raises:
        TaskError: no test examples, or another task or a text that the model cannot take; of examples it is said before
            the strategy begins.
    """
    beside = evidence or Evidence()
    limit = beside.test_limit
    for one in (task, *beside.others):
        _check_test(problem.view, one, limit)
    found = solve(problem, strategy)
    read = _read(problem, task, found)
    forwards, seconds = problem.forwards, problem.seconds
    mask = _named(problem, task, found.reported.mask, strategy=name)
    try:
        baseline = _measure(problem, problem.mask(), task, split="test", limit=limit)
        train = _measure(problem, mask, task, split="train", limit=problem.limit)
        test = _measure(problem, mask, task, split="test", limit=limit)
        share = 0.3 if beside.choice.any else 1.0
        bar = part(progress, 0.1, 0.8 * share)
        controls, draws_made = _controls(problem, mask, task, test=test, beside=beside, progress=bar)
        elsewhere = _damage(problem, mask, beside, progress=part(progress, 0.8 * share, share))
        claim = Claim(
            problem, task, strategy, mask=mask, comparison=Comparison(test, baseline), limit=limit, text=beside.text,
            read=read,
        )  # fmt: skip
        stopped = found.stopped == "stopped"
        proof = None if stopped else _gathered(claim, beside, draws_made, progress=part(progress, share, 1.0))
    finally:
        apply(problem.view, problem.mask(), problem.svds)
    return Report(
        strategy=name, task=task.name, seed=problem.seed, mask=mask, found=found, train=train,
        validation=found.reported.validation, test=test, baseline=baseline, controls=controls, damage=elsewhere,
        settings=_settings(problem, options or {}, beside.control_draws), test_limit=limit, forwards=forwards,
        seconds=seconds, cases=task.cases, read=read, evidence=proof,
    )  # fmt: skip


def _named(problem: Problem, task: Task, mask: Mask, strategy: str) -> Mask:
    """The mask with where it came from."""
    made = provenance(
        task=task, split="train", examples=len(problem.examples), seed=problem.seed, scorer=problem.scorer,
        strategy=strategy,
    )  # fmt: skip
    return mask.model_copy(update={"provenance": made})


def _read(problem: Problem, task: Task, found: Found) -> tuple[Example, ...]:
    """What the search has read; and what was read for a mask that was given, if its file says that."""
    return (*read_in_search(task, problem.limit), *(read_for(found.reported.mask, task) or ()))


def _settings(problem: Problem, options: Mapping[str, Any], control_draws: int) -> SearchSettings:
    """What a search was told, without what the mask says itself."""
    budget = problem.budget
    return SearchSettings(
        options=dict(options), scorer=problem.scorer, matrices=tuple(map(str, problem.keys)), limit=problem.limit,
        max_removed=budget.removed, max_seconds=budget.seconds, max_growth=budget.growth,
        text_blocks=len(problem.text), control_draws=control_draws, device=str(problem.view.device),
        dtype=problem.view.model.dtype, compute=problem.proposing_dtype,
    )  # fmt: skip


def _measure(problem: Problem, mask: Mask, task: Task, split: str, limit: int | None = None) -> Evaluation:
    apply(problem.view, mask, problem.svds)
    return evaluate(problem.view, task, split, limit=limit)


def _controls(
    problem: Problem, mask: Mask, task: Task, test: Evaluation, beside: Evidence, *, progress: Progress | None
) -> tuple[dict[str, ControlRuns], str]:
    """The controls, and how often the random ones were drawn, in a sentence."""
    names, count, limit = beside.control_names, beside.control_draws, beside.test_limit
    if not len(mask) or count < 1:
        return {}, "No controls were drawn." if len(mask) else ""
    pool = problem.keys if POOL in names else ()
    scores = means_of(problem.view, problem.task, problem.svds, mask=mask, pool=pool)
    executor = beside.executor or here(problem.view, task, problem.svds)
    runs: dict[str, list[Evaluation]] = {name: [] for name in names}
    journal = None if problem.journal is None else problem.journal.beside("controls")

    def measure(first: int, end: int, bar: Progress | None) -> None:
        masks = [
            (name, drawn)
            for name in names
            if first == 0 or name in RANDOM
            for drawn in draws(scores, mask, name, seeds=range(problem.seed + first, problem.seed + end))
        ]
        drawn = [mask for _, mask in masks]
        found = measured_masks(
            executor, task, masks=drawn, split="test", limit=limit, progress=bar, journal=journal
        )  # fmt: skip
        for (name, _), evaluation in zip(masks, found, strict=True):
            runs[name].append(evaluation)

    begun = time.monotonic()
    measure(0, count, part(progress, 0.0, 0.3 if beside.choice.any else 1.0))
    each = (time.monotonic() - begun if journal is None else journal.seconds) / count  # in an earlier run, perhaps
    told = f"Random controls were drawn {count} times."
    if beside.choice.any and count < MANY:
        if each * (MANY - count) <= AFFORDABLE or (journal is not None and journal.replaying):
            measure(count, MANY, part(progress, 0.3, 1.0))
            told = f"Random controls were drawn {MANY} times."
        else:
            told += f" {MANY} draws would have taken about {duration_text(each * MANY)}."
    return {name: ControlRuns.against(test, tuple(evaluations)) for name, evaluations in runs.items()}, told


def _gathered(claim: Claim, beside: Evidence, draws_made: str, progress: Progress | None) -> EvidenceFigures | None:
    """The evidence that is asked for; None without any, and for a mask that removes nothing."""
    if not beside.choice.any or not len(claim.mask):
        return None
    executor = beside.executor or here(claim.view, claim.task, claim.problem.svds)
    return gather(claim, beside.choice, executor, draws=draws_made, progress=progress)


def _check_test(view: View, task: Task, limit: int | None) -> None:
    """Raise TaskError for a test split that cannot be measured: a search would be lost that ended with that."""
    task.metric_of("test")
    measured_batches(view, task, task.split("test", limit))


def _damage(problem: Problem, mask: Mask, beside: Evidence, progress: Progress | None) -> Damage | None:
    if not len(mask) or not (beside.others or beside.text is not None):
        return None
    return damage(
        problem.view,
        mask,
        problem.svds,
        tasks=beside.others,
        text=beside.text,
        limit=beside.test_limit,
        progress=progress,
    )


def _point(point: Point) -> PointFigures:
    return PointFigures(
        removed=point.removed, train=None if point.train is None else Figures.of(point.train),
        validation=Figures.of(point.validation), growth=point.growth,
    )  # fmt: skip
