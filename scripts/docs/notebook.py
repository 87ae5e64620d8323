"""Run the tutorial notebook, and write it as a page."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "hidden-ability.ipynb"
SEPARATOR = "\x1e"  # between what two cells print


def code_of(text: str) -> list[str]:
    """The source of each code cell."""
    return [_source(cell) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]


def printed(text: str) -> list[str]:
    """What each code cell is kept to have printed."""
    return [
        "".join(line for output in cell["outputs"] for line in output["text"])
        for cell in json.loads(text)["cells"]
        if cell["cell_type"] == "code"
    ]


def run(cells: Sequence[str]) -> list[str]:
    """What each cell prints when they are run in order, in one namespace of a program of its own.

    Raises:
        RuntimeError: a cell fails.
    """
    program = "".join(f"{cell}\nprint({SEPARATOR!r}, end='')\n" for cell in cells)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False, encoding="utf-8"
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.split(SEPARATOR)[: len(cells)]


def executed(text: str) -> str:
    """The notebook with what its cells print now."""
    found: dict[str, Any] = json.loads(text)
    code = [cell for cell in found["cells"] if cell["cell_type"] == "code"]
    for number, (cell, said) in enumerate(zip(code, run(code_of(text)), strict=True), start=1):
        cell["execution_count"] = number
        stream = {"name": "stdout", "output_type": "stream", "text": said.splitlines(keepends=True)}
        cell["outputs"] = [stream] if said else []
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def as_page(text: str) -> str:
    """The notebook in Markdown: text as it is, code and what it printed in blocks."""
    blocks = []
    for cell in json.loads(text)["cells"]:
        if cell["cell_type"] == "markdown":
            blocks.append(_source(cell))
            continue
        blocks.append(f"```python\n{_source(cell)}\n```")
        if said := "".join(line for output in cell["outputs"] for line in output["text"]):
            blocks.append(f"```text\n{said.rstrip()}\n```")
    return "\n\n".join(blocks) + "\n"


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])
