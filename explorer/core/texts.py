"""Numbers as people read them: shares in percent, losses in nats, each with its spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median


def percent(share: float) -> str:
    """A share such as `12.5 %`."""
    return f"{100 * share:.1f} %"


def accuracy_text(accuracy: float, interval: Sequence[float], n: int) -> str:
    """An accuracy with its interval, such as `12.5 % [6.0, 20.0] (n = 80)`."""
    low, high = (f"{100 * bound:.1f}" for bound in interval)
    return f"{percent(accuracy)} [{low}, {high}] (n = {n:,})"


def loss_text(value: float, stderr: float, *, signed: bool = False) -> str:
    """A loss with its standard error, such as `5.548 ± 0.297 nats`, or `not finite`."""
    if not math.isfinite(value):
        return "not finite"
    return f"{value:{'+' if signed else ''}.3f} ± {spread_text(stderr, 3)} nats"


def range_text(shares: Sequence[float]) -> str:
    """The median of some shares and their range, such as `12.5 % (0.0 % to 20.0 %)`."""
    return f"{percent(median(shares))} ({percent(min(shares))} to {percent(max(shares))})"


def spread_text(stderr: float, digits: int) -> str:
    """A standard error, or `unknown`, as of one example."""
    return f"{stderr:.{digits}f}" if math.isfinite(stderr) else "unknown"


def duration_text(seconds: float) -> str:
    """A time such as `40 s`, `12 min` or `9 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60:,} h {minutes % 60} min"
