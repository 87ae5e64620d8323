"""Means of examples that are not independent: those that share an answer by symmetry count as one cluster.

The standard error of a mean over G clusters is that of cluster-robust regression on a constant (Liang and Zeger 1986;
for evaluations of language models Miller 2024, arXiv 2411.00640), with the usual correction for few clusters:

    sqrt(G / (G - 1)) / n * sqrt(sum over clusters of (sum of x_i - mean over the cluster's examples)^2)

Where every cluster has one example it is the ordinary one. Intervals are percentiles of a bootstrap that draws whole
clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from explorer.measure.metrics import Mean
from explorer.measure.paired import CONFIDENCE

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]  # of means [draw, column] to one number per draw
DRAWS = 5_000


def clustered_mean(values: Sequence[float], clusters: Sequence[Hashable]) -> Mean:
    """Mean with its clustered standard error; not a number for a single cluster, or a value that is not finite.

    Args:
        values: one per example.
        clusters: which cluster each example is of.
    """
    x, n = np.asarray(values, dtype=np.float64), len(values)
    if not n or not np.isfinite(x).all():
        return Mean(math.nan, math.nan, n)
    numbers, count = _numbered(clusters)
    off = np.bincount(numbers, weights=x - x.mean(), minlength=count)
    spread = math.sqrt(float((off**2).sum()) * count / (count - 1)) / n if count > 1 else math.nan
    return Mean(float(x.mean()), spread, n)


def clustered_interval(
    columns: Sequence[Sequence[float]], clusters: Sequence[Hashable], statistic: Statistic, *, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of a statistic of several means, on draws of whole clusters.

    Args:
        columns: values of the same examples, one column per mean.
        clusters: which cluster each example is of.
        statistic: of the means; a draw for which it is not finite is left out.
        seed: of the draws.

    Returns:
        The bounds; not numbers for a single cluster, or if fewer than half of the draws are finite.
    """
    x = np.asarray(columns, dtype=np.float64).T
    numbers, count = _numbered(clusters)
    if count < 2 or not np.isfinite(x).all():
        return math.nan, math.nan
    sums = np.zeros((count, x.shape[1]))
    np.add.at(sums, numbers, x)
    sizes = np.bincount(numbers, minlength=count).astype(np.float64)
    drawn = _drawn(count, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = statistic((drawn @ sums) / (drawn @ sizes)[:, None])
    finite = found[np.isfinite(found)]
    if 2 * len(finite) < DRAWS:
        return math.nan, math.nan
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)


def equal_interval(value: float, clusters: int, bounds: tuple[float, float]) -> tuple[float, float]:
    """95 % interval of a mean where all examples have one value, which a bootstrap would give no width.

    What was not seen in so many clusters may be a share of up to 1 - 0.025^(1 / clusters) (Clopper and Pearson 1934),
    and lie at either of the bounds.
    """
    unseen = 1.0 - ((1 - CONFIDENCE) / 2) ** (1 / clusters)
    low, high = bounds
    return value - unseen * (value - low), value + unseen * (high - value)


def first_column(means: Array) -> Array:
    """The statistic of a single mean."""
    return means[:, 0]


@lru_cache(maxsize=2)
def _drawn(count: int, seed: int) -> Array:
    """How often each of so many clusters is in each draw."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(count, np.full(count, 1 / count), size=DRAWS).astype(np.float64)


def _numbered(clusters: Sequence[Hashable]) -> tuple[NDArray[np.int64], int]:
    place: dict[Hashable, int] = {}
    numbers = [place.setdefault(one, len(place)) for one in clusters]
    return np.asarray(numbers, dtype=np.int64), len(place)
