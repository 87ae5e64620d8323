"""What is measured, and what it is measured against: plain transformers, without hooks, views or masks.

As a program it does one thing in a process of its own and prints the peak memory in megabytes:
`python -m tests.bench.subjects WHAT MODEL EXAMPLES DEVICE FOLDER`.
"""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from explorer.attribution import Scores, score
from explorer.core.keys import MatrixKey
from explorer.measure.batches import Batch, batches
from explorer.models import Model, load
from explorer.models.matrices import kinds, matrices
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task, load_task
from tests.bench.words import words_task

DTYPES = {"cpu": "float32", "cuda": "bfloat16"}


@dataclass(frozen=True, eq=False)
class Subject:
    """A model on a device with a task for it; `folder` keeps its decompositions."""

    name: str
    examples: int
    device: str
    folder: Path

    @cached_property
    def dtype(self) -> str:
        """Type of the weights."""
        return DTYPES[self.device.partition(":")[0]]

    @cached_property
    def model(self) -> Model:
        return load(self.name, dtype=self.dtype, device=self.device)

    @cached_property
    def task(self) -> Task:
        """INT-SUM, for which every tokenizer will do; random models have words of their own."""
        return words_task() if Path(self.name).is_dir() else load_task("int-sum")

    @cached_property
    def view(self) -> Any:
        return self.model.view()

    @cached_property
    def keys(self) -> tuple[MatrixKey, ...]:
        """All matrices, attention per head."""
        return matrices(self.view, kinds(self.view))

    @cached_property
    def svds(self) -> SvdCache:
        return SvdCache(self.folder)

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        return batches(self.view, self.task, self.task.split("train", self.examples))

    @cached_property
    def plain(self) -> Any:
        """The same weights in plain transformers, read from the same folder."""
        return plain_model(self.model)

    def score(self, view: Any = None) -> Scores:
        """All scores of all matrices."""
        return score(view or self.view, self.task, self.svds, self.keys, limit=self.examples)


def plain_model(model: Model) -> Any:
    """The weights of a loaded model in plain transformers, of the same type, on the same device."""
    from transformers import AutoModelForCausalLM

    weight = next(iter(model.weights().values()))
    options: dict[str, Any] = {"dtype": weight.dtype, "attn_implementation": "eager"}
    return AutoModelForCausalLM.from_pretrained(model.source.folder, **options).to(weight.device)


def plain_pass(plain: Any, batch: Batch, *, backward: bool) -> None:
    """One forward over a batch, unembedding the answer positions only, and one backward to all weights."""
    plain.zero_grad(set_to_none=False)
    with torch.set_grad_enabled(backward):
        logits = plain(batch.tokens, use_cache=False, logits_to_keep=batch.keep).logits[batch.rows, batch.columns]
        loss = torch.nn.functional.cross_entropy(logits.float(), batch.targets, reduction="sum")
        if backward:
            loss.backward()


def _plain(subject: Subject) -> None:
    prepared = subject.batches
    model = subject.model.bridge.original_model
    model.requires_grad_(True)
    for batch in prepared:
        plain_pass(model, batch, backward=True)


def _megabytes_of_views(subject: Subject, count: int = 8) -> float:
    subject.model.view()
    gc.collect()
    before = _status("VmRSS")
    views = [subject.model.view() for _ in range(count)]
    return (_status("VmRSS") - before) / len(views)


def _status(name: str) -> float:
    """A figure of this program's memory (Linux), in megabytes; getrusage would count its parent as well."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) / 1024


def _main(what: str, subject: Subject) -> float:
    if what == "view":
        return _megabytes_of_views(subject)
    if what == "score":
        subject.score()
    else:
        _plain(subject)
    return torch.cuda.max_memory_allocated() / 2**20 if subject.device.startswith("cuda") else _status("VmHWM")


if __name__ == "__main__":
    print(_main(sys.argv[1], Subject(sys.argv[2], int(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))))
