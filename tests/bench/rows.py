"""Rows about scores, decompositions and views; those about exact effects are in `tests.bench.exact_effect`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from explorer.core.keys import MatrixKey
from explorer.measure.batches import batches
from explorer.models.matrices import kinds, matrices, read_base, shape
from explorer.spectra.cache import SvdCache
from tests.bench.subjects import Subject, plain_pass
from tests.bench.timing import Row, figures, paired, row, seconds

VIEW_SECONDS, VIEW_MEGABYTES = 0.2, 10.0
SAMPLE = 6  # values per kind that the slow loop is timed on


def score_rows(subject: Subject, runs: int) -> list[Row]:
    """Time of all scores of all matrices, and the factor of the slow per-value loop."""
    subject.svds.get_many(subject.view, subject.keys)

    def plain() -> None:
        for batch in subject.batches:
            plain_pass(subject.plain, batch, backward=True)

    scores = paired(subject.score, plain, runs, subject.device)
    ours, passes = scores["ours_s"], scores["reference_s"]
    assert isinstance(ours, float)
    assert isinstance(passes, float)
    slow = passes + loop_seconds(subject)
    what = f"all scores of all matrices, {len(subject.batches)} batches"
    split = subject.task.split("train", subject.examples)
    cutting = seconds(lambda: batches(subject.view, subject.task, split), subject.device)
    note = f"{SAMPLE} values per kind timed, the rest extrapolated, plus one plain forward + backward"
    return [
        row(what, "plain forward + backward", scores, 1.10, f"{cutting:.3f} s of ours are tokenisation"),
        row("slow per-value loop over all kinds (factor)", "our scores", figures([(slow, ours)], "s"), None, note),
    ]


def loop_seconds(subject: Subject) -> float:
    """Time of scoring one value after the other, token by token, as the released code does: sampled, extrapolated.

    For each value and batch it forms the value's part of the output, s_i ((x - m) . u_i) v_i, at every token and
    multiplies it with the gradient there; x, m and g have the real shapes and random entries.
    """
    total = 0.0
    for kind in kinds(subject.view):
        keys = matrices(subject.view, [kind])
        total += loop_seconds_per_value(subject, keys[0]) * sum(min(shape(subject.view, key)) for key in keys)
    return total


def loop_seconds_per_value(subject: Subject, key: MatrixKey) -> float:
    """Seconds for one value of a matrix over all batches."""
    d_in, d_out = shape(subject.view, key)
    decomposition = subject.svds.get(subject.view, key)
    u, s, vh = (t.to(subject.device, torch.float32) for t in (decomposition.u, decomposition.s, decomposition.vh))
    m = torch.randn(d_in, device=subject.device)
    data = [
        (torch.randn(*b.tokens.shape, d_in, device=m.device), torch.randn(*b.tokens.shape, d_out, device=m.device))
        for b in subject.batches
    ]

    def loop() -> None:
        for i in range(count):
            for x, g in data:
                _effect(x - m, u[:, i], s[i], vh[i], g)

    count = min(SAMPLE, len(s))
    loop()
    return seconds(loop, subject.device) / count


def _effect(x: Tensor, u: Tensor, s: Tensor, v: Tensor, g: Tensor) -> Tensor:
    return -((s * (x @ u))[..., None] * v * g).sum()


def memory_row(subject: Subject) -> Row:
    """Peak memory of a process that scores, against one that runs plain forward + backward, from a warm cache."""
    megabytes = (peak("score", subject), peak("plain", subject))
    note = "resident, mapped decompositions among it" if subject.device == "cpu" else "allocated on the device"
    return row("peak memory of all scores", "plain forward + backward", figures([megabytes], "mb"), 1.15, note)


def peak(what: str, subject: Subject) -> float:
    """Megabytes, measured in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.subjects", what, subject.name, str(subject.examples), subject.device]
    done = subprocess.run([*command, str(subject.folder)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def svd_rows(subject: Subject, runs: int) -> list[Row]:
    """Cold decompositions of all matrices, saving included, against LAPACK in float32; warm ones against cold."""
    cold_pairs, warm_pairs = [], []
    weights = [read_base(subject.view, key).float() for key in subject.keys]
    torch.linalg.svd(weights[0], full_matrices=False)
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)

            def all_of_them(folder: Path = folder) -> None:
                SvdCache(folder).get_many(subject.view, subject.keys)

            reference = seconds(lambda: [torch.linalg.svd(W, full_matrices=False) for W in weights], subject.device)
            cold = seconds(all_of_them, subject.device)
            cold_pairs.append((cold, reference))
            warm_pairs += [(seconds(all_of_them, subject.device), cold) for _ in range(3)]
    note = "every value read and checked"
    return [
        row("cold SVD of all matrices, saved", "torch.linalg.svd", figures(cold_pairs, "s"), 1.0),
        row("warm SVD of all matrices from the cache", "cold", figures(warm_pairs, "s"), 0.02, note),
    ]


def view_rows(subject: Subject, runs: int) -> list[Row]:
    """Time and memory of a new view, as shares of what it may take."""
    times = [(seconds(subject.model.view, subject.device), VIEW_SECONDS) for _ in range(runs + 1)]
    megabytes = (peak("view", subject), VIEW_MEGABYTES)
    return [
        row("a new view: time", f"{VIEW_SECONDS} s", figures(times[1:], "s"), 1.0),
        row("a new view: memory", f"{VIEW_MEGABYTES} MB", figures([megabytes], "mb"), 1.0),
    ]
