"""Rows that only a CUDA device can give: solvers for batches of heads, and a model spread over several GPUs."""

from __future__ import annotations

from unittest.mock import patch

import torch
from rich.console import Console

from explorer.models import load, spread
from explorer.spectra.routes import gesvda, gram
from tests.bench.subjects import Subject
from tests.bench.timing import Row, figures, paired, row

HEADS, LONG, D_HEAD = 64, 4096, 128  # a layer's heads of a 7 B model
AGREEMENT = 1e-2  # of the largest score, in bfloat16


def measure(subject: Subject, runs: int) -> list[Row]:
    """All rows on CUDA, none elsewhere."""
    if not subject.device.startswith("cuda"):
        return []
    if torch.cuda.device_count() < 2:
        Console().print("A model over several GPUs was not measured: this machine has one.")
        return [solver_row(runs, subject.device)]
    return [solver_row(runs, subject.device), spread_row(subject)]


def solver_row(runs: int, device: str) -> Row:
    """The route of `explorer.spectra.routes` that is not an eigenvector problem, on heads as they are batched."""
    tall = torch.randn(HEADS, LONG, D_HEAD, dtype=torch.float64, device=device)
    measured = paired(lambda: gesvda(tall), lambda: gram(tall), runs, device)
    return row(f"gesvda of {HEADS} matrices of {LONG} x {D_HEAD}", "A^T A and eigh", measured)


def spread_row(subject: Subject) -> Row:
    """Largest difference of scores on a model over two GPUs, as a share of the largest score."""
    size = sum(one.nbytes for one in subject.model.weights().values())
    halves = spread.Accelerators("cuda", {0: int(0.7 * size), 1: int(0.7 * size)})
    with patch.object(spread, "accelerators", lambda: halves):
        model = load(subject.name, dtype=subject.dtype, device=spread.AUTO)
    scores = [subject.score(view).matrices for view in (subject.view, model.view())]
    own, other = (torch.cat([one.score.cpu() for one in found.values()]) for found in scores)
    off = float((other - own).abs().max() / own.abs().max())
    note = f"on {' and '.join(model.devices)}"
    return row(
        "scores on a spread model: difference",
        f"{AGREEMENT:g} of the largest",
        figures([(off, AGREEMENT)], "share"),
        1.0,
        note,
    )
