"""Fields of config.json that are refused by name, before a library that would believe them builds anything."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from explorer.core.errors import ModelError
from explorer.models.files import ModelFiles

_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_COUNTS = (
    *_LAYERS,
    *("num_attention_heads", "n_head", "num_heads", "num_key_value_heads", "num_kv_heads", "head_dim"),
    *("hidden_size", "n_embd", "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "word_embed_proj_dim"),
    *("vocab_size", "max_position_embeddings", "n_positions", "n_ctx", "rotary_dim"),
)
_LABELS, _MOST_LABELS = "num_labels", 1_000_000
_POSITIVE = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "rope_theta", "rotary_emb_base")
_MOST = 2**31 - 1
_MOST_LAYERS = 1000  # what is believed of a model whose weights are not there to say it
_ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
_OWN_ATTENTION = ("eager", "sdpa")
# Fields by which transformers would read or run something else than this config.json and the weights beside it.
_ELSEWHERE = ("configuration_files", "fusion_config", "distributed_config")
_LAYER = re.compile(r"\.(\d{1,9})\.")


def check_fields(name: str, files: ModelFiles) -> None:
    """Refuse, by its name, a field whose value no model has.

    Args:
        name: the model's name, for the message.
        files: its files.

    Raises:
        ModelError: a count that is no whole number of 1 or more, more layers than are stored, a number that is not
            finite, an attention that needs a package of its own, a field that points elsewhere.
    """
    fields = files.fields
    for path, value in _numbers(fields, ""):
        if isinstance(value, float) and not math.isfinite(value):
            _refuse(name, path, value, expected="a finite number")
    for field in _COUNTS:
        value = fields.get(field)
        if value is not None and (type(value) is not int or not 1 <= value <= _MOST):
            _refuse(name, field, value, expected="a whole number of 1 or more")
        if field in _LAYERS and value is not None:
            check_layers(name, files, field, layers=value)
    for field in _POSITIVE:
        value = fields.get(field)
        if value is not None and (type(value) not in (int, float) or value < 0):
            _refuse(name, field, value, expected="a number of 0 or more")
    for field in _ATTENTION:
        value = fields.get(field)
        if value is not None and value not in _OWN_ATTENTION:
            _refuse(name, field, value, expected=f"{' or '.join(_OWN_ATTENTION)}, or that it is left out")
    for field in _ELSEWHERE:
        if fields.get(field) is not None:
            _refuse(name, field, fields[field], expected="that it is left out: all of a model stands in its own folder")
    _check_repeats(name, files)
    _check_rotated(name, files)
    _check_labels(name, files)


def check_layers(name: str, files: ModelFiles, field: str, layers: int) -> None:
    """Refuse a configuration of more layers than are stored; raises ModelError."""
    stored = 1 + max((int(found[1]) for found in map(_LAYER.search, files.tensors) if found), default=-1)
    if not files.tensors and layers <= _MOST_LAYERS:
        return
    if layers > stored:
        raise ModelError(
            f"{name} has {layers:,} layers by {field} in config.json, but its weights hold {stored:,}, so it lacks "
            "some of its weights: check that its files belong together."
        )


def _check_repeats(name: str, files: ModelFiles) -> None:
    """GPT-Neo's `attention_types` says how often a pattern is repeated; the library writes all of it out."""
    value = files.fields.get("attention_types")
    if value is None:
        return
    try:
        total = sum(len(kinds) * times for kinds, times in value)
    except (TypeError, ValueError):
        total = -1
    if type(total) is not int or not 1 <= total <= (len(files.tensors) or _MOST_LAYERS):
        _refuse(name, "attention_types", value, expected="one pattern or several, of as many layers as there are")


def _check_rotated(name: str, files: ModelFiles) -> None:
    """GPT-J turns the first coordinates of each head, in pairs."""
    if files.fields.get("model_type") != "gptj" or not {"n_embd", "n_head", "rotary_dim"} <= set(files.fields):
        return
    width, turned = files.fields["n_embd"] // files.fields["n_head"], files.fields["rotary_dim"]
    if turned is not None and (turned % 2 or turned > width):
        _refuse(name, "rotary_dim", turned, expected=f"an even number of at most {width}, the width of a head")


def _check_labels(name: str, files: ModelFiles) -> None:
    """The library makes up a name for each label, though a language model has none."""
    labels = files.fields.get(_LABELS)
    if labels is not None and (type(labels) is not int or not 0 <= labels <= _MOST_LABELS):
        _refuse(name, _LABELS, labels, expected=f"a whole number of at most {_MOST_LABELS:,}")


def _numbers(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every number in a JSON value, with the name of its field."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, path)
    elif isinstance(value, int | float):
        yield path, value


def _refuse(name: str, field: str, value: Any, expected: str) -> None:
    shown = repr(value)
    raise ModelError(
        f"{name} has a config.json that transformers cannot use: {field[:60]} is "
        f"{shown[:40] + ('...' if len(shown) > 40 else '')}; expected {expected}."
    )
