"""Decompositions against numpy's float64 LAPACK, and what follows from a spectrum against hand-worked values."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from explorer.svd import blocks, cumulative_energy, decompose, null_from, summarise

SHAPES = [(24, 8), (8, 24), (16, 16), (1, 5), (5, 1), (1, 1), (64, 3)]
EPS32 = float(np.finfo(np.float32).eps)


def random_matrix(d_in: int, d_out: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(100 * d_in + d_out)
    return torch.randn(d_in, d_out, generator=generator, dtype=torch.float64).to(dtype)


def with_spectrum(s: list[float], d_in: int, d_out: int) -> Tensor:
    """A float64 matrix with the given singular values."""
    u = torch.linalg.qr(random_matrix(d_in, len(s), torch.float64)).Q
    v = torch.linalg.qr(random_matrix(d_out, len(s), torch.float64)).Q
    return u @ torch.diag(torch.tensor(s, dtype=torch.float64)) @ v.T


SPECIAL = {
    "rank deficient": random_matrix(12, 3) @ random_matrix(3, 9),
    "zero": torch.zeros(6, 4),
    "identity": torch.eye(7),
    "all equal pairs": with_spectrum([3.0, 3.0, 1.0, 1.0], 10, 6),
    "condition 1e12": with_spectrum([1.0, 1e-3, 1e-6, 1e-9, 1e-12], 20, 5),
    "tiny weights": random_matrix(9, 6) * 1e-25,
    "huge weights": random_matrix(9, 6) * 1e25,
    "one large value": with_spectrum([1e5, 1.0, 0.5, 0.25], 4, 30),
    "duplicate column": torch.cat([random_matrix(8, 2), random_matrix(8, 2)], dim=1),
}
CASES = {
    **{
        f"{d_in}x{d_out} {dtype}": random_matrix(d_in, d_out, dtype)
        for d_in, d_out in SHAPES
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    },
    **SPECIAL,
}


@pytest.fixture(params=CASES, ids=lambda name: name.replace("torch.", ""))
def W(request: pytest.FixtureRequest) -> Tensor:
    matrix: Tensor = CASES[request.param]
    return matrix


def test_singular_values_agree_with_lapack_in_float64(W: Tensor) -> None:
    expected = np.linalg.svd(W.double().numpy(), compute_uv=False)
    found = decompose(W).s.numpy()
    assert found.dtype == np.float64
    solid = expected > 1e-9 * expected[0]
    np.testing.assert_allclose(found[solid], expected[solid], rtol=1e-6)
    np.testing.assert_allclose(found[~solid], expected[~solid], atol=1e-14 * max(expected[0], 1e-300) * len(expected))
    assert (np.diff(found) <= 0).all()
    assert (found >= 0).all()


def test_the_parts_multiply_to_the_matrix_again(W: Tensor) -> None:
    found = decompose(W)
    again = found.u.double() @ torch.diag(found.s) @ found.vh.double()
    error = torch.linalg.norm(again - W.double())
    assert error <= 1e-5 * torch.linalg.norm(W.double())
    assert torch.linalg.norm(found.recompose().double() - W.double()) <= 1e-5 * torch.linalg.norm(W.double())


def test_directions_are_orthonormal(W: Tensor) -> None:
    found = decompose(W)
    unit = torch.eye(found.rank, dtype=torch.float64)
    assert found.rank == min(W.shape)
    for gram in (found.u.double().T @ found.u.double(), found.vh.double() @ found.vh.double().T):
        torch.testing.assert_close(gram, unit, rtol=0, atol=3e-6)


def test_signs_are_canonical(W: Tensor) -> None:
    u = decompose(W).u
    largest = u.gather(0, u.abs().argmax(dim=0, keepdim=True))
    assert bool((largest > 0).all())


def test_any_set_of_values_and_its_complement_add_up_to_the_matrix(W: Tensor) -> None:
    found = decompose(W)
    removed = [i for i in range(found.rank) if i % 3 == 1]
    kept = [i for i in range(found.rank) if i % 3 != 1]
    whole = found.part(kept).double() + found.part(removed).double()
    assert torch.linalg.norm(whole - W.double()) <= 1e-5 * torch.linalg.norm(W.double())
    assert torch.equal(found.part([]), torch.zeros_like(found.part([])))


def test_a_decomposition_depends_on_the_weights_alone(W: Tensor) -> None:
    before = W.clone()
    first, second = decompose(W), decompose(W.T.contiguous().T)
    assert torch.equal(W, before)
    for name in ("u", "s", "vh"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_vectors_are_kept_in_float32_or_the_weights_own_wider_type() -> None:
    types = {torch.bfloat16: torch.float32, torch.float32: torch.float32, torch.float64: torch.float64}
    for given, stored in types.items():
        found = decompose(random_matrix(6, 4, given))
        assert (found.u.dtype, found.vh.dtype, found.s.dtype) == (stored, stored, torch.float64)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    W = random_matrix(4, 3)
    W[1, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        decompose(W)


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


def test_the_summary_agrees_with_numpy_and_scipy() -> None:
    W = random_matrix(30, 20, torch.float64)
    s = np.linalg.svd(W.numpy(), compute_uv=False)
    found = summarise(decompose(W).s, 30, 20)
    assert found.frobenius_norm == pytest.approx(np.linalg.norm(W.numpy()), rel=1e-9)
    assert found.spectral_norm == pytest.approx(np.linalg.norm(W.numpy(), ord=2), rel=1e-9)
    assert found.stable_rank == pytest.approx(np.linalg.norm(W.numpy()) ** 2 / s[0] ** 2, rel=1e-9)
    assert found.effective_rank == pytest.approx(np.exp(scipy.stats.entropy(s)), rel=1e-9)
    assert found.null_count == 0


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
