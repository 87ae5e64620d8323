"""`mask union`, `intersect`, `vote` and `subtract`: masks of one model combined into one; no model is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.actions.choices import refuse_unwritable
from explorer.cli import options
from explorer.cli.console import say, show_json
from explorer.cli.mask.files import MaskFile, entry, plain
from explorer.cli.mask.reports import CombineReport
from explorer.core.errors import SettingsError

if TYPE_CHECKING:
    from explorer.masks.mask import Mask

MaskFiles = Annotated[list[Path], typer.Argument(help="Two mask files or more, of one model, mode and gain.")]


def union(files: MaskFiles, out: options.MaskOut, json: options.Json = False) -> None:
    """Write a mask that removes what any of the masks removes; the first mask's frozen means win.

    Example: `eigenprune mask union one.mask.json other.mask.json --out both.mask.json`
    """
    _combine(files, 1, out, json)


def intersect(files: MaskFiles, out: options.MaskOut, json: options.Json = False) -> None:
    """Write a mask that removes what all of the masks remove, with the first mask's frozen means.

    Example: `eigenprune mask intersect one.mask.json other.mask.json --out shared.mask.json`
    """
    _combine(files, len(files), out, json)


def vote(
    files: MaskFiles,
    at_least: Annotated[int, typer.Option("--at-least", min=1, help="How many masks must remove a value.")],
    out: options.MaskOut,
    json: options.Json = False,
) -> None:
    """Write a mask that removes what at least K of the masks remove.

    A value's frozen mean is that of the first mask that removes it.

    Example: `eigenprune mask vote 1.mask.json 2.mask.json 3.mask.json --at-least 2 --out most.mask.json`
    """
    _combine(files, at_least, out, json)


def subtract(
    first: MaskFile,
    second: MaskFile,
    out: options.MaskOut,
    json: options.Json = False,
) -> None:
    """Write a mask that removes what the first mask removes and the second does not.

    Example: `eigenprune mask subtract one.mask.json other.mask.json --out rest.mask.json`
    """
    refuse_unwritable(out)
    from explorer.masks.mask import load_mask

    masks = load_mask(first), load_mask(second)
    mask = masks[0].difference(masks[1])
    mask.save(out)
    report = _report([first, second], masks, None, mask, out)
    if json:
        return show_json(report)
    _show(report, mask.state, f"in {plain(first)} but not in {plain(second)}")


def _combine(files: list[Path], at_least: int, out: Path, json: bool) -> None:
    if len(files) < 2:
        raise SettingsError(f"{len(files)} mask file was given: give two or more to combine.")
    refuse_unwritable(out)
    from explorer.masks.mask import load_mask
    from explorer.masks.sets import vote as combined

    masks = [load_mask(file) for file in files]
    mask = combined(masks, at_least)
    mask.save(out)
    report = _report(files, masks, at_least, mask, out)
    if json:
        return show_json(report)
    _show(report, mask.state, f"in at least {at_least:,} of {len(masks):,} masks")


def _report(files: Sequence[Path], masks: Sequence[Mask], at_least: int | None, mask: Mask, out: Path) -> CombineReport:
    return {
        "at_least": at_least,
        "masks": [entry(file, one) for file, one in zip(files, masks, strict=True)],
        "mask": entry(out, mask),
        "out": str(out),
    }


def _show(report: CombineReport, state: str, what: str) -> None:
    for one in report["masks"]:
        say(f"{plain(one['file'])}: {one['removed']:,} {state}")
    say(f"{plain(report['out'])}: {report['mask']['removed']:,} {state}, {what}")
