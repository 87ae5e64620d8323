"""`spectra --against`: the same matrices of a second model, and what changed from the first to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from explorer.cli.console import percent, show_table, working
from explorer.cli.setup import identity, open_view
from explorer.cli.spectrum_reports import Against, Angles, MatrixChange, spectrum_entry, spectrum_of
from explorer.core.keys import AnyKey

if TYPE_CHECKING:
    from explorer.models import View
    from explorer.spectra.cache import SvdCache
    from explorer.spectra.comparison import Side, SpectrumDiff


def open_other(view: View, name: str, dtype: str | None, device: str | None, keys: Sequence[AnyKey]) -> View:
    """A view of the second model in the first one's basis; refused before any work if a matrix cannot be compared."""
    from explorer.spectra.model_diff import check_both, check_shapes

    other = open_view(name, dtype, device, view.model.basis)
    for key in keys:
        check_both(view, other, key)
        check_shapes(view, other, key)
    return other


def compare_all(base: View, other: View, keys: Sequence[AnyKey], svds: SvdCache, k: int) -> Against:
    """Each matrix in both models; `k` leading singular vectors, or as many as there are."""
    from explorer.core.progress import track
    from explorer.spectra.model_diff import compare_matrix

    with working("Comparing") as progress:
        found = [_change(key, compare_matrix(base, other, key, svds), k) for key in track(keys, progress)]
    return {**identity(other), "matrices": found}


def _change(key: AnyKey, found: SpectrumDiff, k: int) -> MatrixChange:
    overlap = found.overlap(min(k, found.base.rank))
    return {
        "matrix": str(key),
        "other": spectrum_entry(key, found.other),
        "relative_change": found.relative_change.tolist(),
        "difference": spectrum_of(str(key), found.difference, *found.shape),
        "difference_size": found.size,
        "k": overlap.k,
        "left": _angles(overlap.left),
        "right": _angles(overlap.right),
        "cuts_block": overlap.cuts_block,
    }


def _angles(side: Side) -> Angles:
    return {
        "dimension": side.dimension,
        "cosines": side.cosines.tolist(),
        "similarity": side.similarity,
        "chance": side.chance.tolist(),
        "chance_similarity": side.chance_similarity,
    }


def show_comparison(found: Against, top: int) -> None:
    """What changed, in two tables for all matrices, and the singular values of each beside each other."""
    rows = [
        (
            one["matrix"],
            percent(one["difference_size"]),
            one["difference"]["spectral_norm"],
            one["difference"]["stable_rank"],
            one["difference"]["effective_rank"],
            "/".join(map(str, one["difference"]["energy_counts"])),
            one["difference"]["rank"],
        )
        for one in found["matrices"]
    ]
    columns = ("matrix", "norm,\nof W", "spectral\nnorm", "stable\nrank", "effective\nrank", "50/90/99 %\nenergy", "of")
    show_table(f"The difference W' - W, {found['model']} minus the first model", columns, rows)
    sides = [
        (
            one["matrix"],
            f"{one['k']}{' (cuts a block)' if one['cuts_block'] else ''}",
            *(f"{side['similarity']:.3f} ({side['chance_similarity']:.3f})" for side in _sides(one)),
            *(f"{side['cosines'][-1]:.3f} ({side['chance'][-1]:.3f})" for side in _sides(one)),
        )
        for one in found["matrices"]
    ]
    angles = ("matrix", "k", "mean cos²,\ninputs u", "mean cos²,\noutputs v", "smallest\ncos, u", "smallest\ncos, v")
    show_table("Overlap of the k leading singular vectors (in brackets: by chance)", angles, sides)
    for one in found["matrices"]:
        _show_values(one, top)


def _sides(one: MatrixChange) -> tuple[Angles, Angles]:
    return one["left"], one["right"]


def _show_values(one: MatrixChange, top: int) -> None:
    values, changes = one["other"]["singular_values"], one["relative_change"]
    moved = one["difference"]["singular_values"]  # more than there are values where W is a product
    rows = [
        (i, values[i], "-" if math.isnan(changes[i]) else f"{100 * changes[i]:+.2f} %", moved[i])
        for i in range(min(top, len(values)))
    ]
    if rows:
        columns = ("index", "second model", "relative change", "of the difference")
        show_table(f"{one['matrix']}: singular values", columns, rows)
