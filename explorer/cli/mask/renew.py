"""`mask renew`: a file that identifies weights alone, saved with its model's identity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.actions.choices import refuse_unwritable
from explorer.cli import options
from explorer.cli.console import notice, say, show_json, working
from explorer.cli.mask.files import MaskFile, entry, plain
from explorer.cli.mask.reports import RenewReport
from explorer.cli.setup import identity, open_view


def renew(
    file: MaskFile,
    model: options.ModelName,
    out: Annotated[Path | None, typer.Option("--out", help="Mask file to write; the given one if not said.")] = None,
    basis: options.Basis = "raw",
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Write a mask file of before, which identifies weights alone, with its model's identity.

    Where the file says what it was scored on, its frozen means are computed again first: a model with the same weights
    but another configuration or tokenizer refuses it. A notice says where that cannot be checked.

    Example: `eigenprune mask renew old.mask.json --model bundled --out new.mask.json`
    """
    place = file if out is None else out
    refuse_unwritable(place)
    from explorer.masks.apply import check_mask
    from explorer.masks.belonging import adopted
    from explorer.masks.mask import load_mask
    from explorer.spectra.cache import default_cache

    given = load_mask(file)
    view, svds, told = open_view(model, dtype, device, basis), default_cache(notice), list[str]()
    with working("Checking the mask") as progress:
        mask = adopted(view, given, svds, told.append)
        check_mask(view, mask, svds, progress)
    for sentence in told:
        notice(sentence)
    mask.save(place)
    report: RenewReport = {
        **identity(view),
        "given": entry(file, given),
        "mask": entry(place, mask),
        "checked": not told,
        "out": str(place),
    }
    if json:
        return show_json(report)
    say(f"{plain(place)}: {len(mask):,} {mask.state}, {plain(mask.model.digest)}")
