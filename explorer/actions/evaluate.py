"""`eval`: what a mask does to a task, measured beside the unpruned model and masks of the same size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from explorer.actions.choices import (
    Limit,
    ModelChoice,
    OfTask,
    Split,
    TaskChoice,
    asked,
    kinds_or_all,
    own_mask,
    read_mask,
)
from explorer.actions.request import ALONE, Arg, Request, Tools
from explorer.core.errors import SettingsError

if TYPE_CHECKING:
    from explorer.masks.mask import Mask
    from explorer.measure.choices import Alternatives
    from explorer.measure.evaluate import Comparison, Evaluation
    from explorer.measure.figures import SeenFigures
    from explorer.measure.metrics import Mean
    from explorer.measure.paired import McNemar
    from explorer.models import View
    from explorer.search.control_pool import ControlPool
    from explorer.spectra.cache import SvdCache
    from explorer.tasks import Task


@dataclass(frozen=True)
class EvaluateResult(OfTask):
    """A mask on a split. Losses are in nats per example, with standard errors; accuracies have 95 % Wilson intervals.

    Attributes:
        mode, gain, mask_digest: of the mask; null without one. With a gain above 0 the values counted as `removed` are
            scaled to it.
        n: number of examples.
        accuracy: by the `metric` (exact, choice, choice-mean); `exact` is exact match whatever the metric.
        guessing: the accuracy of guessing blindly among the choices; null without choices.
        majority: that of always giving the most frequent answer; null without choices.
        baseline: the same figures of the unpruned model, or of `--against`, with its mask_digest.
        loss_change, accuracy_change: paired, with the mask less without.
        accuracy_test: McNemar's exact test.
        repaired, broken: examples that went from wrong to right, and from right to wrong.
        not_finite: which model's losses are not finite, how many, the first, and where that comes from; these examples
            count as wrong, and there is no mean loss (null).
        choice: per rule (`sum`: largest log-probability, `mean`: largest per token); null without choices.
        lead: how far the answer leads the distractor; null without distractors.
        controls: masks of a control, one entry per draw; null without `--controls`.
        seen: how many of the examples the search for the mask has seen (prompts, twins, answers), and the figures
            without them (new_cases, new_answers); null without a mask, and where that cannot be told.
    """

    split: str
    seed: int
    mode: str | None
    gain: float | None
    mask_digest: str | None
    n: int
    metric: str
    accuracy: float
    accuracy_interval: Sequence[float]
    loss: float
    loss_stderr: float
    exact: Mapping[str, Any]
    guessing: float | None
    majority: float | None
    removed: int
    baseline: Mapping[str, Any]
    loss_change: Mapping[str, float]
    loss_change_interval: Sequence[float]
    accuracy_change: Mapping[str, float]
    accuracy_test: Mapping[str, Any]
    repaired: int
    broken: int
    not_finite: Sequence[Mapping[str, Any]]
    choice: Mapping[str, Any] | None
    lead: Mapping[str, Any] | None
    controls: Mapping[str, Any] | None
    seen: SeenFigures | None


@dataclass(frozen=True, kw_only=True)
class Evaluate(Request):
    """Measure accuracy and loss with a mask, beside the unpruned model on the same examples.

    Where all examples have choices, accuracy is how often the most probable choice is right, with exact match beside
    it, else exact match over all answer tokens; --metric says otherwise. It has its 95 % interval; losses are nats per
    example with their standard error. Tasks with distractors also get how far the answer leads. Changes come with
    McNemar's exact test and a paired bootstrap interval.

    Example: `eigenprune eval --model bundled --task int-mult --mask mask.json --controls 20`
    """

    command: ClassVar[str] = "eval"

    model: ModelChoice
    task: TaskChoice
    mask: Annotated[Path | None, Arg("Mask file; without it the unpruned model.")] = None
    against: Annotated[Path | None, Arg("Mask file to compare with, instead of the unpruned model.")] = None
    split: Split = "test"
    limit: Limit = None
    controls: Annotated[int, Arg("Also measure N control masks of the same size; draw i uses seed + i.", least=0)] = 0
    control: Annotated[
        str | None,
        Arg(
            "Which: random-per-matrix (as many in each matrix as the mask has; the default), random-pool (drawn "
            "from all matrices of the mask's kinds, per head or stacked as the mask is, or of --control-kinds), "
            "random-energy, smallest or largest (the last two are one mask each)."
        ),
    ] = None
    control_kinds: Annotated[str | None, Arg("The pool of random-pool, which this implies, as --kinds of `score`.")] = (
        None
    )
    control_stacked: Annotated[bool, Arg("With --control-kinds: attention matrices whole.")] = False
    control_limit: Annotated[
        int | None, Arg("Their frozen means come from N train examples; as many as the mask's own.", least=1)
    ] = None

    def run(self, tools: Tools = ALONE) -> EvaluateResult:
        """Measure.

        Raises:
            ExplorerError: a model, task, mask or control that cannot be had; no loss of the unpruned model is finite.
        """
        from explorer.search.control_pool import ControlPool

        task = self.task.open(self.split, self.limit, tools)
        mask, against = (None if path is None else read_mask(path) for path in (self.mask, self.against))
        if mask is not None:
            _say_other_splits(mask, task, tools)
        if self.controls and not mask:
            raise SettingsError(
                "--controls needs something to compare with: give a --mask that removes at least 1 value."
            )
        some = None if self.control_kinds is None else kinds_or_all(self.control_kinds) or ()
        pool = ControlPool.asked(self.control, some, self.control_limit, stacked=self.control_stacked)
        view = self.model.open_for(task, self.split, self.limit, tools=tools)
        mask, against = (None if one is None else own_mask(view, one, tools) for one in (mask, against))
        measuring = _Measuring(view, task, self.split, limit=self.limit, tools=tools, against=against)
        comparison, answers = measuring.compare(mask)
        not_finite = measuring.not_finite(mask, comparison)
        figures = _figures(comparison, 0 if mask is None else len(mask), task.seed)
        if against is not None:
            figures["baseline"] |= {"removed": len(against), "mask_digest": against.digest}
        drawn = measuring.controls(mask, self.controls, comparison, pool=pool) if mask and self.controls else None
        return EvaluateResult(
            **asked(view, task),
            split=self.split,
            seed=task.seed,
            mode=None if mask is None else mask.mode,
            gain=None if mask is None else mask.gain,
            mask_digest=None if mask is None else mask.digest,
            controls=drawn,
            lead=None if answers is None else _lead(*answers, task.seed),
            seen=None if mask is None else _seen(mask, task, comparison),
            **figures | {"not_finite": not_finite},
        )


@dataclass(frozen=True, eq=False)
class _Measuring:
    """One view, one set of examples, any number of masks; `against` is what they are compared with, if not unpruned."""

    view: View
    task: Task
    split: str
    limit: int | None
    tools: Tools
    against: Mask | None = None

    @cached_property
    def svds(self) -> SvdCache:
        from explorer.spectra.cache import default_cache

        return default_cache(self.tools.notice)

    def measure(self, mask: Mask, what: str) -> tuple[Evaluation, Alternatives | None]:
        """Put a mask onto the view and run it; a mask of another model is refused before anything runs."""
        from explorer.masks.apply import apply
        from explorer.measure.choices import measure

        with self.tools.working(what) as progress:
            apply(self.view, mask, self.svds)
            return measure(self.view, self.task, self.split, limit=self.limit, progress=progress)

    def compare(self, mask: Mask | None) -> tuple[Comparison, tuple[Alternatives, Alternatives] | None]:
        """The mask beside the baseline; where both are the unpruned model, it is measured once.

        With them, where the examples have choices or distractors, these.
        """
        from explorer.masks.apply import empty_mask
        from explorer.measure.evaluate import Comparison

        unpruned = empty_mask(self.view.model)
        same = mask is None and self.against is None
        masked = None if same else self.measure(mask or unpruned, "Measuring the mask")
        what = "Measuring the unpruned model" if self.against is None else "Measuring the mask to compare with"
        baseline = self.measure(self.against or unpruned, what)
        exact, others = baseline if masked is None else masked
        answers = None if others is None or baseline[1] is None else (others, baseline[1])
        return Comparison(exact, baseline[0]), answers

    def not_finite(self, mask: Mask | None, comparison: Comparison) -> list[Mapping[str, Any]]:
        """Losses that are not finite, by side, said as notices; a model that has no other ones is refused.

        Raises:
            NotFiniteError: no loss of the unpruned model is finite.
        """
        from explorer.masks.apply import apply, empty_mask
        from explorer.measure.overflow import check_losses, sentence

        unpruned = empty_mask(self.view.model)
        first = "unpruned" if self.against is None else "with the mask to compare with"
        sides = [(first, self.against or unpruned, comparison.baseline)]
        if mask is not None or self.against is not None:
            sides.append(("unpruned" if mask is None else "with the mask", mask or unpruned, comparison.masked))
        told: list[Mapping[str, Any]] = []
        for side, state, found in sides:
            if not found.not_finite:
                continue
            apply(self.view, state, self.svds)
            if side == "unpruned" and len(found.not_finite) == found.n:
                check_losses(self.view, self.task, found.examples, losses=found.loss, what=self.split)
            said = str(sentence(self.view, self.task, found.examples, losses=found.loss, what=self.split))
            self.tools.notice(f"Note, {side}: {said}. They count as wrong, and there is no mean loss.")
            told.append({"model": side, "count": len(found.not_finite), "first": found.not_finite[0], "note": said})
        return told

    def controls(self, mask: Mask, draws: int, comparison: Comparison, pool: ControlPool) -> Mapping[str, Any]:
        """Masks of one control, as large and as soft as the mask, measured as it is."""
        from explorer.masks.apply import apply
        from explorer.measure.evaluate import evaluate
        from explorer.search.control_runs import ControlRuns
        from explorer.search.controls import draws as drawn_masks
        from explorer.search.controls import means_of

        seeds, working = [self.task.seed + draw for draw in range(draws)], self.tools.working
        with working("Frozen means of the controls") as progress:
            scores = means_of(
                self.view, self.task, self.svds, mask=mask, pool=pool.keys(self.view, mask), examples=pool.examples,
                progress=progress,
            )  # fmt: skip
        masks, runs = drawn_masks(scores, mask, pool.control, seeds=seeds), []
        for place, drawn in enumerate(masks, start=1):
            with working(f"Control mask {place} of {len(masks)}") as progress:
                apply(self.view, drawn, self.svds)
                runs.append(evaluate(self.view, self.task, self.split, limit=self.limit, progress=progress))
        found = ControlRuns.against(comparison.masked, tuple(runs)).as_dict()
        return {"strategy": pool.control, "seeds": seeds[: len(masks)], **found}


def _say_other_splits(mask: Mask, task: Task, tools: Tools) -> None:
    made = mask.provenance
    if made.task == task.name and made.seed is not None and made.seed != task.seed:
        tools.notice(
            f"Note: the mask was scored on splits of seed {made.seed}, these are of seed {task.seed}: examples that it "
            f"was chosen on may be among them; --seed {made.seed} keeps them apart."
        )


def figures_of(evaluation: Evaluation, removed: int) -> dict[str, Any]:
    """The figures of an evaluation under a mask that removes so many values."""
    return {**evaluation.as_dict(), "removed": removed}


def change_of(mean: Mean) -> dict[str, float]:
    """A paired mean change."""
    return {"value": mean.value, "stderr": mean.stderr}


def _figures(comparison: Comparison, removed: int, seed: int) -> dict[str, Any]:
    """The fields of a result that come from a comparison."""
    return {
        **figures_of(comparison.masked, removed),
        "choice": _choice(comparison),
        "baseline": figures_of(comparison.baseline, 0),
        "loss_change": change_of(comparison.loss_change),
        "loss_change_interval": comparison.loss_interval(seed),
        "accuracy_change": change_of(comparison.accuracy_change),
        "accuracy_test": _test(comparison.accuracy_test),
        "repaired": len(comparison.repaired),
        "broken": len(comparison.broken),
    }


def _seen(mask: Mask, task: Task, comparison: Comparison) -> SeenFigures | None:
    """What the search for a mask has seen of the examples of a comparison; None if that cannot be told."""
    from explorer.masks.belonging import read_for
    from explorer.measure.figures import SeenFigures
    from explorer.tasks import seen

    read = read_for(mask, task)
    return None if read is None else SeenFigures.of(seen(read, comparison.masked.examples), comparison)


def _test(test: McNemar) -> dict[str, Any]:
    return {"repaired": test.repaired, "broken": test.broken, "p": test.p}


def _choice(comparison: Comparison) -> dict[str, Any] | None:
    """Choice accuracy by each rule; None without choices."""
    from explorer.measure.metrics import share
    from explorer.tasks.metric import RULES

    masked, baseline = comparison.masked, comparison.baseline
    return {
        rule: {"masked": share(masked.hits(rule)), "baseline": share(baseline.hits(rule)), "test": _test(test)}
        for rule in RULES
        if (test := comparison.choice_test(rule)) is not None
    } or None


def _lead(masked: Alternatives, baseline: Alternatives, seed: int) -> dict[str, Any] | None:
    """How far the answer leads the distractor; None without distractors."""
    from explorer.measure.paired import bootstrap_interval

    if not masked.leads:
        return None
    changes = [after - before for after, before in zip(masked.leads, baseline.leads, strict=True)]
    return {
        "masked": masked.as_dict()["lead"],
        "baseline": baseline.as_dict()["lead"],
        "change_interval": list(bootstrap_interval(changes, seed=seed)),
    }
