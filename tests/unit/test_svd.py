"""Decompositions against numpy's float64 LAPACK."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from explorer.spectra.svd import decompose, decompose_stack

SHAPES = [(24, 8), (8, 24), (16, 16), (1, 5), (5, 1), (1, 1), (64, 3)]


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


@pytest.mark.parametrize(("d_in", "d_out"), [(64, 16), (16, 64), (3, 3)])
def test_a_stack_holds_what_each_matrix_gives_alone(d_in: int, d_out: int) -> None:
    generator = torch.Generator().manual_seed(7)
    matrices = list(torch.randn(300, d_in, d_out, generator=generator))  # more than are decomposed together
    stack = decompose_stack(matrices)
    assert len(stack) == len(stack.each()) == 300
    assert stack.nbytes == sum(t.nbytes for d in stack.each() for t in (d.u, d.s, d.vh))
    for i in (0, 1, 150, 299):
        alone = decompose(matrices[i])
        torch.testing.assert_close(stack[i].s, alone.s, rtol=1e-12, atol=0)
        torch.testing.assert_close(stack[i].u, alone.u, rtol=0, atol=1e-5)
        torch.testing.assert_close(stack[i].vh, alone.vh, rtol=0, atol=1e-5)
        torch.testing.assert_close(stack[i].recompose(), matrices[i], rtol=0, atol=1e-5)


def test_each_matrix_of_a_stack_takes_the_route_it_needs() -> None:
    matrices = [
        random_matrix(20, 5, torch.float64),
        with_spectrum([1.0, 1e-3, 1e-6, 1e-9, 1e-12], 20, 5),
        torch.zeros(20, 5, dtype=torch.float64),
        random_matrix(20, 5, torch.float64) * 1e200,  # its squares overflow
        random_matrix(20, 5, torch.float64) * 1e-200,  # its squares vanish
        random_matrix(20, 5, torch.float64).flip(0),
    ]
    for found, W in zip(decompose_stack(matrices).each(), matrices, strict=True):
        expected = np.linalg.svd(W.numpy(), compute_uv=False)
        np.testing.assert_allclose(found.s.numpy(), expected, rtol=1e-6, atol=1e-14 * expected[0])
        for gram in (found.u.T @ found.u, found.vh @ found.vh.T):
            torch.testing.assert_close(gram, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-8)


@pytest.mark.parametrize("smallest", [1e-1, 1e-2, 1e-3, 2e-4, 1e-4, 1e-5, 1e-7])
@pytest.mark.parametrize("shape", [(90, 30), (30, 90), (40, 40)])
def test_small_values_stay_within_the_stated_error(smallest: float, shape: tuple[int, int]) -> None:
    W = with_spectrum(np.geomspace(1.0, smallest, min(shape)).tolist(), *shape)
    found, expected = decompose(W), np.linalg.svd(W.numpy(), compute_uv=False)
    np.testing.assert_allclose(found.s.numpy(), expected, rtol=1e-7)
    unit = torch.eye(min(shape), dtype=torch.float64)
    torch.testing.assert_close(found.u.T @ found.u, unit, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.vh @ found.vh.T, unit, rtol=0, atol=1e-6)
    assert torch.linalg.norm(found.recompose() - W) <= 1e-12 * torch.linalg.norm(W)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    W = random_matrix(4, 3)
    W[1, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        decompose(W)
    with pytest.raises(ValueError, match="NaN or infinite"):
        decompose_stack([random_matrix(4, 3), W])
