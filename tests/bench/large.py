"""A model of Phi-2's size through the commands of a day's work: seconds and peak memory of each, in its own process.

The model has Phi-2's configuration and random weights, stored in the type that it is loaded in, as safetensors; it is
written to a temporary folder (11 GB in float32) and removed again. Each command runs as a user would run it.

Resident memory counts pages of mapped files, weights and kept decompositions among them, which the system takes back
when it needs them; anonymous memory, beside it, is what no file holds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from explorer.core.files import write_text
from tests.bench.timing import Row, figures, row
from tests.bench.words import save_random_phi2, words_task

GIGABYTES = {"float32": 16.0, "bfloat16": 9.0}
EXAMPLES, SEARCH_SECONDS = 32, 600
POLLED = 0.05  # seconds between two looks


@dataclass(frozen=True)
class Usage:
    """What a process took: wall-clock and CPU seconds, and the largest resident and anonymous memory in GB."""

    seconds: float
    cpu: float
    resident: float
    anonymous: float


def measure(dtype: str, seconds: int = SEARCH_SECONDS, device: str = "cpu") -> list[Row]:
    """One row per command."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = save_random_phi2(folder / "phi-2", getattr(torch, dtype))
        task = folder / "words.jsonl"
        lines = [json.dumps({"prompt": one.prompt, "answer": one.answer}) for one in words_task(96).train]
        write_text(task, "\n".join(lines) + "\n")
        given = ("--model", str(model), "--dtype", dtype, "--device", device, "--task", str(task))
        return [_row(what, dtype, words, given, folder) for what, words in commands(folder, seconds).items()]


def commands(folder: Path, seconds: int) -> dict[str, tuple[str, ...]]:
    """The commands by what they do, in the order in which they run."""
    some = ("--limit", str(EXAMPLES))
    kind, mask = ("--kinds", "K"), str(folder / "mask.json")
    return {
        "load and evaluate": ("eval", *some),
        "score keys": ("score", *kind, *some),
        "prune keys": ("prune", *kind, *some, "--count", "100", "--out", mask),
        "evaluate a mask": ("eval", "--mask", mask, *some),
        f"search verified --time {seconds}": (
            "search", *kind, *some, "--strategy", "verified", "--time", str(seconds), "--controls", "1",
            "--out", str(folder / "found.json"),
        ),
    }  # fmt: skip


def _row(what: str, dtype: str, words: Sequence[str], given: Sequence[str], folder: Path) -> Row:
    places = {"EIGENPRUNE_CACHE": str(folder / "cache"), "EIGENPRUNE_WORKSPACE": str(folder / "workspace")}
    command, *options = words
    used = watched([sys.executable, "-m", "explorer", command, *given, *options], places)
    allowed = GIGABYTES[dtype]
    note = f"{used.seconds:.0f} s, {used.cpu:.0f} s of CPU; {used.anonymous:.1f} GB anonymous, the rest mapped files"
    measured = figures([(used.resident, allowed)], "gb")
    return row(f"Phi-2's shape, {dtype}: {what}, peak memory", f"{allowed:g} GB", measured, 1.0, note)


def watched(command: Sequence[str], places: dict[str, str]) -> Usage:
    """Run a program to its end (Linux).

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    before, start = os.times(), time.monotonic()
    peaks = {"VmHWM": 0.0, "RssAnon": 0.0}
    with subprocess.Popen(command, env={**os.environ, **places}, stdout=subprocess.DEVNULL) as child:
        status = Path(f"/proc/{child.pid}/status")
        while child.poll() is None:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            for name in peaks.keys() & fields.keys():  # none of an ended process that was not waited for
                peaks[name] = max(peaks[name], int(fields[name].split()[0]) * 1024 / 1e9)
            time.sleep(POLLED)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Usage(time.monotonic() - start, cpu, resident=peaks["VmHWM"], anonymous=peaks["RssAnon"])
