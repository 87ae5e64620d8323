"""Every export is read again by the program that others read it with, before it counts as made.

The view under the mask says what has to come out: log-probabilities over the whole vocabulary at every answer token of
a task's prompts. The client (`explorer.export.clients`) runs in a process of its own, in which nothing of the explorer
is loaded. The largest difference must be within `TOLERANCES` of the type: in float32 1e-4 nats, or 1e-6 of the largest
log-probability in size where that is more. A format whose client computes in ways of its own (llama.cpp) is given more,
which its `leeway` says.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from explorer.core.errors import ExportError
from explorer.export import clients
from explorer.measure.tokens import Encoded, encode_for
from explorer.models import View
from explorer.models.fidelity import TOLERANCES
from explorer.models.hub import reason
from explorer.tasks import Task

EXAMPLES = 16  # of each task
QUIET = {
    "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error",
}  # fmt: skip
Runner = Callable[[Mapping[str, Any], Path], None]


@dataclass(frozen=True)
class Verification:
    """What the client made of an export, beside what the explorer says under the mask.

    Attributes:
        client: such as `transformers 5.23.0`.
        ways: in which ways it was read, such as `loaded` and `merged`.
        prompts, positions: how many prompts, and answer tokens in them.
        difference: the largest difference of a log-probability, nats.
        limit: the largest that is allowed, nats.
        dtype: the type that both computed in.
    """

    client: str
    ways: tuple[str, ...]
    prompts: int
    positions: int
    difference: float
    limit: float
    dtype: str


@dataclass(frozen=True, eq=False)
class Probe:
    """Prompts with their answers, and what the view says at every answer token.

    Attributes:
        encoded: the prompts.
        expected: log-probabilities.
    """

    encoded: tuple[Encoded, ...]
    expected: Float[Tensor, "position vocabulary"]


def probe(view: View, tasks: Sequence[Task], split: str = "test", count: int = EXAMPLES) -> Probe:
    """The first examples of a split of each task, as the view answers them.

    Raises:
        TaskError: a split without examples, or an example that the model cannot take.
    """
    encoded = [one for task in tasks for one in encode_for(view.model, task, task.split(split)[:count])]
    found = []
    with torch.no_grad():
        for one in encoded:
            ids = torch.tensor([[*one.prompt, *one.answer[:-1]]], device=view.device)
            logits = view.logits(ids)[0, len(one.prompt) - 1 :]
            wide = torch.promote_types(logits.dtype, torch.float32)
            found.append(logits.to(wide).log_softmax(dim=-1).cpu())
    return Probe(tuple(encoded), torch.cat(found))


def another_process(job: Mapping[str, Any], file: Path) -> None:
    """Run a client in a process of its own, isolated from this one's folders and from the network.

    Raises:
        ExportError: it fails; says why.
    """
    file.write_text(json.dumps(job), encoding="utf-8")
    command = [sys.executable, "-I", "-B", "-W", "ignore", clients.__file__, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **QUIET}, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ExportError(f"{job['client']} does not read the export ({last[:200]}): nothing was written.")


def verify(
    view: View,
    folder: Path,
    wanted: Probe,
    *,
    sort: str,
    base: Path,
    client: str,
    leeway: float = 1.0,
    run: Runner = another_process,
) -> Verification:
    """Read an export with its client, and compare.

    Args:
        view: with the mask on it.
        folder: of the export.
        wanted: what it has to say.
        sort: a name of `clients.CLIENTS`.
        base: folder of the model that it is loaded onto.
        client: what it is called, with its version.
        leeway: how many times the usual limit is allowed.
        run: runs the job.

    Raises:
        ExportError: the client fails, or differs by more than the limit.
    """
    prompts = [{"ids": [*one.prompt, *one.answer[:-1]], "first": len(one.prompt) - 1} for one in wanted.encoded]
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "said.safetensors"
        job = {
            "format": sort, "folder": str(folder), "base": str(base), "dtype": view.model.dtype,
            "prompts": prompts, "vocabulary": wanted.expected.shape[1], "out": str(out), "client": client,
        }  # fmt: skip
        run(job, Path(place) / "job.json")
        try:
            said = load_file(out)
        except Exception as error:  # the file of another process
            raise ExportError(f"{client} gave no figures ({reason(error)}): try again.") from None
    absolute, relative = TOLERANCES[getattr(torch, view.model.dtype)]
    limit = leeway * max(absolute, relative * float(wanted.expected.abs().max()))
    worst = max(said, key=lambda way: _distance(said[way], wanted.expected))
    difference = _distance(said[worst], wanted.expected)
    if not difference <= limit:
        raise ExportError(
            f"{client} ({worst}) differs by {difference:.2g} nats from the pruned model, {limit:.2g} is allowed in "
            f"{view.model.dtype}: nothing was written; export another format."
        )
    return Verification(
        client, tuple(said), len(prompts), positions=len(wanted.expected), difference=difference, limit=limit,
        dtype=view.model.dtype,
    )  # fmt: skip


def _distance(said: Tensor, expected: Tensor) -> float:
    if said.shape != expected.shape:
        return math.inf
    found = float((said.double() - expected.double()).abs().max())
    return found if math.isfinite(found) else math.inf
