"""What is measured against: plain transformers, without hooks, views or masks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from explorer.batches import Batch
from explorer.models import Model, load
from explorer.tasks import load_task


def plain_model(model: Model) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model.source.folder, dtype=torch.float32, attn_implementation="eager")


def plain_pass(plain: Any, batch: Batch, *, backward: bool) -> None:
    """One forward over a batch, unembedding the answer positions only, and one backward to all weights."""
    plain.zero_grad(set_to_none=False)
    with torch.set_grad_enabled(backward):
        logits = plain(batch.tokens, use_cache=False, logits_to_keep=batch.keep).logits[batch.rows, batch.columns]
        loss = torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum")
        if backward:
            loss.backward()


def _main(subject: str, name: str, examples: int) -> None:
    from explorer.attribution import score
    from explorer.batches import batches
    from explorer.registry import kinds, matrices
    from explorer.svd_cache import default_cache

    model, task = load(name), load_task("int-mult")
    view = model.view()
    if subject == "score":
        score(view, task, default_cache(), matrices(view, kinds(view)), limit=examples)
    else:
        prepared = batches(view, task, task.split("train", examples))
        model.bridge.original_model.requires_grad_(True)
        for batch in prepared:
            plain_pass(model.bridge.original_model, batch, backward=True)
    print(peak_megabytes())


def peak_megabytes() -> float:
    """Peak resident memory of this program (Linux); getrusage would count the process that started it as well."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kilobytes) / 1024


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
