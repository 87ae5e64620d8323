"""Exact effects that this process knows, whichever page had them measured: one store for all of them.

They lie beside the file of `explorer.attribution.effect_store`, which outlasts the process but may not be writable.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping

from explorer.attribution.exact import Value
from explorer.measure.metrics import Mean

PLACES = 32


class EffectsSeen:
    """Effects by place: what they were measured on (model, task, examples, mask). Old places go beyond `PLACES`."""

    def __init__(self, places: int = PLACES) -> None:
        self._places = places
        self._found: OrderedDict[Hashable, dict[Value, Mean]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, place: Hashable, effects: Mapping[Value, Mean]) -> None:
        """Remember measured effects."""
        with self._lock:
            self._found[place] = self._found.pop(place, {}) | dict(effects)
            while len(self._found) > self._places:
                self._found.popitem(last=False)

    def at(self, place: Hashable) -> dict[Value, Mean]:
        """All effects known at a place."""
        with self._lock:
            return dict(self._found.get(place, {}))
