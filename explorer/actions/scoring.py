"""`score`, `prune` and `curve`: values by score, masks of those with the lowest ones, and how far to go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from explorer.actions.choices import (
    Cluster,
    Gain,
    Kinds,
    Limit,
    MaskFile,
    Mode,
    ModelChoice,
    OfTask,
    Scorer,
    Split,
    Stacked,
    TaskChoice,
    asked,
    checked_gain,
    kinds_or_all,
    own_mask,
    read_mask,
    refuse_unwritable,
    removal_mode,
)
from explorer.actions.clusters import check_cluster, executor_of, workers
from explorer.actions.evaluate import Evaluate, change_of, figures_of
from explorer.actions.request import ALONE, Arg, Request, Tools
from explorer.core.errors import SettingsError
from explorer.core.keys import MatrixKey
from explorer.core.records import FOR_PEOPLE
from explorer.masks.gain import state_of

if TYPE_CHECKING:
    from explorer.attribution import Options, Scores
    from explorer.masks.mask import Mask
    from explorer.models import View
    from explorer.search.curve import Stop
    from explorer.tasks import Task

SPLIT = "train"


@dataclass(frozen=True)
class ScoringResult(OfTask):
    """What was scored, how and on what: `n` examples; `loss` is the unpruned model's on them, nats per example."""

    split: str
    n: int
    seed: int
    scorer: str
    mode: str
    loss: float


@dataclass(frozen=True)
class ScoreResult(ScoringResult):
    """All values, the most harmful (lowest score) first, with scores in `unit`.

    With `--mask` a score is for flipping the value from there, and `loss` is the masked model's.

    Attributes:
        values: matrix, index, sigma, score, c (the frozen mean m . u_i), stderr (of the score over examples, null
            without `--bootstrap`) and removed (whether the mask removes it).
        state: what the mask does to its values, in words.
    """

    unit: str
    bootstrap: int
    mask_digest: str | None
    values: Sequence[Mapping[str, Any]]
    state: str = field(metadata=FOR_PEOPLE)


@dataclass(frozen=True)
class PruneResult(ScoringResult):
    """A mask that was written: `removed` values out of `scored`, or scaled to `gain` if that is above 0.

    Attributes:
        predicted_change: the sum of their scores, times 1 - `gain`; null for scorers that do not predict nats.
        out: the mask file.
        eval_command: measures it on the test split.
        values: matrix, index, sigma, score and c of each.
    """

    strategy: str
    gain: float
    removed: int
    scored: int
    predicted_change: float | None
    mask_digest: str
    out: str
    eval_command: str
    values: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class CurveResult(ScoringResult):
    """Growing masks of the lowest-scored values, measured on `eval_split` as the `baseline` was.

    Attributes:
        gain: what values are scaled to, if it is above 0.
        stops: per mask its figures, its loss_change and its predicted_change (null for scorers that do not predict
            nats).
    """

    gain: float
    scored: int
    eval_split: str
    baseline: Mapping[str, Any]
    stops: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class _Scoring(Request):
    """Score the values of some kinds of matrix on the train split."""

    model: ModelChoice
    task: TaskChoice
    kinds: Kinds
    scorer: Scorer = "gradient"
    mode: Mode = "freeze"
    stacked: Stacked = False
    limit: Limit = None

    def open_task(self, tools: Tools) -> Task:
        """The task, which may have to be fetched, once the options that need neither it nor the model are checked."""
        from explorer.attribution import SCORERS

        kinds_or_all(self.kinds)
        removal_mode(self.mode)
        if self.scorer not in SCORERS:
            raise SettingsError(f"{self.scorer[:40]!r} is not a scorer: choose one of {', '.join(SCORERS)}.")
        return self.task.open(SPLIT, self.limit, tools)

    def scores(
        self, task: Task, tools: Tools, *, count: int = 0, mask: Mask | None = None, options: Options | None = None
    ) -> tuple[View, Scores]:
        """Load the model, make sure that it has `count` values, and score."""
        from explorer.attribution import score
        from explorer.models.matrices import matrices, shape
        from explorer.spectra.cache import default_cache

        view = self.model.open_for(task, SPLIT, self.limit, tools=tools)
        at = None if mask is None else own_mask(view, mask, tools)
        keys = matrices(view, kinds_or_all(self.kinds), per_head=not self.stacked)
        total = sum(min(shape(view, key)) for key in keys)
        if count > total:
            raise SettingsError(f"{count:,} values cannot be removed: choose 0 to {total:,}.")
        with tools.working("Scoring") as progress:
            scores = score(
                view, task, default_cache(tools.notice), keys=keys, scorer=self.scorer, mode=removal_mode(self.mode),
                split=SPLIT, limit=self.limit, seed=task.seed, mask=at, options=options, progress=progress,
            )  # fmt: skip
        return view, scores


def _about(view: View, task: Task, scores: Scores) -> dict[str, Any]:
    """The fields of `ScoringResult`."""
    return {
        **asked(view, task),
        "split": scores.split,
        "n": scores.n,
        "seed": scores.seed,
        "scorer": scores.scorer,
        "mode": scores.mode,
        "loss": scores.loss,
    }


@dataclass(frozen=True, kw_only=True)
class Score(_Scoring):
    """Rank singular values by score, the most harmful first, on the task's train split.

    A score is the predicted change of the loss, in nats per example, if that value alone is removed: negative means
    that removing it helps. (as-released, magnitude, energy and random only order the values.)

    Example: `eigenprune score --model bundled --task int-mult --kinds Q,K --bootstrap 100 --top 10`
    """

    command: ClassVar[str] = "score"

    bootstrap: Annotated[int, Arg("Standard errors from so many resamples; for gradient, integrated, curvature.")] = 0
    mask: Annotated[
        Path | None, Arg("Score at this mask: what removing a kept value, or restoring another, does now.")
    ] = None
    steps: Annotated[int, Arg("Points on the path of integrated.")] = 8
    path: Annotated[str, Arg("What integrated removes together: all matrices, or one matrix after the other.")] = "all"
    draws: Annotated[int, Arg("Answers drawn per example by curvature.")] = 1
    batch_size: Annotated[int, Arg("Examples in a mini-batch of as-released.")] = 16
    answer_token: Annotated[int, Arg("Which token of the answer as-released looks at, from 0.")] = 0
    top: Annotated[int, Arg("Values shown; --json always has all.", least=1)] = 20

    def run(self, tools: Tools = ALONE) -> ScoreResult:
        """Score.

        Raises:
            ExplorerError: a model, task, scorer or mask that cannot be had, or a loss that is not finite.
        """
        from explorer.attribution import Options

        options = Options(
            bootstrap=self.bootstrap, steps=self.steps, path=self.path, draws=self.draws, batch_size=self.batch_size,
            answer_token=self.answer_token,
        )  # fmt: skip
        task, mask = self.open_task(tools), None if self.mask is None else read_mask(self.mask)
        view, scores = self.scores(task, tools, mask=mask, options=options)
        return ScoreResult(
            **_about(view, task, scores),
            unit=scores.unit,
            bootstrap=self.bootstrap,
            mask_digest=None if scores.mask is None else scores.mask.digest,
            values=[_entry(scores, key, index) for _, key, index in (*scores.ranking(), *scores.unusable)],
            state="removed" if scores.mask is None else scores.mask.state,
        )


@dataclass(frozen=True, kw_only=True)
class Prune(_Scoring):
    """Choose singular values to remove by their score on the train split, and write them to a mask file.

    Effects of several removals do not add up, so the predicted change says little beyond a few values: measure it with
    the `eval` command that is printed at the end.

    Example: `eigenprune prune --model bundled --task int-mult --kinds Q,K --count 2 --out mask.json`
    """

    command: ClassVar[str] = "prune"

    count: Annotated[int, Arg("How many singular values to remove.", least=0)]
    out: MaskFile
    strategy: Annotated[str, Arg("lowest (lowest scores) or random-pool (a control, drawn from all of them).")] = (
        "lowest"
    )
    gain: Gain = 0.0

    def run(self, tools: Tools = ALONE) -> PruneResult:
        """Score, choose, and write the mask.

        Raises:
            ExplorerError: a model, task, scorer or strategy that cannot be had, or a file that cannot be written.
        """
        gain = checked_gain(self.gain)
        refuse_unwritable(self.out)
        from explorer.search import STRATEGIES, check_strategy, mask_of, null_notice

        check_strategy(self.strategy)
        task = self.open_task(tools)
        view, scores = self.scores(task, tools, count=self.count)
        chosen = STRATEGIES[self.strategy](scores, self.count, scores.seed)
        mask = mask_of(view, scores, chosen, task=task, strategy=self.strategy, gain=gain)
        if (sentence := null_notice(view, scores, mask.removed)) is not None:
            tools.notice(sentence)
        mask.save(self.out)
        measure = Evaluate(model=self.model, task=replace(self.task, seed=scores.seed), mask=self.out)
        return PruneResult(
            **_about(view, task, scores),
            strategy=self.strategy,
            gain=mask.gain,
            removed=len(mask),
            scored=scores.size,
            predicted_change=scores.predicted(mask),
            mask_digest=mask.digest,
            out=str(self.out),
            eval_command=measure.as_command(),
            values=[_value(scores, one.key, one.index) for one in mask.removed],
        )


@dataclass(frozen=True, kw_only=True)
class Curve(_Scoring):
    """Measure growing masks of the lowest-scored values: where along the ranking to cut.

    Values are scored once, on the train split. Predicted changes are sums of scores, which do not add up: that is what
    the measured ones stand beside them for.

    Example: `eigenprune curve --model bundled --task int-mult --kinds Q,K --counts 1,2,4,8`
    """

    command: ClassVar[str] = "curve"

    counts: Annotated[
        str | None, Arg("Numbers of values with commas between, such as 1,4,16; 16 from 1 to all if not given.")
    ] = None
    gain: Gain = 0.0
    limit: Annotated[int | None, Arg("Score on the first N examples of the train split.", least=1)] = None
    split: Split = "validation"
    eval_limit: Annotated[int | None, Arg("Measure on the first N examples of --split.", least=1)] = None
    cluster: Cluster = None

    @property
    def state(self) -> str:
        """What its values are, in words."""
        return state_of(self.gain)

    def run(self, tools: Tools = ALONE) -> CurveResult:
        """Score, and measure each mask.

        Raises:
            ExplorerError: a model, task, scorer or counts that cannot be had.
        """
        gain, counts = checked_gain(self.gain), None if self.counts is None else _counts(self.counts)
        check_cluster(self.cluster)
        task = self.open_task(tools)
        most = len(task.split(self.split, self.eval_limit))
        view, scores = self.scores(task, tools, count=max(counts or [0]))
        from explorer.measure.sampling import draw_sample
        from explorer.search.curve import curve, stops
        from explorer.search.mask_cells import masks_by
        from explorer.spectra.cache import default_cache

        with workers(self.cluster, self.model.device, tools) as executors, tools.working("Measuring") as progress:
            sample = draw_sample(view, task, self.split, most=most, seconds=float("inf"))
            executor = executor_of(executors, view, task)
            apart = None if executor is None else masks_by(executor, task, self.split, limit=len(sample.examples))
            found = curve(
                view, default_cache(tools.notice), scores, sample=sample, counts=counts or stops(scores.size),
                gain=gain, apart=apart, progress=progress,
            )  # fmt: skip
        return CurveResult(
            **_about(view, task, scores),
            gain=gain,
            scored=scores.size,
            eval_split=self.split,
            baseline=figures_of(sample.baseline, 0),
            stops=[_stop(one) for one in found],
        )


def _counts(text: str) -> list[int]:
    """Numbers from `1,4,16`, in order, each once."""
    pieces = [piece.strip() for piece in text.split(",")]
    if not all(piece.isascii() and piece.isdecimal() for piece in pieces):
        raise SettingsError(f"--counts {text[:40]!r} cannot be read: give numbers of values such as 1,4,16.")
    return sorted({int(piece) for piece in pieces})


def _stop(one: Stop) -> dict[str, Any]:
    return {
        **figures_of(one.comparison.masked, one.count),
        "loss_change": change_of(one.comparison.loss_change),
        "predicted_change": one.predicted,
    }


def _value(scores: Scores, key: MatrixKey, index: int) -> dict[str, Any]:
    removed = scores.removed(key, index)
    return {
        "matrix": removed.matrix,
        "index": index,
        "sigma": removed.sigma,
        "score": float(scores.matrices[key].score[index]),
        "c": removed.c,
    }


def _entry(scores: Scores, key: MatrixKey, index: int) -> dict[str, Any]:
    stderr = scores.matrices[key].stderr
    return {
        **_value(scores, key, index),
        "stderr": None if stderr is None else float(stderr[index]),
        "removed": scores.mask is not None and index in scores.mask.indices(key),
    }
