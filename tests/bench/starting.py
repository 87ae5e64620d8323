"""Rows about waiting before anything is measured: the start of a command, and loading a model.

A start is a process of its own, counted with its children. `transformers` imports the code of a model's family only
when a model of it is built; the second reference of a start has that, from_pretrained and the bridge in it, which no
program that evaluates this model through hooks can leave out.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from explorer.models import load
from tests.bench.subjects import Subject, plain_model
from tests.bench.timing import Row, figures, paired, row

START, LOAD = 1.15, 1.3
_IMPORTS = "import torch, transformers, transformer_lens"
_BRIDGE = """
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformer_lens.model_bridge import TransformerBridge
model = AutoModelForCausalLM.from_pretrained({folder!r}, attn_implementation="eager")
TransformerBridge.boot_transformers({folder!r}, hf_model=model, tokenizer=AutoTokenizer.from_pretrained({folder!r}))
"""


def start_rows(folder: Path, runs: int) -> list[Row]:
    """`eigenprune eval` of the bundled model on a task against imports alone, and against a plain script up to there.

    Args:
        folder: where the bundled model lies.
        runs: counted runs of each.
    """
    references = {
        "the bare imports": (_IMPORTS, START),
        "imports, from_pretrained, bridge": (_IMPORTS + _BRIDGE.format(folder=str(folder)), None),
    }
    ours = ["-m", "explorer", "eval", "--model", "bundled", "--task", "int-mult"]
    _processor_seconds(ours)
    taken = [
        (_processor_seconds(ours), *(_processor_seconds(["-c", script]) for script, _ in references.values()))
        for _ in range(runs)
    ]
    return [
        row("eval of the bundled model, a new process", against, figures([(t[0], t[i]) for t in taken], "s"), target)
        for i, (against, (_, target)) in enumerate(references.items(), 1)
    ]


def load_row(subject: Subject, runs: int) -> Row:
    """Loading a model, with all checks, against `from_pretrained` and the bridge around it."""

    def plain() -> Any:
        from transformer_lens.model_bridge import TransformerBridge
        from transformers import AutoTokenizer

        folder = str(subject.model.source.folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return TransformerBridge.boot_transformers(folder, hf_model=plain_model(subject.model), tokenizer=tokenizer)

    def ours() -> Any:
        return load(subject.name, device=subject.device, dtype=subject.model.dtype)

    return row(
        "loading, with all checks", "from_pretrained and bridge", paired(ours, plain, runs, subject.device), LOAD
    )


def _processor_seconds(arguments: list[str]) -> float:
    """CPU time of a Python process, its threads and children among it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
