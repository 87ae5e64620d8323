"""Shared beginnings of prompts, read once: few-shot examples in front of every prompt of a task.

1. `explorer.batches` cuts examples so that those of a batch begin with the same `Batch.shared` tokens.
2. `Prefixes.read` runs the view over these tokens alone and keeps the keys and values of all layers.
3. What is left of each batch (`Batch.rest`) runs with them (`rest_logits`); each row attends to them as to its own.

Keys and values belong to one state of the view: a mask changes them. Not every family's cache must be plain, so the
first use with a model and a length compares one example with its whole run; a family that does not agree runs whole.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.batches import Batch, answer_logits
from explorer.models import View

_AGREES: dict[tuple[str, int], bool] = {}


def all_logits(view: View, batches: Sequence[Batch]) -> Iterator[Float[Tensor, "answer_token vocabulary"]]:
    """`answer_logits` of each batch in turn, shared beginnings read once; the view must not change meanwhile."""
    read: dict[tuple[int, ...], Any] = {}
    for batch in batches:
        if not reusable(view, batch):
            yield answer_logits(view, batch)
            continue
        name = tuple(batch.prefix[0].tolist())
        if name not in read:
            read[name] = read_prefix(view, batch.prefix)
        yield rest_logits(view, batch, read[name])


def reusable(view: View, batch: Batch) -> bool:
    """Whether a batch has a shared beginning that this model can reuse; runs one example to find out, once."""
    if not batch.shared:
        return False
    name = (view.model.digest, batch.shared)
    if name not in _AGREES:
        with torch.no_grad():
            one = batch.only(batch.places == batch.places[0])
            whole = answer_logits(view, one)
            reused = rest_logits(view, one, read_prefix(view, one.prefix))
        tolerance = 1e-4 if whole.dtype.itemsize >= 4 else 5e-2
        _AGREES[name] = bool((whole - reused).abs().max() <= tolerance * whole.abs().max().clamp_min(1.0))
    return _AGREES[name]


def read_prefix(view: View, tokens: Int[Tensor, "copy position"]) -> Any:
    """Keys and values of all layers over a shared beginning, as a Hugging Face cache; one row per copy."""
    from transformers import DynamicCache

    cache = DynamicCache(config=view.bridge.original_model.config)
    last = torch.tensor([tokens.shape[1] - 1], device=tokens.device)
    view.logits_at(tokens, torch.zeros_like(last), last, past_key_values=cache, use_cache=True)
    return cache


def rest_logits(view: View, batch: Batch, cache: Any) -> Float[Tensor, "answer_token vocabulary"]:
    """Logits of all answer tokens of a batch whose shared beginning is in `cache`, which stays as it is."""
    rest = batch.rest
    rows = expanded(cache, len(rest))
    return view.logits_at(rest.tokens, rest.rows, rest.positions, past_key_values=rows, use_cache=True)


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
