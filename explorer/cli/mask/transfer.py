"""`mask transfer`: a mask on other tasks, and on a sibling of its model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.actions.choices import refuse_unwritable
from explorer.cli import options
from explorer.cli.console import notice, say, show_json, show_table, working
from explorer.cli.mask.damage import open_tasks, show_tasks
from explorer.cli.mask.files import SHORT, entry, plain
from explorer.cli.mask.reports import TransferredValue, TransferReport
from explorer.cli.setup import Asked, identity, open_for, open_view, own_mask, seed_or_default
from explorer.core.errors import SettingsError

if TYPE_CHECKING:
    from explorer.experiments.transfer import Match
    from explorer.masks.mask import Mask
    from explorer.models import View
    from explorer.spectra.cache import SvdCache
    from explorer.tasks import Task

WORST = 10  # matches shown without --json


def transfer(
    model: options.ModelName,
    mask: Annotated[Path, typer.Option("--mask", help="Mask file.")],
    task: Annotated[list[str], typer.Option("--task", help="A task, or a .jsonl or .csv file; repeatable.")],
    to_sibling: Annotated[
        bool, typer.Option("--to-sibling", help="Carry a mask of another model of the same shapes over to this one.")
    ] = False,
    base: Annotated[
        str | None, typer.Option("--base", help="The mask's own model: says how well the directions match.")
    ] = None,
    keep_means: Annotated[
        bool,
        typer.Option("--keep-means", help="Keep frozen means; else the first task's train split gives them."),
    ] = False,
    new_means: Annotated[
        bool,
        typer.Option("--new-means", help="Of this very model: frozen means from the first task's train split."),
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write the transferred mask to this file.")] = None,
    split: options.Split = "test",
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
    """Measure a mask on other tasks, or on a sibling of its model such as a fine-tune, beside the unpruned model.

    A mask is refused by any model but its own, unless --to-sibling asks for it: then the same indices of the same
    matrices are removed, with the sibling's own singular values, and frozen means from its own train tokens. On its own
    model a mask keeps its frozen means, unless --new-means asks for those of the task.

    Example: `eigenprune mask transfer --model tuned --mask mask.json --task int-mult --to-sibling --base bundled`
    """
    if not to_sibling and (base is not None or keep_means):
        raise SettingsError("--base and --keep-means are for a mask of another model: add --to-sibling.")
    if to_sibling and new_means:
        raise SettingsError("--new-means is for a mask of this model: --to-sibling gives new means by itself.")
    if out is not None and not (to_sibling or new_means):
        raise SettingsError("--out is for a mask that changes: add --new-means, or --to-sibling for another model's.")
    if out is not None:
        refuse_unwritable(out)
    seed = seed_or_default(seed)
    opened = open_tasks(task, seed, split, limit, Asked(shots, template, data, bos, chat, system, metric))
    from explorer.experiments.transfer import refreeze
    from explorer.masks.damage import damage
    from explorer.masks.mask import load_mask
    from explorer.spectra.cache import default_cache

    given = load_mask(mask)
    svds = default_cache(notice)
    view = open_for(opened, split, limit, model, dtype, device, basis)
    given = given if to_sibling else own_mask(view, given)
    carried, values = given, None
    if to_sibling:
        origin = None if base is None else open_view(base, dtype, device, basis)
        carried, values = _carry(view, given, svds, None if keep_means else opened[0], origin, limit)
    elif new_means:
        with working("Taking the means") as progress:
            carried = refreeze(view, given, svds, opened[0], limit=limit, progress=progress)
        values = _values(given, carried)
    with working("Measuring") as progress:
        found = damage(view, carried, svds, opened, split=split, limit=limit, progress=progress)
    if out is not None:
        carried.save(out)
    derived = carried.provenance.derived
    matched = [one["match"] for one in values or () if one["match"] is not None]
    report: TransferReport = {
        **identity(view),
        "seed": seed,
        "given": entry(mask, given),
        "mask": entry(out or mask, carried),
        "means": None if derived is None or carried is given else derived.means,
        "values": values,
        "median_match": median(matched) if matched else None,
        "tasks": [one.as_dict() for one in found.tasks],
        "out": None if out is None else str(out),
    }
    if json:
        return show_json(report)
    _show(report, carried.state)


def _carry(
    view: View, given: Mask, svds: SvdCache, means: Task | None, base: View | None, limit: int | None
) -> tuple[Mask, list[TransferredValue]]:
    """The sibling's mask, and what became of every value."""
    from explorer.experiments.transfer import matches
    from explorer.experiments.transfer import transfer as carry

    found = None
    with working("Decomposing") as progress:
        if base is not None:
            found = matches(view, base, given, svds)
        carried = carry(view, given, svds, means, limit=limit, progress=progress)
    return carried, _values(given, carried, found)


def _values(given: Mask, carried: Mask, found: Sequence[Match | None] | None = None) -> list[TransferredValue]:
    return [
        {
            "matrix": new.matrix,
            "index": new.index,
            "sigma": new.sigma,
            "sigma_before": old.sigma,
            "c": new.c,
            "c_before": old.c,
            "match": None if match is None else match.match,
            "nearest": None if match is None else match.nearest,
            "nearest_match": None if match is None else match.nearest_match,
        }
        for new, old, match in zip(carried.removed, given.removed, found or (None,) * len(given), strict=True)
    ]


def _show(report: TransferReport, state: str) -> None:
    title = f"{report['model']}, {report['mask']['removed']:,} {state}"
    show_tasks(title, report["tasks"])
    if report["values"] is None:
        return
    given = report["given"]
    if given["model_digest"] != report["model_digest"]:
        say(plain(f"Carried over from {given['source']} ({given['model_digest'][:SHORT]}...)"))
    say("Frozen means: " + ("kept" if report["means"] is None else f"train tokens of {plain(report['means'])}"))
    matched = [(one["match"], one) for one in report["values"] if one["match"] is not None]
    if matched:
        worst = sorted(matched, key=lambda pair: pair[0])[:WORST]
        show_table(
            "Directions that match least",
            ("matrix", "index", "sigma before", "sigma", "match", "nearest"),
            [
                (one["matrix"], one["index"], one["sigma_before"], one["sigma"], match, one["nearest"])
                for match, one in worst
            ],
        )
        say(f"Median match of the directions: {report['median_match']:.3f} of 1")
    if report["out"] is not None:
        say(f"Mask: {report['out']}")
