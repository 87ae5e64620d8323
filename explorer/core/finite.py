"""Numbers that are not finite: never right, never chosen, never written, and last in every order.

A loss or a score becomes infinite or not a number where a model's weights, or what a mask leaves of them, overflow the
type that they are computed in. Comparisons with such a number are false both ways, so that each place that asks for
the smallest or the largest would treat it in its own way. This module has the one rule; `explorer.measure.overflow`
says where such a number came from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def lowest_first(value: float) -> tuple[bool, float]:
    """Key of an order by loss or score: the lowest finite number first, all that is not finite last, as equals."""
    return (False, value) if math.isfinite(value) else (True, 0.0)


def below(value: float, other: float) -> bool:
    """Whether a loss is an improvement on another: it is finite, and lower or the other is not finite."""
    return lowest_first(value) < lowest_first(other)


def all_finite(values: Iterable[float]) -> bool:
    """Whether every number is finite."""
    return all(map(math.isfinite, values))


def places(values: Sequence[float]) -> tuple[int, ...]:
    """Where the numbers are that are not finite."""
    return tuple(place for place, value in enumerate(values) if not math.isfinite(value))


def exp(value: float) -> float:
    """E to the power of value; infinity beyond the largest number."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def expm1(value: float) -> float:
    """`exp` minus 1, exact for small values."""
    try:
        return math.expm1(value)
    except OverflowError:
        return math.inf


def plain(value: Any) -> Any:
    """Plain values with null (None) for the numbers that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def perplexity_text(value: float | None, loss: float | None, digits: int = 2) -> str:
    """A perplexity in words, such as `26.62`; with its logarithm where it is beyond the largest number.

    Args:
        value: the perplexity; None where JSON could not hold it.
        loss: its logarithm, nats per token; None likewise.
        digits: behind the point.
    """
    if loss is None or not math.isfinite(loss):
        return "not finite"
    return (
        f"{value:.{digits}f}"
        if value is not None and math.isfinite(value)
        else f"beyond 1e308 ({loss:.1f} nats per token)"
    )
