"""Speed and memory as ratios taken in one run: `make bench`, or `python -m tests.bench --model smollm2-135m`.

Each row runs ours and its reference in turn (A B A B ...) and reports the median ratio with its range. Peak memory is
that of a process of its own. The table goes to the terminal, the same as JSON to build/bench/.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from explorer.attribution import score
from explorer.batches import batches
from explorer.edit import apply, empty_mask
from explorer.files import write_json
from explorer.metrics import run
from explorer.models import load
from explorer.registry import kinds, matrices, read_base
from explorer.search import mask_of, random_count
from explorer.svd_cache import SvdCache
from explorer.tasks import load_task
from tests.bench.subjects import plain_model, plain_pass

OUT = Path(__file__).parents[2] / "build" / "bench"
Row = dict[str, object]


def paired(ours: Callable[[], object], reference: Callable[[], object], runs: int) -> dict[str, object]:
    """Run both in turn after one warm-up each; the ratio is taken pair by pair."""
    ours(), reference()
    pairs = [(seconds(ours), seconds(reference)) for _ in range(runs)]
    ratios = sorted(a / b for a, b in pairs)
    return {
        "ours_s": statistics.median(a for a, _ in pairs),
        "reference_s": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(ratios),
        "ratio_range": [ratios[0], ratios[-1]],
    }


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def time_rows(name: str, runs: int, examples: int) -> list[Row]:
    model, task = load(name), load_task("int-mult")
    view, plain = model.view(), plain_model(model)
    keys = matrices(view, kinds(view))
    with tempfile.TemporaryDirectory() as folder:
        svds = SvdCache(Path(folder), memory_bytes=1 << 32)
        cold = seconds(lambda: [svds.get(view, key) for key in keys])
        reference = seconds(
            lambda: [torch.linalg.svd(read_base(view, key).float(), full_matrices=False) for key in keys]
        )
        warm = seconds(lambda: [SvdCache(Path(folder)).get(view, key) for key in keys])
        prepared = batches(view, task, task.split("train", examples))
        scoring = paired(
            lambda: score(view, task, svds, keys, limit=examples),
            lambda: [plain_pass(plain, batch, backward=True) for batch in prepared],
            runs,
        )
        scores = score(view, task, svds, [keys[0]], limit=examples, scorer="random")
        first = mask_of(view, scores, random_count(scores, 1))

        def masked() -> None:
            apply(view, empty_mask(model), svds)
            apply(view, first, svds)
            with torch.inference_mode():
                for batch in prepared:
                    run(view, batch)

        effect = paired(masked, lambda: [plain_pass(plain, batch, backward=False) for batch in prepared], runs)
    views = paired(model.view, lambda: time.sleep(0.2), runs)
    return [
        {"what": "all scores of all matrices", "against": "plain forward + backward", **scoring},
        {"what": "exact effect of a first-layer mask", "against": "plain forward", **effect},
        {"what": "cold SVD of all matrices", "against": "torch.linalg.svd", **once(cold, reference)},
        {"what": "warm SVD from the cache", "against": "cold", **once(warm, cold)},
        {"what": "a new view", "against": "0.2 s", **views},
    ]


def once(ours: float, reference: float) -> dict[str, object]:
    ratio = ours / reference
    return {"ours_s": ours, "reference_s": reference, "ratio": ratio, "ratio_range": [ratio, ratio]}


def memory_row(name: str, examples: int) -> Row:
    """Peak resident memory of a process that scores, against one that runs plain forward + backward."""
    ours, reference = (peak(subject, name, examples) for subject in ("score", "plain"))
    ratio = ours / reference
    return {
        "what": "peak memory of all scores",
        "against": "plain forward + backward",
        "ours_mb": ours,
        "reference_mb": reference,
        "ratio": ratio,
        "ratio_range": [ratio, ratio],
    }


def peak(subject: str, name: str, examples: int) -> float:
    command = [sys.executable, "-m", "tests.bench.subjects", subject, name, str(examples)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main(
    model: Annotated[list[str] | None, typer.Option(help="Models to measure.")] = None,
    runs: Annotated[int, typer.Option(help="Counted runs of each pair.")] = 5,
    examples: Annotated[int, typer.Option(help="Train examples.")] = 128,
) -> None:
    """Measure and report."""
    report = {"machine": platform.platform(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    for name in model or ["bundled", "smollm2-135m"]:
        rows = [*time_rows(name, runs, examples), memory_row(name, examples)]
        table = Table("what", "against", "ratio", "range", title=f"{name}, {examples} examples, {runs} runs")
        for row in rows:
            low, high = row["ratio_range"]
            table.add_row(row["what"], row["against"], f"{row['ratio']:.3f}", f"{low:.3f} to {high:.3f}")
        Console().print(table)
        write_json(OUT / f"{name}.json", {**report, "model": name, "examples": examples, "rows": rows})


typer.run(main)
