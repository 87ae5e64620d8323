"""Which field of config.json transformers cannot use: the one without which it can, found by leaving out one at a time.

transformers says what went wrong (`division by zero`), seldom by which field. The type of a rotation chooses how other
fields are read, so it is set to the ordinary one instead, and tried after them: a wrong value among them comes first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

from explorer.core.errors import ModelError
from explorer.core.logs import silenced
from explorer.models.files import ModelFiles
from explorer.models.hub import reason

_KEPT = ("model_type", "architectures", "transformers_version")
_CHOOSING, _ORDINARY, _NUMBER = ("rope_type", "type"), "default", 2.0
_PATIENCE, _MOST_INSIDE = 10.0, 100  # seconds; fields inside another one, of which names of labels may be thousands
_ACTIVATION = "an activation that transformers knows, such as gelu, gelu_new, relu, silu or tanh"
_ABOVE_ZERO = "a number above 0"
_EXPECTED = {
    **dict.fromkeys(("activation_function", "activation", "hidden_act", "hidden_activation"), _ACTIVATION),
    **dict.fromkeys(("rope_theta", "factor", "original_max_position_embeddings"), _ABOVE_ZERO),
    "query_pre_attn_scalar": "a number other than 0",
    "pad_token_id": "a token of the vocabulary, or null",
    "head_dim": "an even number",
}


def config_error(
    name: str, files: ModelFiles, works: Callable[[dict[str, Any]], object], error: Exception | str
) -> ModelError:
    """What to say of a config.json that transformers cannot use, with the field that is at fault if one is.

    Args:
        name: the model's name.
        files: its files.
        works: raises, whatever it likes, for fields that cannot be used.
        error: what went wrong with all fields.
    """
    said = error if isinstance(error, str) else _words(error)
    with silenced("transformers"):  # it says much of configurations that are only tried
        path = None if _usable(works, files.fields) else culprit(files.fields, works)
    if path is None:
        return ModelError(f"{name} has a config.json that transformers cannot use ({said}).")
    value = _shown(_value(files.fields, path))
    return ModelError(
        f"{name} has a config.json that transformers cannot use: {'.'.join(path)[:80]} is {value}; expected "
        f"{_expected(path[-1])} ({said})."
    )


def culprit(fields: dict[str, Any], works: Callable[[dict[str, Any]], object]) -> tuple[str, ...] | None:
    """The names that lead to the field without which the others can be used; None if there is none such in time."""
    begun = time.monotonic()

    def late(path: tuple[str, ...]) -> int:
        return 2 * isinstance(_value(fields, path), dict) + (path[-1] in _CHOOSING)

    for path in sorted(_paths(fields, ()), key=late):
        if time.monotonic() - begun > _PATIENCE:
            return None
        if any(_usable(works, other) for other in _others(fields, path)):
            return path
    return None


def _others(fields: dict[str, Any], path: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The fields without one, or with another value in its place, as some have to be there."""
    *before, last = path
    value = _value(fields, path)
    if last not in _CHOOSING:
        changed = deepcopy(fields)
        del _value(changed, before)[last]
        yield changed
    instead = _ORDINARY if last in _CHOOSING else _NUMBER
    if before and isinstance(value, int | float | str) and value not in rotations():
        changed = deepcopy(fields)
        _value(changed, before)[last] = instead
        yield changed


def _value(fields: Any, path: Sequence[str]) -> Any:
    for key in path:
        fields = fields[key]
    return fields


def rotations() -> tuple[str, ...]:
    """The types of rotation that transformers knows."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    return (_ORDINARY, *ROPE_INIT_FUNCTIONS)


def configured(fields: dict[str, Any]) -> Any:
    """The configuration that transformers makes of some fields; raises whatever it raises."""
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[fields["model_type"]].from_dict(fields)


def _paths(fields: dict[str, Any], before: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every field, and those inside others."""
    for key, value in fields.items():
        if not before and key in _KEPT:
            continue
        yield (*before, key)
        if isinstance(value, dict) and len(value) <= _MOST_INSIDE:
            yield from _paths(value, (*before, key))


def _usable(works: Callable[[dict[str, Any]], object], fields: dict[str, Any]) -> bool:
    try:
        works(deepcopy(fields))
    except Exception:  # each configuration and class fails in its own way
        return False
    return True


def _words(error: Exception) -> str:
    """What an error says, of several lines too: transformers' validation names the field first and the fault below."""
    words = " ".join(str(error).split()).partition(" Errors:")[0]
    return words[:160] if words.startswith(("Validation error", "Class validation error")) else reason(error)


def _expected(field: str) -> str:
    if field in _CHOOSING:
        return f"one of {', '.join(rotations())}"
    return _EXPECTED.get(field, "another value, or that it is left out")


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown[:80] + ("..." if len(shown) > 80 else "")
