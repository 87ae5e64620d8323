"""`matrices` and `spectra`: the weights themselves, no task needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from explorer.cli import options
from explorer.cli.console import notice, percent, say, show_json, show_table, working
from explorer.cli.reports import MatricesReport, MatrixEntry, SpectraReport, Spectrum
from explorer.cli.setup import identity, kinds_or_all, open_view
from explorer.keys import MatrixKey

if TYPE_CHECKING:
    from explorer.models import View
    from explorer.svd_cache import SvdCache


def matrices(
    model: options.ModelName,
    kinds: options.Kinds = "all",
    stacked: options.Stacked = False,
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """List the matrices of a model with their shapes, in canonical order.

    Example: `eigenprune matrices --model bundled --kinds Q,K`
    """
    chosen = kinds_or_all(kinds)
    view = open_view(model, dtype, device)
    from explorer import registry

    found = registry.matrices(view, chosen, per_head=not stacked)
    report: MatricesReport = {**identity(view), "matrices": [_entry(view, key) for key in found]}
    if json:
        return show_json(report)
    rows = [(one["matrix"], *one["shape"], one["rank"]) for one in report["matrices"]]
    show_table(f"Matrices of {model}", ("matrix", "d_in", "d_out", "singular values"), rows)


def spectra(
    model: options.ModelName,
    matrix: Annotated[
        list[str], typer.Option("--matrix", help="Such as L0.K.H1 (a head), L0.K (stacked) or L0.OUT; repeatable.")
    ],
    top: Annotated[int, typer.Option("--top", min=0, help="Values shown per matrix; --json always has all.")] = 16,
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Show the singular values of matrices, their cumulative energy and what describes the spectrum.

    Example: `eigenprune spectra --model bundled --matrix L0.K.H1 --matrix L0.Q.H1`
    """
    wanted = list(dict.fromkeys(MatrixKey.parse(text) for text in matrix))
    view = open_view(model, dtype, device)
    from explorer.progress import track
    from explorer.registry import check
    from explorer.svd_cache import default_cache

    for key in wanted:
        check(view, key)
    svds = default_cache(notice)
    with working("Decomposing") as progress:
        found = [_spectrum(view, svds, key) for key in track(wanted, progress)]
    report: SpectraReport = {**identity(view), "spectra": found}
    if json:
        return show_json(report)
    _show_summaries(model, found)
    for spectrum in found:
        _show_values(spectrum, top)


def _entry(view: View, key: MatrixKey) -> MatrixEntry:
    from explorer.registry import shape

    d_in, d_out = shape(view, key)
    return {"matrix": str(key), "shape": [d_in, d_out], "rank": min(d_in, d_out)}


def _spectrum(view: View, svds: SvdCache, key: MatrixKey) -> Spectrum:
    from explorer.svd import blocks, cumulative_energy, null_from, summarise

    entry = _entry(view, key)
    d_in, d_out = entry["shape"]
    s = svds.get(view, key).s
    summary = summarise(s, d_in, d_out)
    return {
        **entry,
        "singular_values": s.tolist(),
        "cumulative_energy": cumulative_energy(s).tolist(),
        "frobenius_norm": summary.frobenius_norm,
        "spectral_norm": summary.spectral_norm,
        "stable_rank": summary.stable_rank,
        "effective_rank": summary.effective_rank,
        "null_count": summary.null_count,
        "degenerate_blocks": [list(block) for block in blocks(s[: null_from(s, d_in, d_out)])],
    }


def _show_summaries(model: str, spectra: list[Spectrum]) -> None:
    columns = (
        "matrix",
        "r",
        "Frobenius\nnorm",
        "spectral\nnorm",
        "stable\nrank",
        "effective\nrank",
        "null",
        "blocks",
    )
    rows = [
        (
            one["matrix"],
            one["rank"],
            one["frobenius_norm"],
            one["spectral_norm"],
            one["stable_rank"],
            one["effective_rank"],
            one["null_count"],
            len(one["degenerate_blocks"]),
        )
        for one in spectra
    ]
    show_table(f"Spectra of {model}", columns, rows)


def _show_values(spectrum: Spectrum, top: int) -> None:
    block_of = {i: n for n, block in enumerate(spectrum["degenerate_blocks"], start=1) for i in block}
    values = list(zip(spectrum["singular_values"], spectrum["cumulative_energy"], strict=True))
    rows = [(i, s, percent(energy), block_of.get(i, "")) for i, (s, energy) in enumerate(values[:top])]
    if rows:
        show_table(spectrum["matrix"], ("index", "singular value", "cumulative energy", "block"), rows)
    if len(rows) < len(values):
        say(f"{len(values) - len(rows)} smaller values of {spectrum['matrix']} not shown; see --top.")
