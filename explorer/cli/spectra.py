"""`matrices`, `spectra` and `spectrum` for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from explorer.actions.spectra import (
    Against,
    Angles,
    CheckpointRow,
    ListMatrices,
    MatricesResult,
    MatrixChange,
    MatrixCourse,
    MeasuredSpectrum,
    ShowCheckpoint,
    ShowSpectra,
    SpectraResult,
    Spectrum,
    StageOverlap,
)
from explorer.cli.console import model_name, say, show_table
from explorer.core.texts import percent

_COLUMNS = "{:<13} {:>13} {:>10} {:>8} {:>9} {:>10} {:>14} {:>12} {:>8} {:>5} {:>4} {:>6}"
_TITLES = ("matrix", "shape", "spectral", "stable", "effective", "condition", "50/90/99 %", "exponent", "edge", "above")


def show_matrices(request: ListMatrices, result: MatricesResult) -> None:
    """Print the matrices."""
    rows = [(one["matrix"], *one["shape"], one["rank"]) for one in result.matrices]
    show_table(f"Matrices of {model_name(request.model.model)}", ("matrix", "d_in", "d_out", "singular values"), rows)


def show_spectra(request: ShowSpectra, result: SpectraResult) -> None:
    """Print spectra, and what changed in a second model."""
    basis = request.model.basis
    _show_measures(f"{model_name(request.model.model)}, {basis} basis", result.spectra)
    if result.against is not None:
        _show_measures(f"{request.against}, {basis} basis", [one.other for one in result.against.matrices])
        return _show_comparison(result.against, request.top)
    if result.over is not None:
        return _show_courses(result.over)
    for spectrum in result.spectra:
        _show_values(spectrum, request.top)


def show_checkpoint(request: ShowCheckpoint, rows: Iterable[CheckpointRow]) -> None:
    """Print a row per matrix."""
    for place, row in enumerate(rows):
        if not place:  # before the first row there may be a refusal
            say(_COLUMNS.format(*_TITLES, "null", "blocks"))
        sizes = (f"{value:.4g}" for value in (row.spectral_norm, row.stable_rank, row.effective_rank))
        say(_COLUMNS.format(row.matrix, "x".join(map(str, row.shape)), *sizes, *_tail_cells(row)).rstrip())


def _show_measures(what: str, spectra: Sequence[Spectrum]) -> None:
    """Two tables, since one would be wider than a terminal."""
    sizes = ("matrix", "r", "Frobenius\nnorm", "spectral\nnorm", "stable\nrank", "effective\nrank", "particip.\nratio")
    rows = [
        (
            one.matrix,
            one.rank,
            one.frobenius_norm,
            one.spectral_norm,
            one.stable_rank,
            one.effective_rank,
            one.participation_ratio,
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
    show_table("Energy, tail, random bulk", columns, [(one.matrix, *_tail_cells(one)) for one in spectra])


def _tail_cells(one: MeasuredSpectrum) -> tuple[object, ...]:
    """Condition number, energy counts, exponent, bulk edge, values above it, null values, degenerate blocks."""
    tail = one.power_law
    return (
        f"{one.condition_number:.4g}",
        "/".join(map(str, one.energy_counts)),
        "-" if tail is None else f"{tail['alpha']:.2f}±{tail['stderr']:.2f}",
        "-" if one.bulk_edge is None else f"{one.bulk_edge:.4g}",
        "-" if one.above_bulk is None else one.above_bulk,
        one.null_count,
        len(one.degenerate_blocks),
    )


def _show_values(spectrum: Spectrum, top: int) -> None:
    block_of = {i: n for n, block in enumerate(spectrum.degenerate_blocks, start=1) for i in block}
    values = list(zip(spectrum.singular_values, spectrum.cumulative_energy, strict=True))
    rows = [(i, s, percent(energy), block_of.get(i, "")) for i, (s, energy) in enumerate(values[:top])]
    if rows:
        show_table(spectrum.matrix, ("index", "singular value", "cumulative energy", "block"), rows)
    if len(rows) < len(values):
        say(f"{len(values) - len(rows)} smaller values of {spectrum.matrix} not shown; see --top.")


def _show_courses(found: Sequence[MatrixCourse]) -> None:
    """A table per matrix, one row per checkpoint."""
    columns = (
        "checkpoint", "spectral\nnorm", "Frobenius\nnorm", "stable\nrank", "effective\nrank", "as the last,\nu / v",
        "as the one\nbefore, u / v",
    )  # fmt: skip
    for one in found:
        rows = [
            (
                stage.checkpoint, stage.spectral_norm, stage.frobenius_norm, stage.stable_rank, stage.effective_rank,
                _both(stage.with_last), "-" if stage.with_previous is None else _both(stage.with_previous),
            )
            for stage in one.stages
        ]  # fmt: skip
        chance = f"{one.chance_left:.3f} / {one.chance_right:.3f}"
        show_table(
            f"{one.matrix} over training; mean cos² of the {one.k} leading directions, by chance {chance}",
            columns,
            rows,
        )


def _both(overlap: StageOverlap) -> str:
    return f"{overlap.left:.3f} / {overlap.right:.3f}"


def _show_comparison(found: Against, top: int) -> None:
    """What changed, in two tables for all matrices, and the singular values of each beside each other."""
    rows = [
        (
            one.matrix,
            percent(one.difference_size),
            one.difference.spectral_norm,
            one.difference.stable_rank,
            one.difference.effective_rank,
            "/".join(map(str, one.difference.energy_counts)),
            one.difference.rank,
        )
        for one in found.matrices
    ]
    columns = ("matrix", "norm,\nof W", "spectral\nnorm", "stable\nrank", "effective\nrank", "50/90/99 %\nenergy", "of")
    show_table(f"The difference W' - W, {found.model} minus the first model", columns, rows)
    sides = [
        (
            one.matrix,
            f"{one.k}{' (cuts a block)' if one.cuts_block else ''}",
            *(f"{side.similarity:.3f} ({side.chance_similarity:.3f})" for side in _sides(one)),
            *(f"{side.cosines[-1]:.3f} ({side.chance[-1]:.3f})" for side in _sides(one)),
        )
        for one in found.matrices
    ]
    angles = ("matrix", "k", "mean cos²,\ninputs u", "mean cos²,\noutputs v", "smallest\ncos, u", "smallest\ncos, v")
    show_table("Overlap of the k leading singular vectors (in brackets: by chance)", angles, sides)
    for one in found.matrices:
        _show_change(one, top)


def _sides(one: MatrixChange) -> tuple[Angles, Angles]:
    return one.left, one.right


def _show_change(one: MatrixChange, top: int) -> None:
    values, changes = one.other.singular_values, one.relative_change
    moved = one.difference.singular_values  # more than there are values where W is a product
    rows = [
        (i, values[i], "-" if math.isnan(changes[i]) else f"{100 * changes[i]:+.2f} %", moved[i])
        for i in range(min(top, len(values)))
    ]
    if rows:
        columns = ("index", "second model", "relative change", "of the difference")
        show_table(f"{one.matrix}: singular values", columns, rows)
