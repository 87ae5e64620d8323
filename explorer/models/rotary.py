"""Rotations that depend on how long a run is: which runs turn alike, so that no example changes another's.

`longrope` takes one set of frequencies for runs of up to `original_max_position_embeddings` tokens and another one for
all positions of a longer run. An example beside a longer one, filled up to its length, would get the other set; so
would the first part of a run that is read on its own. Runs are therefore only put together, or cut in two, on one side
of the limit. (`dynamic` frequencies change beyond what a model reads, where prompts are refused.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def limits(config: Any) -> tuple[int, ...]:
    """Numbers of tokens above which a Hugging Face configuration rotates otherwise, ascending; empty for most."""
    stated = getattr(config, "rope_parameters", None) or {}
    layers = [one for one in stated.values() if isinstance(one, Mapping)] or [stated]  # one for each type of layer
    long = [one for one in layers if one.get("rope_type") == "longrope"]
    return tuple(sorted({int(one["original_max_position_embeddings"]) for one in long}))


def side(config: Any, length: int) -> int:
    """How many limits a run of `length` tokens is beyond: runs on one side rotate alike."""
    return sum(length > limit for limit in limits(config))
