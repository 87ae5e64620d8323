"""The message from Python to the browser.

Arrays travel as base64 of little-endian bytes, each under the digest of its bytes, and only if the browser has
not yet said that it holds that digest: after a click only a few hundred bytes go out, whatever the plot's size.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explorer.ui.components.spectrum_chart.series import Series


def held_by_browser(raw: object) -> frozenset[str]:
    """Digests that the browser's last message says it holds; empty if it says nothing usable."""
    have = raw.get("have") if isinstance(raw, dict) else None
    return frozenset(d for d in have if isinstance(d, str)) if isinstance(have, list) else frozenset()


def describe(series: Sequence[Series], held: frozenset[str]) -> dict[str, object]:
    """Return ``{"arrays": {digest: base64}, "series": [...]}`` for the browser.

    Args:
        series: what to show.
        held: digests that need not be sent again.
    """
    arrays: dict[str, str] = {}

    def add(values: NDArray[np.generic]) -> str:
        data = values.tobytes()
        digest = hashlib.blake2b(data, digest_size=12).hexdigest()
        if digest not in held:
            arrays[digest] = base64.b64encode(data).decode()
        return digest

    described = [
        {
            "matrix": one.matrix,
            "n": int(one.s.size),
            "s": add(one.s.astype("<f4")),
            "score": None if one.score is None else add(one.score.astype("<f4")),
            "blocks": add(_block_numbers(one)) if one.blocks else None,
            "null_from": one.null_from,
            "edge": one.edge,
            "removed": _bits(one),
            "uncertain": sorted(one.uncertain),
            "labels": {str(index): text for index, text in sorted(one.labels.items())},
        }
        for one in series
    ]
    return {"arrays": arrays, "series": described}


def _block_numbers(series: Series) -> NDArray[np.int32]:
    """``[r]``: 0 outside blocks, k inside the k-th block."""
    numbers = np.zeros(series.s.size, dtype="<i4")
    for number, block in enumerate(series.blocks, start=1):
        numbers[list(block)] = number
    return numbers


def _bits(series: Series) -> str:
    """The removed indices as a bit field, lowest index in the lowest bit."""
    flags = np.zeros(series.s.size, dtype=bool)
    flags[list(series.removed)] = True
    return base64.b64encode(np.packbits(flags, bitorder="little").tobytes()).decode()
