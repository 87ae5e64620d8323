"""Paired tests against sums written out and scipy."""

from __future__ import annotations

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from explorer.measure.paired import bootstrap_interval, mcnemar

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


def slow_p(repaired: int, broken: int) -> float:
    """Two-sided exact p: twice the smaller tail of a fair coin's binomial, term by term, at most 1."""
    n = repaired + broken
    tail = sum(Fraction(math.comb(n, k), 2**n) for k in range(min(repaired, broken) + 1))
    return float(min(Fraction(1), 2 * tail))


@given(PAIRS)
def test_mcnemar_agrees_with_the_sum_over_the_binomial(pairs: list[tuple[bool, bool]]) -> None:
    after, before = [now for now, _ in pairs], [then for _, then in pairs]
    found = mcnemar(after, before)
    assert found.repaired == len([1 for now, then in pairs if (now, then) == (True, False)])
    assert found.broken == len([1 for now, then in pairs if (now, then) == (False, True)])
    assert found.p == pytest.approx(slow_p(found.repaired, found.broken), rel=1e-9)
    other = mcnemar(before, after)
    assert (other.repaired, other.broken, other.p) == (found.broken, found.repaired, pytest.approx(found.p))


def test_mcnemar_worked_by_hand() -> None:
    after = [True] * 9 + [False] + [True] * 5
    before = [False] * 9 + [True] + [True] * 5
    found = mcnemar(after, before)  # 9 against 1: 2 (1 + 10) / 2^10
    assert (found.repaired, found.broken, found.p) == (9, 1, pytest.approx(22 / 1024))
    assert mcnemar([True, False], [True, False]).p == 1.0
    assert mcnemar([], []).p == 1.0


def test_pairs_of_different_length_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="argument"):
        mcnemar([True], [])


def test_the_bootstrap_interval_agrees_with_scipys() -> None:
    values = np.random.default_rng(5).gamma(2.0, size=80) - 1.5
    ours = bootstrap_interval(values.tolist(), seed=1, draws=40_000)
    theirs = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=40_000, rng=2)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    np.testing.assert_allclose(ours, theirs.confidence_interval, atol=0.03 * width)
    wide = bootstrap_interval(values.tolist(), seed=1, confidence=0.99)
    assert wide[0] < ours[0] < ours[1] < wide[1]


def test_weights_count_what_an_entry_stands_for() -> None:
    values, weights = [3.0, 1.0, 8.0, 2.0], [1.0, 4.0, 2.0, 1.0]
    drawn = np.random.default_rng(7).integers(4, size=(500, 4))
    slow = [sum(values[i] for i in row) / sum(weights[i] for i in row) for row in drawn]
    expected = np.quantile(slow, [0.025, 0.975])
    assert bootstrap_interval(values, weights, seed=7, draws=500) == pytest.approx(tuple(expected))
    ones = bootstrap_interval(values, [1.0] * 4, seed=7)
    assert bootstrap_interval(values, seed=7) == ones


def test_the_seed_makes_the_interval_and_pieces_do_not() -> None:
    values = [0.5, -1.0, 2.0, 0.25, 3.0]
    whole = bootstrap_interval(values, seed=3)
    assert whole == bootstrap_interval(values, seed=3)
    assert whole != bootstrap_interval(values, seed=4)
    many = np.random.default_rng(5).gamma(2.0, size=333) - 1.5  # drawn in four pieces: 10,000 times 333 is too much
    drawn = np.random.default_rng(3).integers(len(many), size=(10_000, len(many)))
    expected = np.quantile(many[drawn].mean(axis=1), [0.025, 0.975])
    tracemalloc.start()
    found = bootstrap_interval(many.tolist(), seed=3)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == pytest.approx(tuple(expected), rel=1e-12)
    assert most < drawn.nbytes, "no piece is the whole"


def test_one_difference_says_nothing_of_its_spread_and_equal_ones_have_none() -> None:
    assert all(math.isnan(bound) for bound in bootstrap_interval([1.0]))
    assert all(math.isnan(bound) for bound in bootstrap_interval([]))
    assert bootstrap_interval([0.25] * 6) == (0.25, 0.25)
