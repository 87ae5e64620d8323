"""Keys and values of a beginning that several runs share: read once, then given to each."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from explorer.models.model import View


def read_prefix(view: View, tokens: Int[Tensor, "copy position"]) -> Any:
    """Keys and values of all layers over a shared beginning, as a Hugging Face cache; one row per copy."""
    from transformers import DynamicCache

    cache = DynamicCache(config=view.bridge.original_model.config)
    nowhere = torch.tensor([], dtype=torch.long, device=tokens.device)
    view.logits_at(tokens, nowhere, nowhere, past_key_values=cache, use_cache=True)
    return cache


def expanded(cache: Any, rows: int) -> Any:
    """A cache for `rows` rows, as many of them per row of `cache`; running with it leaves `cache` as it is."""
    grown = copy.copy(cache)
    grown.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in grown.layers:
        if layer.keys is not None:
            layer.keys, layer.values = _rows(layer.keys, rows), _rows(layer.values, rows)
    return grown


def _rows(tensor: Tensor, rows: int) -> Tensor:
    if tensor.shape[0] == 1:
        return tensor.expand(rows, *tensor.shape[1:])
    return tensor.repeat_interleave(rows // tensor.shape[0], dim=0)
