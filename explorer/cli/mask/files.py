"""`mask show` and `mask diff`: what mask files say; no model is needed."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.cli import options
from explorer.cli.console import notice, say, show_json, show_table
from explorer.cli.mask.reports import (
    DiffReport,
    MaskEntry,
    MatrixOverlap,
    OverlapEntry,
    RemovedEntry,
    ShowReport,
    VersionEntry,
)

if TYPE_CHECKING:
    from explorer.masks.mask import Mask
    from explorer.masks.sets import Overlap

MaskFile = Annotated[Path, typer.Argument(help="Mask file.", show_default=False)]
SHORT = 15  # letters of a digest that people compare


def show(file: MaskFile, json: options.Json = False) -> None:
    """Show what a mask file removes, of which model, and how it was found.

    Example: `eigenprune mask show mult.mask.json`
    """
    from explorer.masks.mask import load_mask

    mask = load_mask(file)
    report: ShowReport = {
        **entry(file, mask),
        "revision": mask.model.revision,
        "matrices": _matrices(mask),
        "layers": _counted(f"L{key.layer}" for key in _keys(mask)),
        "kinds": _counted(str(key.kind) for key in _keys(mask)),
        "provenance": mask.provenance.model_dump(mode="json"),
        "metrics": mask.metrics,
        "versions": _differing(mask.provenance.versions),
    }
    if json:
        return show_json(report)
    _show(report, mask.state)


def diff(first: MaskFile, second: MaskFile, json: options.Json = False) -> None:
    """Count the values that two masks of one model share. Frozen means and gains play no part.

    Example: `eigenprune mask diff one.mask.json other.mask.json`
    """
    from explorer.masks.mask import load_mask
    from explorer.masks.sets import Overlap, overlaps

    a, b = load_mask(first), load_mask(second)
    found = overlaps(a, b)
    matrices: list[MatrixOverlap] = [{"matrix": str(key), **_overlap(one)} for key, one in found.items()]
    report: DiffReport = {
        "first": entry(first, a),
        "second": entry(second, b),
        **_overlap(sum(found.values(), Overlap(0, 0, 0))),
        "matrices": matrices,
    }
    if a.mode != b.mode:
        notice(f"The first mask removes by {a.mode}, the second by {b.mode}.")
    if a.gain != b.gain:
        notice(f"The values of the first mask are {a.state}, those of the second {b.state}.")
    if json:
        return show_json(report)
    rows = [(one["matrix"], one["only_first"], one["only_second"], one["both"]) for one in matrices]
    if rows:
        show_table("Values", ("matrix", "only in the first", "only in the second", "in both"), rows)
    say(
        f"Only in {plain(first)}: {report['only_first']:,}; only in {plain(second)}: {report['only_second']:,}; "
        f"in both: {report['both']:,}; Jaccard index {report['jaccard']:.3f}"
    )


def entry(file: Path, mask: Mask) -> MaskEntry:
    """A mask file's part of a report."""
    return {
        "file": str(file),
        "mask_digest": mask.digest,
        "source": mask.model.source,
        "model_digest": mask.model.digest,
        "basis": mask.model.basis,
        "dtype": mask.model.dtype,
        "mode": mask.mode,
        "gain": mask.gain,
        "removed": len(mask),
    }


def plain(value: object) -> str:
    """Text from a file as one line that cannot steer the terminal."""
    return "".join(letter if letter.isprintable() else "�" for letter in str(value))


def _keys(mask: Mask) -> list[Any]:
    return [key for key, removed in mask.by_matrix.items() for _ in removed]


def _counted(names: Any) -> dict[str, int]:
    return dict(Counter(names))


def _matrices(mask: Mask) -> list[RemovedEntry]:
    return [
        {
            "matrix": str(key),
            "layer": key.layer,
            "kind": str(key.kind),
            "removed": len(removed),
            "indices": [one.index for one in removed],
            "sigma": [one.sigma for one in removed],
            "c": [one.c for one in removed],
        }
        for key, removed in mask.by_matrix.items()
    ]


def _differing(versions: dict[str, str]) -> list[VersionEntry]:
    """Packages whose version here is another one."""
    found: list[VersionEntry] = []
    for package, made_with in versions.items():
        try:
            here = version(package)
        except (PackageNotFoundError, ValueError):  # a name that no package can have
            here = None
        if here != made_with:
            found.append({"package": package, "made_with": made_with, "here": here})
    return found


def _overlap(one: Overlap) -> OverlapEntry:
    return {
        "only_first": one.only_first,
        "only_second": one.only_second,
        "both": one.both,
        "jaccard": one.jaccard,
    }


def _show(report: ShowReport, state: str) -> None:
    rows = [(one["matrix"], one["removed"], _runs(one["indices"])) for one in report["matrices"]]
    if rows:
        show_table(f"{report['removed']:,} {state} ({report['mode']})", ("matrix", "values", "indices"), rows)
    else:
        say(f"Nothing is removed ({report['mode']}).")
    if report["gain"]:
        say(f"Gain: {report['gain']!r}")
    for name in ("layers", "kinds"):
        if counts := report[name]:
            say(f"{name.capitalize()}: " + ", ".join(f"{one} {count:,}" for one, count in counts.items()))
    made = "" if report["dtype"] is None else f", made in {report['dtype']}"
    revision = "" if report["revision"] is None else f" at {report['revision']}"
    say(plain(f"Model: {report['source']}{revision}, {report['basis']}{made}, {report['model_digest']}"))
    say(f"Mask digest: {report['mask_digest']}")
    for name, value in {**report["provenance"], **report["metrics"]}.items():
        if name not in ("versions", "derived") and value not in (None, {}, []):
            say(plain(f"{name}: {value}"))
    if derived := report["provenance"]["derived"]:
        say(plain(_origin(derived)))
    for one in report["versions"]:
        here = "it is not here" if one["here"] is None else f"here is {one['here']}"
        say(plain(f"Made with {one['package']} {one['made_with']}; {here}."))


def _origin(derived: dict[str, Any]) -> str:
    """Which masks it was made from, as one line."""
    masks = ", ".join(f"{digest[:SHORT]}..." for digest in derived["masks"])
    model = "" if derived["model"] is None else f" of model {derived['model'][:SHORT]}..."
    means = "" if derived["means"] is None else f"; frozen means from {derived['means']}"
    return f"Made by {derived['how']} from {masks}{model}{means}"


def _runs(indices: list[int]) -> str:
    """Ascending indices such as `0, 3-5`."""
    pieces: list[list[int]] = []
    for index in indices:
        if pieces and index == pieces[-1][-1] + 1:
            pieces[-1].append(index)
        else:
            pieces.append([index])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in pieces)
