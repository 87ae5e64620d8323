"""Rows about what opens: task files against the standard library's own reading, and the check of a loaded model."""

from __future__ import annotations

import csv
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from explorer.models.fidelity import compare, reference
from explorer.models.load import read_again
from explorer.tasks import load_task
from tests.bench.subjects import Subject
from tests.bench.timing import Row, figures, paired, row, seconds

LINES = 200_000
LINES_SECONDS = 1.0  # a task file of `LINES` lines may take so long
CHECK_SECONDS = 0.3  # and the check of SmolLM2 that comes with every load


def file_rows(runs: int, lines: int = LINES) -> list[Row]:
    """Task files of one size in both formats, against csv and json alone, and as shares of what they may take."""
    with tempfile.TemporaryDirectory() as folder:
        files = _files(Path(folder), lines)
        return [one for path, plain in files for one in _rows_of(path, plain, runs, lines)]


def _rows_of(path: Path, plain: Callable[[Path], Any], runs: int, lines: int) -> list[Row]:
    measured = paired(lambda: load_task(str(path)), lambda: plain(path), runs)
    ours, what = measured["ours_s"], f"reading a task file, {path.suffix}"
    assert isinstance(ours, float)
    share = figures([(ours, LINES_SECONDS * lines / LINES)], "s")
    return [
        row(what, "the standard library", measured, None, f"{lines:,} lines, {round(lines / ours):,} per second"),
        row(f"{what}: time", f"{LINES:,} lines per second", share, 1.0),
    ]


def check_row(subject: Subject, runs: int) -> Row:
    """The comparison with plain transformers at every load, as a share of what it may take on SmolLM2."""
    name, view = subject.name, subject.view
    plain, tokenizer = read_again(subject.model)

    def check() -> None:
        compare(view, reference(name, plain, tokenizer))

    check()
    times = [(seconds(check, subject.device), CHECK_SECONDS) for _ in range(runs)]
    return row("the check at load: time", f"{CHECK_SECONDS} s", figures(times, "s"), 1.0)


def _files(folder: Path, lines: int) -> list[tuple[Path, Callable[[Path], Any]]]:
    """The same lines as CSV and as JSON lines, each with the standard library's way of reading it."""
    draw = random.Random(0)
    rows = [(f"What is {i} plus {draw.randrange(10**6)}? The answer is", f" {i}") for i in range(lines)]
    table, listed = folder / "lines.csv", folder / "lines.jsonl"
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("prompt", "answer"), *rows])
    listed.write_text("".join(json.dumps({"prompt": p, "answer": a}) + "\n" for p, a in rows), encoding="utf-8")
    return [(table, _read_csv), (listed, _read_lines)]


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _read_lines(path: Path) -> list[Any]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
