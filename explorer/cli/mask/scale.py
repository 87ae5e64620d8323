"""`mask scale`: a softer mask of the same values, or the mask that removes them; no model is needed."""

from __future__ import annotations

from explorer.actions.choices import refuse_unwritable
from explorer.cli import options
from explorer.cli.console import say, show_json
from explorer.cli.mask.files import MaskFile, entry, plain
from explorer.cli.mask.reports import ScaleReport


def scale(
    file: MaskFile,
    gain: options.Gain,
    out: options.MaskOut,
    json: options.Json = False,
) -> None:
    """Write a mask that scales the values of another one to a share of themselves; 0 removes them.

    Example: `eigenprune mask scale mult.mask.json --gain 0.5 --out half.mask.json`
    """
    refuse_unwritable(out)
    from explorer.masks.mask import load_mask

    given = load_mask(file)
    mask = given.scaled(gain)
    mask.save(out)
    report: ScaleReport = {"given": entry(file, given), "mask": entry(out, mask), "out": str(out)}
    if json:
        return show_json(report)
    say(f"{plain(file)}: {len(given):,} {given.state}")
    say(f"{plain(out)}: {len(mask):,} {mask.state}")
