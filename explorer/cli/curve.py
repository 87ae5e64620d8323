"""`curve`: growing masks of the lowest-scored values, each measured on the same examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from explorer.actions.choices import checked_gain
from explorer.actions.evaluate import change_of, figures_of
from explorer.cli import options
from explorer.cli.console import accuracy_text, figures_row, loss_text, notice, say, show_json, show_table, working
from explorer.cli.reports import CurveReport, CurveStop
from explorer.cli.scoring import ScoringRequest, scoring
from explorer.cli.setup import Asked
from explorer.core.errors import SettingsError
from explorer.tasks.metric import accuracy_name

if TYPE_CHECKING:
    from explorer.search.curve import Stop


def curve(
    model: options.ModelName,
    task: options.TaskName,
    kinds: options.Kinds,
    counts: Annotated[
        str | None,
        typer.Option(
            "--counts", help="Numbers of values with commas between, such as 1,4,16; 16 from 1 to all if not given."
        ),
    ] = None,
    scorer: options.Scorer = "gradient",
    mode: options.Mode = "freeze",
    gain: options.Gain = 0.0,
    stacked: options.Stacked = False,
    shots: options.Shots = 0,
    template: options.Template = None,
    data: options.Data = None,
    bos: options.Bos = "auto",
    chat: options.Chat = False,
    system: options.System = None,
    metric: options.Metric = "auto",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Score on the first N examples of the train split.")
    ] = None,
    split: options.Split = "validation",
    eval_limit: Annotated[
        int | None, typer.Option("--eval-limit", min=1, help="Measure on the first N examples of --split.")
    ] = None,
    seed: options.Seed = None,
    basis: options.Basis = "raw",
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Measure growing masks of the lowest-scored values: where along the ranking to cut.

    Values are scored once, on the train split. Predicted changes are sums of scores, which do not add up: that is what
    the measured ones stand beside them for.

    Example: `eigenprune curve --model bundled --task int-mult --kinds Q,K --counts 1,2,4,8`
    """
    gain, wanted = checked_gain(gain), None if counts is None else _counts(counts)
    asked = Asked(shots, template, data, bos, chat, system, metric)
    request = ScoringRequest(model, task, kinds, scorer, mode, stacked, limit, seed, basis, dtype, device, asked)
    most = len(request.opened.split(split, eval_limit))
    view, scores = request.run(max(wanted or [0]))
    from explorer.masks.apply import empty_mask
    from explorer.measure.sampling import draw_sample
    from explorer.search.curve import curve as measure
    from explorer.search.curve import stops
    from explorer.spectra.cache import default_cache

    with working("Measuring") as progress:
        sample = draw_sample(view, request.opened, split, most=most, seconds=float("inf"))
        found = measure(
            view, default_cache(notice), scores, sample, wanted or stops(scores.size), gain=gain, progress=progress
        )
    report: CurveReport = {
        **scoring(view, scores, request.opened),
        "gain": gain,
        "scored": scores.size,
        "eval_split": split,
        "baseline": figures_of(sample.baseline, 0),
        "stops": [_stop(one) for one in found],
    }
    if json:
        return show_json(report)
    _show(report, empty_mask(view.model).scaled(gain).state)


def _counts(text: str) -> list[int]:
    """Numbers from `1,4,16`, in order, each once."""
    pieces = [piece.strip() for piece in text.split(",")]
    if not all(piece.isascii() and piece.isdecimal() for piece in pieces):
        raise SettingsError(f"--counts {text[:40]!r} cannot be read: give numbers of values such as 1,4,16.")
    return sorted({int(piece) for piece in pieces})


def _stop(one: Stop) -> CurveStop:
    return {
        **figures_of(one.comparison.masked, one.count),
        "loss_change": change_of(one.comparison.loss_change),
        "predicted_change": one.predicted,
    }


def _show(report: CurveReport, state: str) -> None:
    rows = []
    for one in report["stops"]:
        change, predicted = one["loss_change"], one["predicted_change"]
        rows.append(
            (
                one["removed"],
                accuracy_text(one["accuracy"], one["accuracy_interval"], one["n"]),
                loss_text(change["value"], change["stderr"], signed=True),
                "-" if predicted is None else f"{predicted:+.3f} nats",
            )
        )
    accuracy_column = accuracy_name(report["baseline"]["metric"], choices=report["baseline"]["choice"] is not None)
    title = f"{report['model']} on {report['task']}, {report['eval_split']} split, lowest-scored values {state}"
    show_table(title, ("values", f"{accuracy_column} [95 % interval]", "change of the loss", "predicted"), rows)
    _, accuracy, loss = figures_row("", report["baseline"])
    say(f"Unpruned: {accuracy_column} {accuracy}, loss {loss} per example; {report['scored']:,} values are scored.")
