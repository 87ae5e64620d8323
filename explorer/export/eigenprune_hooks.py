"""Puts a pruning of singular values onto a model that is in memory: `undo = apply(model)`; `undo()` takes it off.

`model` is the unpruned model as transformers loads it, or a TransformerLens bridge of it with its weights as they are.
Reads `edit.safetensors` beside this file: for each edited matrix `y = x @ W + b` a change `x @ left @ right + bias`.
Needs torch and safetensors only. Made by eigenprune-explorer, Apache-2.0.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn


def apply(model: nn.Module) -> Callable[[], None]:
    """Hook the change into the model; the weights stay as they are. Returns a function that undoes it."""
    with safe_open(Path(__file__).with_name("edit.safetensors"), framework="pt") as file:
        places = json.loads(file.metadata()["places"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
    where = "bridge" if hasattr(model, "original_model") else "module"
    handles = []
    for matrix, place in places.items():
        own = {name.split("/")[1]: one for name, one in tensors.items() if name.startswith(f"{matrix}/")}
        if where == "bridge":
            own.pop("columns", None)  # a bridge has a module for each matrix
        handles.append(model.get_submodule(place[where]).register_forward_hook(_Change(own)))

    def undo() -> None:
        for handle in handles:
            handle.remove()

    return undo


class _Change:
    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        own = self.tensors = {name: one.to(output.device) for name, one in self.tensors.items()}
        added = inputs[0].to(own["left"].dtype) @ own["left"] @ own["right"]
        if "bias" in own:
            added = added + own["bias"]
        if "columns" not in own:
            return output.add(added.to(output.dtype))
        changed = output.clone()
        changed[..., own["columns"]] += added.to(output.dtype)
        return changed
