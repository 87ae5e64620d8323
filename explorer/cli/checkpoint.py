"""`spectrum`: the spectra of a checkpoint that need not fit into memory."""

from __future__ import annotations

from typing import Annotated

import typer

from explorer.actions.choices import kinds_or_all, layers_or_all
from explorer.cli import options
from explorer.cli.console import say, show_json_line
from explorer.cli.spectrum_reports import CheckpointRow, measures
from explorer.cli.weights import tail_cells

_COLUMNS = "{:<13} {:>13} {:>10} {:>8} {:>9} {:>10} {:>14} {:>12} {:>8} {:>5} {:>4} {:>6}"
_TITLES = ("matrix", "shape", "spectral", "stable", "effective", "condition", "50/90/99 %", "exponent", "edge", "above")


def spectrum(
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", help="A folder with config.json and safetensors files, or a hub id.")
    ],
    kinds: options.Kinds = "all",
    layers: Annotated[str | None, typer.Option("--layers", help="Such as 0-3,7; all layers if not given.")] = None,
    per_head: Annotated[bool, typer.Option("--per-head", help="Split attention matrices into heads.")] = False,
    json: options.Json = False,
) -> None:
    """Describe the spectra of a checkpoint matrix by matrix, without loading the model.

    Memory stays below two matrices in float32, so a laptop can look at a large model. Rows appear as they are computed;
    with --json each is one line.

    Example: `eigenprune spectrum --checkpoint ./Llama-70B --kinds Q,K --layers 0-3`
    """
    chosen, wanted = kinds_or_all(kinds), layers_or_all(layers)
    from explorer.models import locate
    from explorer.spectra.checkpoint import Checkpoint

    opened = Checkpoint(locate(checkpoint))
    keys = opened.matrices(chosen, wanted, per_head=per_head)
    if not json:
        say(_COLUMNS.format(*_TITLES, "null", "blocks"))
    for key in keys:
        found = opened.spectrum(key)
        row: CheckpointRow = {
            "checkpoint": opened.source.name,
            "matrix": str(key),
            "shape": [found.d_in, found.d_out],
            "rank": len(found.s),
            "singular_values": found.s.tolist(),
            **measures(found.s, found.d_in, found.d_out),
        }
        if json:
            show_json_line(row)
        else:
            _show(row)


def _show(row: CheckpointRow) -> None:
    sizes = (f"{row[name]:.4g}" for name in ("spectral_norm", "stable_rank", "effective_rank"))
    say(_COLUMNS.format(row["matrix"], "x".join(map(str, row["shape"])), *sizes, *tail_cells(row)).rstrip())
