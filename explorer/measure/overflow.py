"""Where a loss that is not finite comes from: the example, and the first part of the model whose output is not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from explorer.core import finite
from explorer.core.errors import NotFiniteError
from explorer.measure.batches import Batch, answer_logits, batches
from explorer.measure.metrics import run_all
from explorer.models import View
from explorer.tasks import Example, Task

_SHOWN = 40  # characters of a prompt


def origin(view: View, task: Task, example: Example) -> str | None:
    """The first module whose output is not finite on an example, such as `layer 3, mlp.c_proj`; None if all are.

    The view is run as it is now.
    """
    found: list[str] = []

    def look(module: Any, args: Any, output: Any, name: str) -> None:
        tensor = output[0] if isinstance(output, tuple) and output else output
        if not found and isinstance(tensor, Tensor) and tensor.is_floating_point() and not _all_finite(tensor):
            found.append(name)

    model = view.bridge.original_model
    with view.lock, torch.inference_mode():
        given = batches(view, task, [example])
        handles = [part.register_forward_hook(partial(look, name=name)) for name, part in model.named_modules() if name]
        try:
            answer_logits(view, given[0])
        finally:
            for handle in handles:
                handle.remove()
    return _named(found[0]) if found else None


def sentence(view: View, task: Task, examples: Sequence[Example], losses: Sequence[float], what: str) -> str | None:
    """How many losses are not finite, the first example, and where it begins; None if all are finite.

    Args:
        view: as it was when the losses were measured.
        task: of the examples.
        examples: the examples.
        losses: of the examples, nats.
        what: which examples they are, such as `train`.
    """
    bad = finite.places(losses)
    if not bad:
        return None
    first = examples[bad[0]]
    prompt = first.prompt if len(first.prompt) <= _SHOWN else f"...{first.prompt[-_SHOWN:]}"
    where = origin(view, task, first)
    begins = "" if where is None else f", and the first number that is not finite is what {where} gives"
    kind = str(next(view.bridge.original_model.parameters()).dtype).removeprefix("torch.")
    return (
        f"the loss of {len(bad):,} of {len(losses):,} {what} examples is not finite in {kind}: the first is example "
        f"{bad[0]} ({prompt!r}){begins}"
    )


def check_losses(view: View, task: Task, examples: Sequence[Example], losses: Sequence[float], what: str) -> None:
    """Raise NotFiniteError, with `sentence`, unless every loss is finite."""
    said = sentence(view, task, examples, losses=losses, what=what)
    if said is not None:
        raise NotFiniteError(
            f"{said}; nothing can be scored or searched with them: load the model in float32 (or float64), give "
            "another mask, or leave these examples out."
        )


def check_batches(view: View, task: Task, examples: Sequence[Example], given: Sequence[Batch], what: str) -> None:
    """Run the view, as it is now, over the examples' batches and raise as `check_losses` does."""
    losses = [0.0] * len(examples)
    with torch.inference_mode():
        for batch, found in zip(given, run_all(view, given), strict=True):
            for place, loss in zip(batch.places.tolist(), found.loss.tolist(), strict=True):
                losses[place] = loss
    check_losses(view, task, examples, losses=losses, what=what)


def _all_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _named(module: str) -> str:
    """`layer 3, mlp.c_proj` from `transformer.h.3.mlp.c_proj`; the module's own name where it is of no layer."""
    plain = module.replace("._original_component", "").replace(".original_component", "")
    match = re.search(r"\.(\d+)(?:\.(.+))?$|\.(\d+)\.(.+)$", plain)
    if match is None:
        return plain
    layer, rest = (match[1], match[2]) if match[1] is not None else (match[3], match[4])
    return f"layer {layer}, {rest}" if rest else f"layer {layer}"
