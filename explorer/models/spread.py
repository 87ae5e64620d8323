"""A model over several GPUs: its blocks one after the other, placed by accelerate.

`--device auto` fills one GPU after the other with whole blocks, which hand the residual stream on. One GPU holds all of
a model that fits on it, and where there is no GPU the model lies on the CPU: nothing is ever offloaded, because hooks
and edits need weights that stay where they are. What TransformerLens cannot hook on such a model it refuses when its
hooks are made.

Tokens, answers and losses lie where the embedding does; a matrix, what it reads and what it writes where its block
does. Code that brings the two together moves the smaller one: `.to(x.device)` is free where there is one device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from explorer.core.errors import ModelError
from explorer.models.hub import reason

AUTO = "auto"
FREE = 0.8  # of a GPU's free memory, for weights: the rest is for what passes hold


@dataclass(frozen=True)
class Accelerators:
    """Devices of one kind, and the bytes that weights may take on each."""

    kind: str
    memory: Mapping[int, int]

    def name(self, number: int) -> str:
        """The torch device of one of them."""
        return f"{self.kind}:{number}"


def accelerators() -> Accelerators:
    """The GPUs of this machine."""
    free = {number: torch.cuda.mem_get_info(number)[0] for number in range(torch.cuda.device_count())}
    return Accelerators("cuda", {number: int(FREE * size) for number, size in free.items()})


def place(name: str, model: Any, device: str) -> Any:
    """Move a Hugging Face model to a device, or spread it over all GPUs for `auto`; the same model.

    Raises:
        ModelError: the device, or all GPUs together, cannot hold it.
    """
    try:
        if device != AUTO:
            return model.to(device)
        placed = device_map(name, model, accelerators())
        if len(set(placed.values())) == 1:
            return model.to(next(iter(placed.values())))
        return _dispatched(model, placed)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"{name} cannot be put on device {device!r} ({reason(error)}): set another.") from None


def device_map(name: str, model: Any, found: Accelerators) -> dict[str, str]:
    """Where each part of a model goes, in the order in which they run; the CPU if there are no accelerators.

    Raises:
        ModelError: they cannot hold it.
    """
    from accelerate import infer_auto_device_map

    if not found.memory:
        return {"": "cpu"}
    size = sum(one.numel() * one.element_size() for one in (*model.parameters(), *model.buffers()))
    for number, free in found.memory.items():
        if size <= free:
            return {"": found.name(number)}
    limits: dict[int | str, int] = dict(found.memory.items())
    limits["cpu"] = size  # where what does not fit ends up
    split = infer_auto_device_map(model, limits, no_split_module_classes=sorted(model._no_split_modules or ()))
    if not all(isinstance(where, int) for where in split.values()):
        total = sum(found.memory.values())
        raise ModelError(
            f"{name} needs {size / 1e9:,.1f} GB in this type, but the {len(found.memory)} GPUs here have "
            f"{total / 1e9:,.1f} GB free for weights: choose a smaller --dtype or a smaller model, or --device cpu."
        )
    return {part: found.name(int(where)) for part, where in split.items()}


def _dispatched(model: Any, placed: dict[str, str]) -> Any:
    """The model with its parts on their devices, and hooks that hand on what they compute."""
    from accelerate import dispatch_model

    first = next(iter(placed.values()))
    return dispatch_model(model, placed, main_device=first, skip_keys=model._skip_keys_device_placement)


def devices(model: Any) -> tuple[str, ...]:
    """The devices that a Hugging Face model lies on, in the order in which its parts run."""
    placed: Mapping[str, Any] = getattr(model, "hf_device_map", None) or {"": model.device}
    return tuple(dict.fromkeys(str(one) for one in placed.values()))
