"""Losses and summaries against slow loops and scipy."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from explorer.measure.batches import Batch
from explorer.measure.metrics import mean, outcome, paired_difference, wilson_interval

ANSWERS = [[3], [1, 4], [2, 2, 0], [4]]


def batch() -> Batch:
    """Four examples with answers of one to three tokens; only what `outcome` reads is filled in."""
    rows = [row for row, answer in enumerate(ANSWERS) for _ in answer]
    targets = [token for answer in ANSWERS for token in answer]
    nothing = torch.zeros(4, 2, dtype=torch.long)
    return Batch(
        tokens=nothing,
        real=nothing.bool(),
        keep=torch.tensor([0]),
        rows=torch.tensor(rows),
        columns=torch.zeros(7).long(),
        targets=torch.tensor(targets),
        places=torch.arange(4),
    )


def logits(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    found = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)) * 3
    for place, token in ((0, 3), (1, 1), (2, 4), (3, 2), (4, 1), (5, 0)):  # examples 0 and 1 right, 2 half, 3 wrong
        found[place, token] = 20.0
    found[6, 4] = -20.0
    return found.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_outcomes_agree_with_a_slow_loop(dtype: torch.dtype) -> None:
    given_logits = logits(dtype)
    found = outcome(given_logits, batch())
    place = 0
    for row, answer in enumerate(ANSWERS):
        loss, right = 0.0, True
        for token in answer:
            line = [float(value) for value in given_logits[place]]
            loss += math.log(math.fsum(math.exp(value - max(line)) for value in line)) + max(line) - line[token]
            right &= line.index(max(line)) == token
            assert int(found.predicted[place]) == line.index(max(line))
            place += 1
        assert float(found.loss[row]) == pytest.approx(loss, rel=1e-5, abs=1e-5)
        assert bool(found.correct[row]) is right
    assert found.correct.tolist() == [True, True, False, False]
    assert found.loss.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)


def test_losses_can_be_differentiated() -> None:
    leaf = logits(torch.float64).requires_grad_()
    outcome(leaf, batch()).loss.sum().backward()
    expected = leaf.detach().softmax(dim=-1)
    expected[range(7), batch().targets] -= 1
    torch.testing.assert_close(leaf.grad, expected)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_means_and_standard_errors_agree_with_scipy(values: list[float]) -> None:
    found = mean(values)
    assert found.n == len(values)
    assert found.value == pytest.approx(sum(values) / len(values), rel=1e-9, abs=1e-9)
    assert found.stderr == pytest.approx(float(scipy.stats.sem(values)), rel=1e-7, abs=1e-9)


def test_one_value_has_no_standard_error() -> None:
    found = mean([2.5])
    assert (found.value, found.n) == (2.5, 1)
    assert math.isnan(found.stderr)


def test_paired_differences_are_summarised_pair_by_pair() -> None:
    after, before = [1.0, 5.0, 2.0], [2.0, 4.0, 4.0]
    found = paired_difference(after, before)
    assert found.value == pytest.approx(-2 / 3)
    assert found.stderr == pytest.approx(float(scipy.stats.sem([-1.0, 1.0, -2.0])))
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1.0], [1.0, 2.0])


@given(
    st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95, 0.99])
)
def test_wilson_intervals_agree_with_scipy(counted: tuple[int, int], confidence: float) -> None:
    successes, n = counted
    expected = scipy.stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    low, high = wilson_interval(successes, n, confidence)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= low <= successes / n <= high <= 1


def test_intervals_of_nothing_and_everything_touch_the_bounds() -> None:
    assert wilson_interval(0, 80)[0] == 0.0
    assert wilson_interval(80, 80)[1] == 1.0
    assert wilson_interval(0, 1) == pytest.approx((0.0, 0.79346), abs=1e-5)
