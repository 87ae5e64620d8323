"""`effects`: what removing single values really does, measured one by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.actions.choices import removal_mode
from explorer.cli import options
from explorer.cli.console import loss_text, notice, say, show_json, show_table, working
from explorer.cli.reports import EffectEntry, EffectsReport
from explorer.cli.setup import Asked, identity, open_for, open_task, own_mask, seed_or_default, wording
from explorer.core.errors import SettingsError
from explorer.core.keys import MatrixKey

if TYPE_CHECKING:
    from explorer.masks.mask import Mask
    from explorer.models import View
    from explorer.tasks import Task

SPLIT = "train"


def effects(
    model: options.ModelName,
    task: options.TaskName,
    value: Annotated[
        list[str], typer.Option("--value", help="Values of a matrix, such as L0.Q.H3:0 or L3.OUT:0,5,7; repeatable.")
    ],
    mask: Annotated[
        Path | None, typer.Option("--mask", help="Measure from this mask on: a value that it removes is restored.")
    ] = None,
    mode: options.Mode = "freeze",
    shots: options.Shots = 0,
    template: options.Template = None,
    data: options.Data = None,
    bos: options.Bos = "auto",
    chat: options.Chat = False,
    system: options.System = None,
    metric: options.Metric = "auto",
    limit: options.Limit = None,
    seed: options.Seed = None,
    basis: options.Basis = "raw",
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Measure the exact effect of single values: the change of the train loss if each is removed alone.

    Each value costs at most one forward pass over the examples. Measured effects are kept in the cache folder.

    Example: `eigenprune effects --model bundled --task int-mult --value L0.Q.H3:0,1 --value L0.K.H3:0`
    """
    values = [one for text in value for one in _values(text)]
    removal, seed = removal_mode(mode), seed_or_default(seed)
    opened = open_task(task, seed, SPLIT, limit, Asked(shots, template, data, bos, chat, system, metric))
    from explorer.masks.mask import load_mask

    at = None if mask is None else load_mask(mask)
    view = open_for([opened], SPLIT, limit, model, dtype, device, basis)
    at = None if at is None else own_mask(view, at)
    report = _report(view, opened, values, removal, at, limit)
    if json:
        return show_json(report)
    rows = [
        (one["matrix"], one["index"], loss_text(one["exact"], one["stderr"], signed=True)) for one in report["values"]
    ]
    show_table("Measured one by one, each alone", ("matrix", "index", "change of the loss"), rows)
    state = "unpruned" if at is None else f"at {mask}:"
    say(f"{opened.name}, {SPLIT} split, n = {report['n']:,}, {state} loss {report['loss']:.3f} nats per example.")


def _values(text: str) -> list[tuple[MatrixKey, int]]:
    """Values from `L0.Q.H3:0,5`."""
    matrix, _, indices = text.partition(":")
    found = [piece.strip() for piece in indices.split(",")]
    if not all(piece.isascii() and piece.isdecimal() for piece in found):
        raise SettingsError(f"--value {text[:40]!r} cannot be read: give a matrix and indices such as L0.Q.H3:0,5.")
    return [(MatrixKey.parse(matrix), int(piece)) for piece in found]


def _report(
    view: View, task: Task, values: list[tuple[MatrixKey, int]], mode: str, mask: Mask | None, limit: int | None
) -> EffectsReport:
    from explorer.attribution.effect_store import default_effects
    from explorer.attribution.exact import exact_effects
    from explorer.measure.batches import batches
    from explorer.spectra.cache import default_cache

    with working("Measuring") as progress:
        cut = batches(view, task, task.split(SPLIT, limit))
        found = exact_effects(
            view, cut, default_cache(notice), values, mode=removal_mode(mode), mask=mask,
            store=default_effects(notice), progress=progress,
        )  # fmt: skip
    entries: list[EffectEntry] = [
        {
            "matrix": str(key),
            "index": index,
            "exact": one.value,
            "stderr": one.stderr,
            "removed": mask is not None and index in mask.indices(key),
        }
        for (key, index), one in found.values.items()
    ]
    return {
        **identity(view),
        "task": task.name,
        **wording(task),
        "split": SPLIT,
        "n": found.n,
        "seed": task.seed,
        "mode": mode,
        "mask_digest": None if mask is None else mask.digest,
        "loss": found.loss,
        "values": entries,
    }
