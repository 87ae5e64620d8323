"""A view's model in plain transformers: no hooks, the view's weights and biases, no second copy of those it shares."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from explorer.models.matrices import hf_weights
from explorer.models.model import View
from explorer.models.weights import from_state


def plain_model(view: View) -> Any:
    """The Hugging Face model that computes what the view does as it is now.

    Tensors are shared with the view and its model: whoever changes them in place changes these. A bias that the class
    has no place for, as a mask with frozen means makes, is given to its module; saving it needs more (`hf_weights`).
    """
    shared = view.bridge.original_model
    state = {name: weight.detach() for name, weight in hf_weights(view).items()}
    model = from_state(view.model.architecture, copy.deepcopy(shared.config), state, dtype=view.model.dtype)
    for name in sorted(state.keys() - model.state_dict().keys()):
        module, _, last = name.rpartition(".")
        model.get_submodule(module).register_parameter(last, nn.Parameter(state[name], requires_grad=False))
    device = torch.device(view.device)
    return model.to(device).eval().requires_grad_(False)
