"""Shared beginnings of prompts, read once: few-shot examples in front of every prompt of a task.

1. `explorer.measure.batches` cuts examples so that those of a batch begin with the same `Batch.shared` tokens.
2. `Prefixes.read` runs the view over these tokens alone and keeps the keys and values of all layers.
3. What is left of each batch (`Batch.rest`) runs with them (`rest_logits`); each row attends to them as to its own.

Keys and values belong to one state of the view: a mask changes them. Not every family's cache must be plain: a model
whose load found that it is not (`explorer.models.fidelity`) runs whole, and the first use with a model and a length
compares one example with its whole run, since windows can be longer than what a load tries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.measure.batches import Batch, answer_logits
from explorer.models import View, expanded, read_prefix

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
    if not batch.shared or not view.model.fidelity.prefixes:
        return False
    name = (view.model.as_loaded, batch.shared)
    if name not in _AGREES:
        with torch.no_grad():
            one = batch.only(batch.places == batch.places[0])
            whole = answer_logits(view, one)
            reused = rest_logits(view, one, read_prefix(view, one.prefix))
        if not (whole.isfinite().all() and reused.isfinite().all()):
            return False  # says nothing of the model: a mask may make it overflow
        tolerance = 1e-4 if whole.dtype.itemsize >= 4 else 5e-2
        _AGREES[name] = bool((whole - reused).abs().max() <= tolerance * whole.abs().max().clamp_min(1.0))
    return _AGREES[name]


def rest_logits(view: View, batch: Batch, cache: Any) -> Float[Tensor, "answer_token vocabulary"]:
    """Logits of all answer tokens of a batch whose shared beginning is in `cache`, which stays as it is."""
    rest = batch.rest
    rows = expanded(cache, len(rest))
    return view.logits_at(rest.tokens, rest.rows, rest.positions, past_key_values=rows, use_cache=True)
