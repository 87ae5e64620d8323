"""Ratios taken in one run, and the slopes of measured costs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

Row = dict[str, object]
Work = Callable[[], object]


def clock_name(device: str) -> str:
    """What `seconds` counts: on a CPU that others use as well, wall clock would measure them."""
    return "wall clock, device synchronised" if device.startswith("cuda") else "CPU time of the process, all threads"


def seconds(work: Work, device: str = "cpu") -> float:
    """Time of one call on the clock of `clock_name`."""
    if not device.startswith("cuda"):
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def paired(ours: Work, reference: Work, runs: int, device: str = "cpu", scale: float = 1.0) -> Row:
    """Run both in turn (A B A B ...) after one warm-up each; the ratio is taken pair by pair.

    `scale` brings the time of ours to the unit of the reference's, where they do different amounts of work.
    """
    ours(), reference()
    return figures([(seconds(ours, device) * scale, seconds(reference, device)) for _ in range(runs)], "s")


def figures(pairs: Sequence[tuple[float, float]], unit: str) -> Row:
    """Medians of pairs (ours, reference), the median ratio and its range."""
    ratios = [ours / reference for ours, reference in pairs]
    return {
        f"ours_{unit}": statistics.median(ours for ours, _ in pairs),
        f"reference_{unit}": statistics.median(reference for _, reference in pairs),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "runs": len(pairs),
    }


def row(what: str, against: str, measured: Row, target: float | None = None, note: str = "") -> Row:
    """One line of the report; `target` is the largest ratio that passes, None for a figure that is only reported."""
    return {"what": what, "against": against, **measured, "target": target, "note": note}


def verdict(one: Row) -> str:
    """`pass` or `miss`, empty without a target."""
    target, ratio = one.get("target"), one["ratio"]
    if not isinstance(target, float) or not isinstance(ratio, float):
        return ""
    return "pass" if ratio <= target else "miss"


def slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Exponent b of y = a x^b by least squares on logarithms, and its standard error (NaN for two points)."""
    u, v = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    b, a = np.polyfit(u, v, 1)
    rest, spread = v - (a + b * u), float(((u - u.mean()) ** 2).sum())
    return float(b), math.sqrt(float(rest @ rest) / (len(u) - 2) / spread) if len(u) > 2 else math.nan


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Cost per unit and fixed cost of y = fixed + unit x, by least squares."""
    unit, fixed = np.polyfit(np.asarray(x, float), np.asarray(y, float), 1)
    return float(unit), float(fixed)
