"""Agreement figures against scipy, hand-made cases and slow loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from explorer.experiments.study.trust import RESOLUTION, JointPoint, joint_trust, trust


def test_correlations_are_scipys() -> None:
    rng = np.random.default_rng(0)
    exact = rng.normal(size=80)
    predicted = exact + rng.normal(size=80)
    found = trust(predicted, exact)
    assert found.spearman == pytest.approx(stats.spearmanr(predicted, exact)[0], abs=1e-12)
    assert found.pearson == pytest.approx(np.corrcoef(predicted, exact)[0, 1], abs=1e-12)
    assert found.n == 80


def test_a_perfect_prediction_is_reliable_up_to_its_largest() -> None:
    exact = np.linspace(-2, 3, 60)
    found = trust(exact, exact)
    assert (found.spearman, found.sign_agreement) == (pytest.approx(1), 1)
    assert found.reliable_range == 3
    assert all(math.isnan(size.median_error) or size.median_error == 0 for size in found.errors)


def test_the_lowest_are_compared_with_the_best_as_a_slow_loop_does() -> None:
    rng = np.random.default_rng(2)
    exact = rng.normal(size=100)
    predicted = 2 * exact + rng.normal(size=100)
    found = trust(predicted, exact).lowest
    assert [one.count for one in found] == [1, 4, 16, 64]
    for one in found:
        by_score = sorted(range(100), key=lambda place: predicted[place])[: one.count]
        by_effect = sorted(range(100), key=lambda place: exact[place])[: one.count]
        assert one.precision == len({*by_score} & {*by_effect}) / one.count
        assert one.exact == pytest.approx(sum(exact[place] for place in by_score) / one.count)
        assert one.regret == pytest.approx(one.exact - sum(exact[place] for place in by_effect) / one.count)
        assert one.predicted == pytest.approx(sum(predicted[place] for place in by_score) / one.count)
        assert one.calibration == pytest.approx(one.exact / one.predicted)
    assert 0 < found[2].precision < 1


def test_perfect_and_reversed_predictions_of_the_lowest() -> None:
    exact = np.linspace(-2, 3, 20)
    for one in trust(exact, exact).lowest:
        assert (one.precision, one.regret, one.calibration) == (1, 0, pytest.approx(1))
    (first, *_) = trust(-exact, exact).lowest
    assert (first.count, first.precision, first.regret) == (1, 0, 5)
    assert trust(exact[:4], exact[:4]).lowest[-1].count == 1, "all of them are no choice"
    unitless = trust(exact, exact, nats=False).lowest[0]
    assert math.isnan(unitless.predicted)
    assert math.isnan(unitless.calibration)
    assert unitless.precision == 1


def test_rounding_noise_does_not_count_for_the_sign() -> None:
    exact = [RESOLUTION / 2, -RESOLUTION / 2, 0.5, -0.5]
    assert trust([-1.0, 1.0, 0.5, -0.5], exact).sign_agreement == 1
    assert trust([1.0, 1.0, -0.5, -0.5], exact).sign_agreement == 0.5


def test_the_reliable_range_ends_where_large_predictions_fail() -> None:
    sizes = np.arange(1, 101) / 100
    exact = np.where(sizes <= 0.8, sizes, -sizes)
    found = trust(sizes, exact)
    shares = {size: np.mean(exact[sizes <= size] > 0) for size in sizes}  # slow reference
    assert found.reliable_range == max(size for size, share in shares.items() if share >= 0.95)
    assert 0.8 < found.reliable_range < 0.86


def test_no_range_without_enough_values_or_signs() -> None:
    assert trust([0.1] * 19, [0.1] * 19).reliable_range == 0
    assert trust(np.linspace(0.1, 1, 50), -np.linspace(0.1, 1, 50)).reliable_range == 0


def test_errors_by_size_cover_every_prediction_once() -> None:
    rng = np.random.default_rng(1)
    predicted = rng.normal(size=200) * 10.0 ** rng.integers(-5, 2, size=200)
    exact = predicted + rng.normal(size=200) * 0.01
    found = trust(predicted, exact)
    assert sum(size.n for size in found.errors) == 200
    for size in found.errors:
        inside = [abs(x - y) for x, y in zip(predicted, exact, strict=True) if size.low <= abs(x) < size.high]
        assert len(inside) == size.n
        assert size.median_error == pytest.approx(np.median(inside))


def test_a_scorer_without_nats_has_ranks_and_signs_only() -> None:
    found = trust(np.arange(30.0), np.arange(30.0) ** 3, nats=False)
    assert found.spearman == pytest.approx(1)
    assert math.isnan(found.pearson)
    assert math.isnan(found.reliable_range)
    assert found.errors == ()


def test_constant_effects_have_no_correlation() -> None:
    assert math.isnan(trust([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]).spearman)


def test_joint_trust_ends_at_the_first_failure() -> None:
    points = [
        JointPoint(2, -1.0, -0.9),
        JointPoint(4, -2.0, -1.0),
        JointPoint(8, -3.0, -1.0),
        JointPoint(16, -4.0, 0.5),
        JointPoint(32, -5.0, -5.0),
    ]
    found = joint_trust(points)
    assert (found.sign_until, found.half_until) == (8, 4)
    assert joint_trust(points[3:]).sign_until == 0
