"""Speed and memory as ratios taken in one run: `make bench`, or `python -m tests.bench --model smollm2-135m`.

Each row runs ours and its reference in turn (A B A B ...) and reports the median ratio with its range and, where there
is one, the target. On a CPU, time is the process's own, so that others on the machine count little; peak memory is
that of a process of its own. The table goes to the terminal, the same as JSON to build/bench/. `--scaling` measures how
costs grow instead (`tests.bench.scaling`).
"""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from explorer.core.config import ASSETS
from explorer.core.files import write_json
from tests.bench import driver, exact_effect, gpus, harness, large, latency, opening, rows, scaling, starting
from tests.bench.subjects import DTYPES, Subject
from tests.bench.timing import Row, clock_name, verdict

OUT = Path(__file__).parents[2] / "build" / "bench"
EXAMPLES = {"bundled": 512, "smollm2-135m": 128}  # eight batches each
CLICKS = {"bundled": 100, "smollm2-135m": 20}


def measure(subject: Subject, runs: int, quick: bool) -> list[Row]:
    """All rows for one model."""
    few = 8 if quick else 32
    return [
        *rows.score_rows(subject, runs),
        rows.memory_row(subject),
        *exact_effect.measure(subject.name, runs=runs, examples=few, dtype=subject.dtype, device=subject.device),
        *rows.svd_rows(subject, 1 if quick else max(1, runs // 2)),
        *rows.view_rows(subject, runs),
        starting.load_row(subject, runs),
        opening.check_row(subject, runs),
        *gpus.measure(subject, runs),
        *opening.file_rows(runs, opening.LINES // (20 if quick else 1)),
        *([] if subject.name == "bundled" else harness.harness_rows(subject, runs)),
    ]


def environment(device: str) -> dict[str, object]:
    """What the figures were taken on."""
    cuda = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(device) if cuda else f"CPU, {platform.processor() or platform.machine()}",
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "weights": DTYPES[device.partition(":")[0]],
        "clock": clock_name(device),
    }


def table(title: str, measured: list[Row]) -> Table:
    """The rows as they are printed."""
    shown = Table("what", "against", "ratio", "range", "target", "", title=title)
    for one in measured:
        low, high = one["ratio_range"]
        target = "" if one.get("target") is None else f"{one['target']:.3f}"
        shown.add_row(
            one["what"], one["against"], f"{one['ratio']:.3f}", f"{low:.3f} to {high:.3f}", target, verdict(one)
        )
    return shown


def show(title: str, about: dict[str, object], measured: list[Row]) -> None:
    """Print the rows with their notes, and write them."""
    Console(width=150).print(table(f"{title}, {about['device']}", measured))
    for one in measured:
        if one.get("note"):
            Console(width=150).print(f"  {one['what']}: {one['note']}", highlight=False)
    listed = [{**one, "verdict": verdict(one)} for one in measured]
    name = str(about.get("model", f"large-{about['weights']}")).replace("/", "_")
    write_json(OUT / f"{name}.json", {**about, "rows": listed})


def main(
    model: Annotated[list[str] | None, typer.Option(help="Models to measure.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Counted runs of each pair.")] = 5,
    device: Annotated[str, typer.Option(help="cpu (float32 weights) or cuda (bfloat16 weights).")] = "cpu",
    quick: Annotated[bool, typer.Option(help="The bundled model only, two runs, two batches: does it work?")] = False,
    clicks: Annotated[bool, typer.Option(help="Click through the Prune page in a browser as well.")] = True,
    scale: Annotated[bool, typer.Option("--scaling", help="How costs grow with model and split.")] = False,
    size: Annotated[str | None, typer.Option("--large", help="Memory for Phi-2's shape: float32 or bfloat16.")] = None,
) -> None:
    """Measure and report."""
    about = environment(device)
    if scale:
        return scaling.report(OUT, about, device, quick=quick)
    if size is not None:
        return show(
            "Phi-2's shape",
            {**about, "weights": size},
            large.measure(size, 60 if quick else large.SEARCH_SECONDS, device),
        )
    runs = 2 if quick else runs
    for name in model or (["bundled"] if quick else list(EXAMPLES)):
        examples = EXAMPLES.get(name, 128) // (4 if quick else 1)
        with tempfile.TemporaryDirectory() as folder:
            measured = measure(Subject(name, examples, device, Path(folder)), runs, quick)
        if name == "bundled":
            measured += starting.start_rows(ASSETS / "bundled", runs)
            measured.append(driver.driver_row(16, 4) if quick else driver.driver_row())
        if clicks and device == "cpu" and name in CLICKS:
            measured += latency.measure(name, 8 if quick else CLICKS[name])
        show(f"{name}, {examples} examples, {runs} runs", {**about, "model": name, "examples": examples}, measured)


if __name__ == "__main__":
    typer.run(main)
