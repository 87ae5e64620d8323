"""Paired comparisons of two measurements on the same examples: exact McNemar test, bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE, DRAWS = 0.95, 10_000
_AT_ONCE = 1_000_000  # drawn indices held in memory


@dataclass(frozen=True)
class McNemar:
    """How many examples went from wrong to right and from right to wrong, and how likely that is by chance.

    Attributes:
        p: two-sided p-value of the exact test: under no change, a flipped example is as likely to be repaired as
            broken. 1 if none flipped.
    """

    repaired: int
    broken: int
    p: float


def mcnemar(after: Sequence[bool], before: Sequence[bool]) -> McNemar:
    """McNemar's exact test (McNemar 1947; binomial form) of a change of accuracy on the same examples."""
    pairs = list(zip(after, before, strict=True))
    repaired = sum(now and not then for now, then in pairs)
    broken = sum(then and not now for now, then in pairs)
    flipped = repaired + broken
    if not flipped:
        return McNemar(repaired, broken, 1.0)
    from scipy.stats import binomtest  # slow to import, and in most evaluations nothing flips

    return McNemar(repaired, broken, float(binomtest(repaired, flipped).pvalue))


def bootstrap_interval(
    differences: Sequence[float],
    weights: Sequence[int | float] | None = None,
    *,
    seed: int = 0,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron 1979) of the mean of paired differences.

    Args:
        differences: after - before, one per example; with `weights`, summed over what the weight counts.
        weights: how much each entry counts, such as the tokens of a window; the mean is then sum / sum of weights.
        seed: seed of the resampling, so that the same figures give the same interval.
        draws: how many resamples.
        confidence: the share of resampled means inside.

    Returns:
        The bounds; NaN for fewer than two differences, which say nothing about their spread, and if one is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        return math.nan, math.nan
    counts = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    generator = np.random.default_rng(seed)
    means = []
    step = max(1, _AT_ONCE // n)
    for start in range(0, draws, step):
        drawn = generator.integers(n, size=(min(step, draws - start), n))
        means.append(values[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)
