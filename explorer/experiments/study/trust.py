"""How well predictions agree with exact effects: of the lowest, in rank, in sign, by size, and together.

What counts for a mask are the values that it would take, those with the lowest predictions; rank correlation over all
is mostly about effects near zero.

Effects smaller than RESOLUTION are rounding noise of a float32 forward pass and do not count for the sign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

RESOLUTION = 1e-5  # nats per example
SIGN_TARGET = 0.95
MIN_IN_RANGE = 20  # values that a reliable range must hold
LOWEST = (1, 4, 16, 64)
SIZES = (0.0, 1e-3, 1e-2, 1e-1, 1.0, math.inf)


@dataclass(frozen=True)
class SizeError:
    """Errors of the predictions whose absolute value lies in [low, high) nats.

    Attributes:
        median_error: median of |predicted - exact|, nats per example.
        sign_agreement: share of clear effects whose sign was predicted; NaN if none is clear.
    """

    low: float
    high: float
    n: int
    median_error: float
    sign_agreement: float


@dataclass(frozen=True)
class LowestTrust:
    """The `count` values with the lowest predictions, which a mask would take, against those with the lowest effects.

    Attributes:
        precision: share of them that are among the `count` lowest exact effects.
        regret: how much higher their mean exact effect is than that of the `count` lowest, nats per example and value.
        predicted: mean prediction; NaN for a scorer that does not predict nats.
        exact: mean exact effect, nats per example.
        calibration: exact over predicted, 1 where predictions are right on average; NaN where there are none or they
            are 0.
    """

    count: int
    precision: float
    regret: float
    predicted: float
    exact: float
    calibration: float


@dataclass(frozen=True)
class Trust:
    """Agreement of predictions with the exact effects of the same values.

    Attributes:
        lowest: of the 1, 4, 16 and 64 lowest predictions, as far as there are more values than that.
        spearman: rank correlation; NaN if either side is constant.
        pearson: linear correlation; NaN, too, for a scorer that does not predict nats.
        sign_agreement: share of clear effects (above RESOLUTION) whose sign was predicted.
        reliable_range: largest size of a prediction, in nats, up to which at least 95 % of the signs are right; 0 if
            there is none with at least 20 values, NaN for a scorer that does not predict nats.
        errors: by size of the prediction; empty for a scorer that does not predict nats.
    """

    n: int
    lowest: tuple[LowestTrust, ...]
    spearman: float
    pearson: float
    sign_agreement: float
    reliable_range: float
    errors: tuple[SizeError, ...]


def trust(predicted: Sequence[float], exact: Sequence[float], *, nats: bool = True) -> Trust:
    """Compare predictions with exact effects, value by value; `nats` says whether the scorer predicts nats.

    Values without a finite prediction or effect are left out, and do not count in `n`.
    """
    x, y = np.asarray(predicted, dtype=float), np.asarray(exact, dtype=float)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    varied = len(x) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0
    clear, right = np.abs(y) > RESOLUTION, np.sign(x) == np.sign(y)
    return Trust(
        n=len(x),
        lowest=tuple(_lowest(x, y, count, nats=nats) for count in LOWEST if count < len(x)),
        spearman=float(stats.spearmanr(x, y).statistic) if varied else math.nan,
        pearson=float(stats.pearsonr(x, y).statistic) if varied and nats else math.nan,
        sign_agreement=_share(right[clear]),
        reliable_range=_reliable_range(np.abs(x[clear]), right[clear]) if nats else math.nan,
        errors=tuple(_error(x, y, low, high=high) for low, high in pairwise(SIZES)) if nats else (),
    )


@dataclass(frozen=True)
class JointPoint:
    """The lowest `count` values removed together; nats per example."""

    count: int
    predicted: float
    exact: float


@dataclass(frozen=True)
class JointTrust:
    """The sum of the lowest scores against the exact effect of removing those values together.

    Attributes:
        sign_until: largest measured count up to which the prediction always has the right sign; 0 if none.
        half_until: largest measured count up to which, besides, the exact effect is at least half the prediction.
    """

    points: tuple[JointPoint, ...]
    sign_until: int
    half_until: int


def joint_trust(points: Sequence[JointPoint]) -> JointTrust:
    """Summarise points of growing count."""
    sign, half = True, True
    sign_until = half_until = 0
    for point in points:
        sign = sign and point.predicted * point.exact > 0
        half = half and sign and abs(point.exact) >= abs(point.predicted) / 2
        sign_until = point.count if sign else sign_until
        half_until = point.count if half else half_until
    return JointTrust(tuple(points), sign_until, half_until)


def _lowest(x: np.ndarray, y: np.ndarray, count: int, *, nats: bool) -> LowestTrust:
    chosen, best = y[np.argsort(x, kind="stable")[:count]], np.sort(y)[:count]
    predicted = float(np.sort(x)[:count].mean()) if nats else math.nan
    exact = float(chosen.mean())
    return LowestTrust(
        count=count,
        precision=float((chosen <= best[-1]).mean()),
        regret=exact - float(best.mean()),
        predicted=predicted,
        exact=exact,
        calibration=exact / predicted if predicted else math.nan,
    )


def _reliable_range(sizes: np.ndarray, right: np.ndarray) -> float:
    order = np.argsort(sizes, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(share >= SIGN_TARGET)
    good = good[good >= MIN_IN_RANGE - 1]
    return float(sizes[order][good[-1]]) if len(good) else 0.0


def _error(x: np.ndarray, y: np.ndarray, low: float, high: float) -> SizeError:
    inside = (np.abs(x) >= low) & (np.abs(x) < high)
    x, y = x[inside], y[inside]
    clear = np.abs(y) > RESOLUTION
    return SizeError(
        low=low,
        high=high,
        n=len(x),
        median_error=float(np.median(np.abs(x - y))) if len(x) else math.nan,
        sign_agreement=_share((np.sign(x) == np.sign(y))[clear]),
    )


def _share(right: np.ndarray) -> float:
    return float(right.mean()) if len(right) else math.nan
