"""`eval`: what a mask does to a task, measured beside the unpruned model and random masks of the same size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.cli import options
from explorer.cli.answers import Measured, choice_figures, lead_figures, show_choice, show_lead
from explorer.cli.console import (
    loss_text,
    losses_text,
    notice,
    points_text,
    range_text,
    say,
    show_figures,
    show_json,
    working,
)
from explorer.cli.control_pool import ControlPool
from explorer.cli.reports import Change, Controls, EvalReport, Figures, Headline, NotFinite
from explorer.cli.setup import Asked, identity, open_for, open_task, own_mask, seed_or_default, wording
from explorer.core.errors import SettingsError
from explorer.tasks import Task

if TYPE_CHECKING:
    from explorer.masks.mask import Mask
    from explorer.measure.choices import Alternatives
    from explorer.measure.evaluate import Comparison, Evaluation
    from explorer.measure.metrics import Mean
    from explorer.models import View
    from explorer.spectra.cache import SvdCache


def evaluate(
    model: options.ModelName,
    task: options.TaskName,
    mask: Annotated[Path | None, typer.Option("--mask", help="Mask file; without it the unpruned model.")] = None,
    split: options.Split = "test",
    shots: options.Shots = 0,
    template: options.Template = None,
    data: options.Data = None,
    bos: options.Bos = "auto",
    chat: options.Chat = False,
    system: options.System = None,
    metric: options.Metric = "auto",
    limit: options.Limit = None,
    controls: Annotated[
        int,
        typer.Option(
            "--controls",
            min=0,
            help="Also measure N control masks of the same size; draw i uses seed + i.",
        ),
    ] = 0,
    control: Annotated[
        str | None,
        typer.Option(
            "--control",
            help="Which: random-per-matrix (as many in each matrix as the mask has; the default), random-pool (drawn "
            "from all matrices of the mask's kinds, per head or stacked as the mask is, or of --control-kinds), "
            "random-energy, smallest or largest (the last two are one mask each).",
        ),
    ] = None,
    control_kinds: Annotated[
        str | None,
        typer.Option("--control-kinds", help="The pool of random-pool, which this implies, as --kinds of `score`."),
    ] = None,
    control_stacked: Annotated[
        bool, typer.Option("--control-stacked", help="With --control-kinds: attention matrices whole.")
    ] = False,
    control_limit: Annotated[
        int | None,
        typer.Option(
            "--control-limit", min=1, help="Their frozen means come from N train examples; as many as the mask's own."
        ),
    ] = None,
    seed: options.Seed = None,
    basis: options.Basis = "raw",
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Measure accuracy and loss with a mask, beside the unpruned model on the same examples.

    Where all examples have choices, accuracy is how often the most probable choice is right, with exact match beside
    it, else exact match over all answer tokens; --metric says otherwise. It has its 95 % interval; losses are nats per
    example with their standard error. Tasks with distractors also get how far the answer leads. Changes come with
    McNemar's exact test and a paired bootstrap interval.

    Example: `eigenprune eval --model bundled --task int-mult --mask mask.json --controls 20`
    """
    seed = seed_or_default(seed)
    opened = open_task(task, seed, split, limit, Asked(shots, template, data, bos, chat, system, metric))
    given = _read(mask, opened) if mask is not None else None
    if controls and not given:
        raise SettingsError("--controls needs something to compare with: give a --mask that removes at least 1 value.")
    pool = ControlPool.asked(control, control_kinds, control_limit, stacked=control_stacked)
    run = _Run.open(open_for([opened], split, limit, model, dtype, device, basis), opened, split, limit)
    given = None if given is None else own_mask(run.view, given)
    comparison, answers = run.compare(given)
    unusable = run.not_finite(given, comparison)
    drawn = run.controls(given, controls, seed, comparison, pool) if given and controls else None
    report = _report(run, given, comparison, answers, drawn, unusable, seed)
    if json:
        return show_json(report)
    _show(report, given)


def _read(path: Path, task: Task) -> Mask:
    from explorer.masks.mask import load_mask

    mask = load_mask(path)
    made = mask.provenance
    if made.task == task.name and made.seed is not None and made.seed != task.seed:
        notice(
            f"Note: the mask was scored on splits of seed {made.seed}, these are of seed {task.seed}: examples that it "
            f"was chosen on may be among them; --seed {made.seed} keeps them apart."
        )
    return mask


@dataclass(frozen=True, eq=False)
class _Run:
    """One view, one set of examples, any number of masks."""

    view: View
    svds: SvdCache
    task: Task
    split: str
    limit: int | None

    @classmethod
    def open(cls, view: View, task: Task, split: str, limit: int | None) -> _Run:
        from explorer.spectra.cache import default_cache

        return cls(view, default_cache(notice), task, split, limit)

    def measure(self, mask: Mask, what: str) -> tuple[Evaluation, Alternatives | None]:
        """Put a mask onto the view and run it; a mask of another model is refused before anything runs."""
        from explorer.masks.apply import apply
        from explorer.measure.choices import measure

        with working(what) as progress:
            apply(self.view, mask, self.svds)
            return measure(self.view, self.task, self.split, limit=self.limit, progress=progress)

    def compare(self, mask: Mask | None) -> tuple[Comparison, Measured | None]:
        """The mask beside the unpruned model; without a mask the unpruned model is measured once.

        With them, where the examples have choices or distractors, these.
        """
        from explorer.masks.apply import empty_mask
        from explorer.measure.evaluate import Comparison

        masked = None if mask is None else self.measure(mask, "Measuring the mask")
        baseline = self.measure(empty_mask(self.view.model), "Measuring the unpruned model")
        exact, others = baseline if masked is None else masked
        answers = None if others is None or baseline[1] is None else (others, baseline[1])
        return Comparison(exact, baseline[0]), answers

    def not_finite(self, mask: Mask | None, comparison: Comparison) -> list[NotFinite]:
        """Losses that are not finite, by side, said as notices; a model that has no other ones is refused.

        Raises:
            NotFiniteError: no loss of the unpruned model is finite.
        """
        from explorer.masks.apply import apply, empty_mask
        from explorer.measure.overflow import check_losses, sentence

        sides = [("unpruned", empty_mask(self.view.model), comparison.baseline)]
        sides += [] if mask is None else [("with the mask", mask, comparison.masked)]
        told: list[NotFinite] = []
        for side, state, found in sides:
            if not found.not_finite:
                continue
            apply(self.view, state, self.svds)
            if side == "unpruned" and len(found.not_finite) == found.n:
                check_losses(self.view, self.task, found.examples, found.loss, self.split)
            said = str(sentence(self.view, self.task, found.examples, found.loss, self.split))
            notice(f"Note, {side}: {said}. They count as wrong, and there is no mean loss.")
            told.append({"model": side, "count": len(found.not_finite), "first": found.not_finite[0], "note": said})
        return told

    def exact(self, mask: Mask, what: str) -> Evaluation:
        """Loss and accuracy only."""
        from explorer.masks.apply import apply
        from explorer.measure.evaluate import evaluate

        with working(what) as progress:
            apply(self.view, mask, self.svds)
            return evaluate(self.view, self.task, self.split, limit=self.limit, progress=progress)

    def controls(self, mask: Mask, draws: int, seed: int, comparison: Comparison, pool: ControlPool) -> Controls:
        """Masks of one control, as large and as soft as the mask, measured as it is."""
        from explorer.search.control_runs import ControlRuns
        from explorer.search.controls import draws as drawn_masks
        from explorer.search.controls import means_of

        seeds = [seed + draw for draw in range(draws)]
        keys = pool.keys(self.view, mask)
        with working("Frozen means of the controls") as progress:
            scores = means_of(
                self.view, self.task, self.svds, mask, pool=keys, examples=pool.examples, progress=progress
            )
        masks = drawn_masks(scores, mask, pool.control, seeds)
        runs = tuple(self.exact(one, f"Control mask {i} of {len(masks)}") for i, one in enumerate(masks, start=1))
        found = ControlRuns.against(comparison.masked, runs).as_dict()
        return {
            "strategy": pool.control,
            "draws": found["draws"],
            "seeds": seeds[: len(masks)],
            "accuracy": found["accuracy"],
            "loss": found["loss"],
            "percentile": found["percentile"],
        }


def _report(
    run: _Run,
    mask: Mask | None,
    comparison: Comparison,
    answers: Measured | None,
    drawn: Controls | None,
    unusable: list[NotFinite],
    seed: int,
) -> EvalReport:
    test = comparison.accuracy_test
    return {
        **identity(run.view),
        "task": run.task.name,
        **wording(run.task),
        "split": run.split,
        "seed": seed,
        "mode": None if mask is None else mask.mode,
        "gain": None if mask is None else mask.gain,
        "mask_digest": None if mask is None else mask.digest,
        **headline_of(comparison.masked, 0 if mask is None else len(mask)),
        "baseline": figures_of(comparison.baseline, 0),
        "loss_change": change_of(comparison.loss_change),
        "loss_change_interval": list(comparison.loss_interval(seed)),
        "accuracy_change": change_of(comparison.accuracy_change),
        "accuracy_test": {"repaired": test.repaired, "broken": test.broken, "p": test.p},
        "repaired": len(comparison.repaired),
        "broken": len(comparison.broken),
        "not_finite": unusable,
        "choice": choice_figures(comparison),
        "lead": None if answers is None else lead_figures(*answers, seed),
        "controls": drawn,
    }


def figures_of(evaluation: Evaluation, removed: int) -> Figures:
    """The figures of an evaluation, under a mask that removes so many values."""
    return {**headline_of(evaluation, removed), "choice": evaluation.as_dict()["choice"]}


def headline_of(evaluation: Evaluation, removed: int) -> Headline:
    """The figures of an evaluation without the rules of choosing."""
    found = {name: value for name, value in evaluation.as_dict().items() if name != "choice"}
    return {**found, "removed": removed}  # type: ignore[typeddict-item]


def change_of(mean: Mean) -> Change:
    """A paired mean change."""
    return {"value": mean.value, "stderr": mean.stderr}


def _show(report: EvalReport, mask: Mask | None) -> None:
    rows: list[tuple[str, Mapping[str, Any]]] = [("unpruned", report["baseline"])]
    if mask is not None:
        picked = {rule: one["masked"] for rule, one in (report["choice"] or {}).items()}
        rows.append((f"{len(mask):,} {mask.state} ({mask.mode})", {**report, "choice": picked or None}))
    title = f"{report['model']} ({report['dtype']}) on {report['task']}, {report['split']} split"
    show_figures(title, rows)
    pruned = mask is not None
    if report["choice"] is not None:
        show_choice(report["choice"], pruned=pruned)
    if report["lead"] is not None:
        show_lead(report["lead"], pruned=pruned)
    if not pruned:
        return
    accuracy, loss = report["accuracy_change"], report["loss_change"]
    low, high = report["loss_change_interval"]
    p = report["accuracy_test"]["p"]
    say(f"Change of accuracy: {points_text(accuracy['value'], accuracy['stderr'])}, McNemar p = {p:.2g}")
    say(
        f"Change of loss: {loss_text(loss['value'], loss['stderr'], signed=True)} per example, "
        f"95 % bootstrap interval [{low:+.3f}, {high:+.3f}]"
    )
    say(f"Wrong to right: {report['repaired']:,}; right to wrong: {report['broken']:,}")
    if report["controls"] is not None:
        _show_controls(report["controls"])


def _show_controls(controls: Controls) -> None:
    accuracy, loss = controls["accuracy"], controls["loss"]
    say(
        f"{controls['draws']} masks of the control {controls['strategy']}: accuracy {range_text(accuracy)}, "
        f"loss {losses_text(loss)}; median and range"
    )
    beats = controls["percentile"]
    say(f"The mask beats {beats['accuracy']:.0f} % of them in accuracy and {beats['loss']:.0f} % in loss.")
