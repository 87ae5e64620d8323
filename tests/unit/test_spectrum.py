"""Measures of a spectrum against hand-worked values, numpy, scipy, weightwatcher's figures and simulated matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from numpy.typing import NDArray
from torch import Tensor

from explorer.spectra.measures import (
    blocks,
    bulk_edge,
    cumulative_energy,
    energy_count,
    marchenko_pastur_median,
    null_from,
    power_law,
    summarise,
)
from explorer.spectra.svd import decompose
from tests.unit.test_svd import SPECIAL, random_matrix

EPS32 = float(np.finfo(np.float32).eps)


@pytest.mark.parametrize(
    ("spectrum", "expected"),
    [
        ([5.0, 4.0, 3.0], ()),
        ([1.0], ()),
        ([5.0, 4.96, 3.0], ((0, 1),)),  # (5 - 4.96) / 5 = 0.008
        ([9.0, 5.0, 4.96, 4.93, 2.0, 1.0, 1.0], ((1, 2, 3), (5, 6))),
        ([1.0, 0.995, 0.99, 0.985], ((0, 1, 2, 3),)),  # neighbours chain, though the ends are 1.5 % apart
        ([1.0, 0.0, 0.0], ()),
        ([0.0, 0.0], ()),
    ],
)
def test_blocks_are_runs_of_close_neighbours(spectrum: list[float], expected: tuple[tuple[int, ...], ...]) -> None:
    assert blocks(torch.tensor(spectrum, dtype=torch.float64)) == expected


def test_the_gap_can_be_chosen() -> None:
    s = torch.tensor([10.0, 9.0, 8.0], dtype=torch.float64)
    assert blocks(s, gap=0.105) == ((0, 1),)  # gaps 0.1 and 0.111
    assert blocks(s, gap=0.2) == ((0, 1, 2),)
    assert blocks(torch.tensor([4.0, 3.0]), gap=0.25) == ()  # the gap itself is not below the gap


def test_the_summary_of_a_spectrum_worked_out_by_hand() -> None:
    found = summarise(torch.tensor([4.0, 3.0, 0.0], dtype=torch.float64), 5, 3)
    assert found.frobenius_norm == pytest.approx(5.0)
    assert found.spectral_norm == 4.0
    assert found.stable_rank == pytest.approx(25 / 16)
    assert found.effective_rank == pytest.approx((7 / 4) ** (4 / 7) * (7 / 3) ** (3 / 7))
    assert found.null_count == 1
    assert found.participation_ratio == pytest.approx(25**2 / (16**2 + 9**2))
    assert found.condition_number == math.inf
    assert found.energy_counts == (1, 2, 2)  # 16/25 of the energy is in the first value
    assert found.power_law is None


def test_the_summary_agrees_with_numpy_and_scipy() -> None:
    W = random_matrix(30, 20, torch.float64)
    s = np.linalg.svd(W.numpy(), compute_uv=False)
    found = summarise(decompose(W).s, 30, 20)
    assert found.frobenius_norm == pytest.approx(np.linalg.norm(W.numpy()), rel=1e-9)
    assert found.spectral_norm == pytest.approx(np.linalg.norm(W.numpy(), ord=2), rel=1e-9)
    assert found.stable_rank == pytest.approx(np.linalg.norm(W.numpy()) ** 2 / s[0] ** 2, rel=1e-9)
    assert found.effective_rank == pytest.approx(np.exp(scipy.stats.entropy(s)), rel=1e-9)
    assert found.null_count == 0
    assert found.condition_number == pytest.approx(np.linalg.cond(W.numpy()), rel=1e-9)
    assert found.participation_ratio == pytest.approx(np.sum(s**2) ** 2 / np.sum(s**4), rel=1e-9)
    energy = np.cumsum(s**2) / np.sum(s**2)
    assert found.energy_counts == tuple(1 + int(np.searchsorted(energy, share)) for share in (0.5, 0.9, 0.99))


def test_the_ranks_of_extreme_spectra() -> None:
    flat = summarise(torch.full((6,), 2.0, dtype=torch.float64), 6, 6)
    assert (flat.stable_rank, flat.effective_rank) == pytest.approx((6.0, 6.0))
    single = summarise(torch.tensor([2.0, 0.0], dtype=torch.float64), 2, 2)
    assert (single.stable_rank, single.effective_rank) == pytest.approx((1.0, 1.0))
    zero = summarise(torch.zeros(3, dtype=torch.float64), 3, 3)
    assert (zero.stable_rank, zero.effective_rank, zero.frobenius_norm, zero.null_count) == (0.0, 0.0, 0.0, 3)


def test_cumulative_energy_by_hand() -> None:
    assert cumulative_energy(torch.tensor([4.0, 3.0, 0.0])).tolist() == pytest.approx([16 / 25, 1.0, 1.0])
    assert cumulative_energy(torch.zeros(2)).tolist() == [1.0, 1.0]


def test_null_values_start_below_the_stated_threshold() -> None:
    limit = 50 * EPS32 * 2.0
    s = torch.tensor([2.0, 2 * limit, 1.01 * limit, 0.99 * limit, 0.0], dtype=torch.float64)
    assert null_from(s, 50, 5) == 3
    assert null_from(torch.ones(4, dtype=torch.float64), 4, 4) == 4
    assert null_from(torch.zeros(4, dtype=torch.float64), 4, 4) == 0
    rank_three = decompose(SPECIAL["rank deficient"])
    assert null_from(rank_three.s, 12, 9) == 3


# ------------------------------------------------------------------------------------------- power law


def spectrum_of(matrix: NDArray[np.float64]) -> Tensor:
    return torch.tensor(np.linalg.svd(matrix, compute_uv=False))


def heavy_tailed() -> NDArray[np.float64]:
    return np.random.default_rng(3).standard_t(3, size=(60, 40))


def gaussian(rows: int, columns: int, seed: int = 5) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((rows, columns))


# alpha, xmin, sigma and D of weightwatcher 0.7.7 (`weightwatcher.WW_powerlaw.Fit(eigenvalues)`) with numpy 2.4.6, on
# the eigenvalues s^2 of these matrices.
WEIGHTWATCHER = {
    "heavy tail": (heavy_tailed(), (3.9978564925202713, 354.50059233426117, 1.0599023274426012, 0.1250911237095289)),
    "gaussian": (gaussian(90, 30), (3.3020861979750404, 81.0500754745251, 0.5755215494937601, 0.146833207496619)),
}


@pytest.mark.parametrize("name", WEIGHTWATCHER)
def test_the_power_law_is_weightwatchers(name: str) -> None:
    matrix, (alpha, xmin, sigma, distance) = WEIGHTWATCHER[name]
    found = power_law(spectrum_of(matrix))
    assert found is not None
    assert (found.alpha, found.xmin, found.stderr) == pytest.approx((alpha, xmin, sigma), rel=1e-9)
    assert found.distance == pytest.approx(distance, rel=1e-9)


@pytest.mark.parametrize("matrix", [heavy_tailed(), gaussian(50, 25), gaussian(12, 12)], ids=["t", "wide", "square"])
def test_the_power_law_is_scipys_best_pareto(matrix: NDArray[np.float64]) -> None:
    """Every xmin by scipy's own maximum likelihood and distribution function, one at a time."""
    values = np.sort(np.linalg.svd(matrix, compute_uv=False) ** 2)
    fits = []
    for start in range(len(values) - 1):
        tail = values[start:]
        exponent, _, _ = scipy.stats.pareto.fit(tail, floc=0, fscale=tail[0])
        gaps = np.abs(scipy.stats.pareto.cdf(tail, exponent, scale=tail[0]) - np.arange(len(tail)) / len(tail))
        fits.append((gaps.max(), 1 + exponent, tail[0], len(tail)))
    distance, alpha, xmin, tail_size = min(fits, key=lambda fit: fit[0])
    found = power_law(spectrum_of(matrix))
    assert found is not None
    assert (found.distance, found.alpha, found.xmin) == pytest.approx((distance, alpha, xmin), rel=1e-6)
    assert found.tail == tail_size
    assert found.stderr == pytest.approx((alpha - 1) / math.sqrt(tail_size), rel=1e-6)


def test_a_true_power_law_gives_its_exponent_back() -> None:
    eigenvalues = 0.3 * scipy.stats.pareto.ppf((np.arange(2000) + 0.5) / 2000, 2.5 - 1)
    found = power_law(torch.tensor(np.sort(np.sqrt(eigenvalues))[::-1].copy()))
    assert found is not None
    assert found.alpha == pytest.approx(2.5, abs=3 * found.stderr)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e12])
def test_the_exponent_does_not_depend_on_the_unit(scale: float) -> None:
    s = spectrum_of(heavy_tailed())
    first, second = power_law(s), power_law(s * scale)
    assert first is not None
    assert second is not None
    assert second.alpha == pytest.approx(first.alpha, rel=1e-9)
    assert second.xmin == pytest.approx(first.xmin * scale**2, rel=1e-9)


@pytest.mark.parametrize("s", [[], [2.0], [2.0, 1.0], [2.0, 2.0, 1.0], [3.0, 2.0, 0.0]])
def test_too_few_distinct_values_have_no_power_law(s: list[float]) -> None:
    assert power_law(torch.tensor(s, dtype=torch.float64)) is None


# ------------------------------------------------------------------------------------------- random bulk


@pytest.mark.parametrize("shape", [(400, 300), (300, 300), (40, 700)])
def test_the_bulk_edge_is_where_simulated_matrices_end(shape: tuple[int, int]) -> None:
    s = spectrum_of(0.02 * gaussian(*shape))
    edge = bulk_edge(s, *shape)
    assert edge is not None
    assert edge == pytest.approx(float(s[0]), rel=0.04)
    assert edge == pytest.approx(0.02 * (math.sqrt(shape[0]) + math.sqrt(shape[1])), rel=0.02)


def test_planted_values_are_counted_and_do_not_move_the_edge() -> None:
    noise = gaussian(300, 200)
    planted = noise + 900 * np.outer(np.ones(300), np.ones(200)) / math.sqrt(300 * 200)
    planted += 500 * np.outer(gaussian(300, 1, 1) / math.sqrt(300), gaussian(200, 1, 2) / math.sqrt(200))
    before, after = (summarise(spectrum_of(matrix), 300, 200) for matrix in (noise, planted))
    assert before.bulk_edge is not None
    assert after.bulk_edge == pytest.approx(before.bulk_edge, rel=0.02)
    assert before.above_bulk is not None
    assert before.above_bulk <= 1  # the largest value fluctuates around the edge
    assert after.above_bulk == 2


@pytest.mark.parametrize("ratio", [0.02, 0.25, 0.75, 1.0])
def test_the_median_of_the_law_is_the_simulated_one(ratio: float) -> None:
    n = 1200
    m = round(ratio * n)
    eigenvalues = np.linalg.eigvalsh(np.cov(gaussian(m, n), bias=True)) if m > 1 else np.ones(1)
    assert marchenko_pastur_median(ratio) == pytest.approx(float(np.median(eigenvalues)), rel=0.03)


def test_a_law_of_ratio_one_is_the_square_of_a_quarter_circle() -> None:
    quarter = scipy.stats.semicircular(scale=2).ppf(0.75)  # |semicircle| has its median where the whole has 3/4
    assert marchenko_pastur_median(1.0) == pytest.approx(float(quarter) ** 2, rel=1e-9)


def test_spectra_without_a_bulk_say_so() -> None:
    assert bulk_edge(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), 3, 3) is None
    narrow = summarise(spectrum_of(gaussian(30, 4)), 30, 30)  # four values of a [30, 30] product
    assert (narrow.bulk_edge, narrow.above_bulk) == (None, None)


def test_energy_counts_reach_their_share_and_no_sooner() -> None:
    s = spectrum_of(gaussian(40, 30))
    energy = cumulative_energy(s)
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        count = energy_count(s, share)
        assert float(energy[count - 1]) >= share - 1e-9
        assert count == 1 or float(energy[count - 2]) < share
