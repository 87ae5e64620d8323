"""`matrices` and `spectra`: the weights themselves, no task needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from explorer.actions.choices import kinds_or_all
from explorer.cli import options
from explorer.cli.against import compare_all, open_other, show_comparison
from explorer.cli.console import notice, percent, say, show_json, show_table, working
from explorer.cli.reports import MatricesReport, MatrixEntry
from explorer.cli.setup import identity, open_view
from explorer.cli.spectrum_reports import Measures, SpectraReport, Spectrum, spectrum_entry
from explorer.core.keys import MatrixKey, parse_key

if TYPE_CHECKING:
    from explorer.models import View


def matrices(
    model: options.ModelName,
    kinds: options.Kinds = "all",
    stacked: options.Stacked = False,
    basis: options.Basis = "raw",
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """List the matrices of a model with their shapes, in canonical order.

    Example: `eigenprune matrices --model bundled --kinds Q,K`
    """
    chosen = kinds_or_all(kinds)
    view = open_view(model, dtype, device, basis)
    from explorer.models import matrices as registry

    found = registry.matrices(view, chosen, per_head=not stacked)
    report: MatricesReport = {**identity(view), "matrices": [_entry(view, key) for key in found]}
    if json:
        return show_json(report)
    rows = [(one["matrix"], *one["shape"], one["rank"]) for one in report["matrices"]]
    show_table(f"Matrices of {model}", ("matrix", "d_in", "d_out", "singular values"), rows)


def spectra(
    model: options.ModelName,
    matrix: Annotated[
        list[str],
        typer.Option(
            "--matrix",
            help="Such as L0.K.H1 (a head), L0.K (stacked), L0.OUT, or a product L0.QK.H1, L0.OV.H1; repeatable.",
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option("--against", help="A second model, such as a fine-tune: what changed in each matrix."),
    ] = None,
    overlap: Annotated[
        int, typer.Option("--overlap", min=1, help="Leading singular vectors whose subspaces --against compares.")
    ] = 8,
    top: Annotated[int, typer.Option("--top", min=0, help="Values shown per matrix; --json always has all.")] = 16,
    basis: options.Basis = "raw",
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Show the singular values of matrices, their cumulative energy and what describes the spectrum.

    Products are read-only, without biases, positions, norms on queries and keys, and the scale 1 / sqrt(d_head).
    With --against the same of a second model, the spectrum of the difference, and how far the leading singular vectors
    span the same subspaces, beside what chance gives.

    Example: `eigenprune spectra --model bundled --matrix L0.K.H1 --matrix L0.QK.H1`
    """
    wanted = list(dict.fromkeys(parse_key(text) for text in matrix))
    view = open_view(model, dtype, device, basis)
    from explorer.core.progress import track
    from explorer.spectra.cache import default_cache
    from explorer.spectra.circuits import check_any
    from explorer.spectra.model_diff import decomposed

    for key in wanted:
        check_any(view, key)
    other = None if against is None else open_other(view, against, dtype, device, wanted)
    svds = default_cache(notice)
    with working("Decomposing") as progress:
        found = [spectrum_entry(key, decomposed(view, svds, key)) for key in track(wanted, progress)]
    compared = None if other is None else compare_all(view, other, wanted, svds, overlap)
    report: SpectraReport = {**identity(view), "spectra": found, "against": compared}
    if json:
        return show_json(report)
    _show_measures(f"{model}, {basis} basis", found)
    if compared is not None:
        _show_measures(f"{against}, {basis} basis", [one["other"] for one in compared["matrices"]])
        return show_comparison(compared, top)
    for spectrum in found:
        _show_values(spectrum, top)


def _entry(view: View, key: MatrixKey) -> MatrixEntry:
    from explorer.models.matrices import shape

    d_in, d_out = shape(view, key)
    return {"matrix": str(key), "shape": [d_in, d_out], "rank": min(d_in, d_out)}


def _show_measures(what: str, spectra: list[Spectrum]) -> None:
    """Two tables, since one would be wider than a terminal."""
    sizes = ("matrix", "r", "Frobenius\nnorm", "spectral\nnorm", "stable\nrank", "effective\nrank", "particip.\nratio")
    rows = [
        (
            one["matrix"],
            one["rank"],
            one["frobenius_norm"],
            one["spectral_norm"],
            one["stable_rank"],
            one["effective_rank"],
            one["participation_ratio"],
        )
        for one in spectra
    ]
    show_table(f"Spectra of {what}", sizes, rows)
    columns = (
        "matrix",
        "condition",
        "50/90/99 %\nenergy",
        "power-law\nexponent",
        "bulk\nedge",
        "above",
        "null",
        "blocks",
    )
    show_table("Energy, tail, random bulk", columns, [(one["matrix"], *tail_cells(one)) for one in spectra])


def tail_cells(one: Measures) -> tuple[object, ...]:
    """Condition number, energy counts, exponent, bulk edge, values above it, null values, degenerate blocks."""
    tail, edge, above = one["power_law"], one["bulk_edge"], one["above_bulk"]
    return (
        f"{one['condition_number']:.4g}",
        "/".join(map(str, one["energy_counts"])),
        "-" if tail is None else f"{tail['alpha']:.2f}±{tail['stderr']:.2f}",
        "-" if edge is None else f"{edge:.4g}",
        "-" if above is None else above,
        one["null_count"],
        len(one["degenerate_blocks"]),
    )


def _show_values(spectrum: Spectrum, top: int) -> None:
    block_of = {i: n for n, block in enumerate(spectrum["degenerate_blocks"], start=1) for i in block}
    values = list(zip(spectrum["singular_values"], spectrum["cumulative_energy"], strict=True))
    rows = [(i, s, percent(energy), block_of.get(i, "")) for i, (s, energy) in enumerate(values[:top])]
    if rows:
        show_table(spectrum["matrix"], ("index", "singular value", "cumulative energy", "block"), rows)
    if len(rows) < len(values):
        say(f"{len(values) - len(rows)} smaller values of {spectrum['matrix']} not shown; see --top.")
