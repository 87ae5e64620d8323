"""Clustered means: the textbook's where clusters are single examples, a plain bootstrap's where they are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from explorer.measure.clustered import clustered_interval, clustered_mean, equal_interval, first_column
from explorer.measure.metrics import mean
from explorer.search.evidence.figures import OF_CHANGE, ClusteredFigures

CHANCE = np.random.default_rng(5)
CLUSTERS = [f"c{i // 3}" if i < 60 else f"single{i}" for i in range(120)]
SHARED = {name: CHANCE.normal() for name in dict.fromkeys(CLUSTERS)}
VALUES = [SHARED[name] + 0.3 * CHANCE.normal() for name in CLUSTERS]


def bootstrap(values: list[float], clusters: list[str], draws: int = 4000) -> np.ndarray:
    """Means over whole clusters drawn with replacement, one by one."""
    groups = [[v for v, c in zip(values, clusters, strict=True) if c == name] for name in dict.fromkeys(clusters)]
    chance = np.random.default_rng(1)
    return np.array(
        [
            np.mean(np.concatenate([groups[i] for i in chance.integers(len(groups), size=len(groups))]))
            for _ in range(draws)
        ]
    )


def test_single_examples_have_the_ordinary_error() -> None:
    found, usual = clustered_mean(VALUES, range(len(VALUES))), mean(VALUES)
    assert found.value == pytest.approx(usual.value)
    assert found.stderr == pytest.approx(usual.stderr)


def test_doubled_examples_are_no_more_evidence() -> None:
    doubled = clustered_mean([*VALUES, *VALUES], [*range(len(VALUES)), *range(len(VALUES))])
    assert doubled.stderr == pytest.approx(mean(VALUES).stderr)
    assert mean([*VALUES, *VALUES]).stderr < 0.8 * doubled.stderr


def test_the_error_and_the_interval_are_those_of_a_bootstrap_over_clusters() -> None:
    means = bootstrap(VALUES, CLUSTERS)
    found = clustered_mean(VALUES, CLUSTERS)
    assert found.stderr == pytest.approx(means.std(), rel=0.05)
    assert found.stderr > 1.2 * mean(VALUES).stderr
    low, high = clustered_interval([VALUES], CLUSTERS, first_column)
    assert low == pytest.approx(np.quantile(means, 0.025), abs=0.03)
    assert high == pytest.approx(np.quantile(means, 0.975), abs=0.03)


def test_a_ratio_has_an_interval_and_one_that_is_never_finite_has_none() -> None:
    ones = [1.0] * len(VALUES)
    shifted = [3 + value for value in VALUES]
    low, high = clustered_interval([shifted, ones], CLUSTERS, lambda means: means[:, 0] / means[:, 1])
    assert low < np.mean(shifted) < high
    zeros = [0.0] * len(VALUES)
    assert all(map(math.isnan, clustered_interval([shifted, zeros], CLUSTERS, lambda m: m[:, 0] / m[:, 1])))
    assert math.isnan(clustered_mean([1.0, 2.0], ["one", "one"]).stderr)
    assert math.isnan(clustered_mean([math.inf, 2.0], ["one", "two"]).value)


@pytest.mark.parametrize("count", [1, 2, 18, 79])
def test_examples_that_all_agree_have_the_exact_interval(count: int) -> None:
    exact = binomtest(count, count).proportion_ci(0.95, method="exact")
    assert equal_interval(1.0, count, (0.0, 1.0)) == pytest.approx((exact.low, exact.high))
    exact = binomtest(0, count).proportion_ci(0.95, method="exact")
    assert equal_interval(0.0, count, (0.0, 1.0)) == pytest.approx((exact.low, exact.high))
    low, high = equal_interval(0.0, count, (-1.0, 1.0))
    assert (low, high) == pytest.approx((-exact.high, exact.high))


def test_a_few_examples_that_all_change_are_no_sure_thing() -> None:
    names = [str(number) for number in range(18)]
    found = ClusteredFigures.of([1.0] * 18, names, OF_CHANGE)
    assert found.value == 1.0
    assert 0.5 < found.interval[0] < 0.7
    assert not ClusteredFigures.of([1.0] * 4, names[:4], OF_CHANGE).above
    assert ClusteredFigures.of([1.0] * 4, names[:4]).interval == (1.0, 1.0), "without bounds there is nothing to say"
