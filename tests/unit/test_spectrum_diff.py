"""What changed between two models' matrices, against numpy and scipy; low-rank fine-tunes are found to be so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from explorer import compare_matrix
from explorer.core.errors import MatrixError
from explorer.core.keys import CircuitKey, Kind, MatrixKey, parse_key
from explorer.models import Model, load
from explorer.models.matrices import matrices, read, shape
from explorer.spectra.cache import SvdCache
from explorer.spectra.circuits import decompose_circuit
from explorer.spectra.comparison import SpectrumDiff, random_cosines
from explorer.spectra.svd import decompose
from tests import tiny
from tests.families import FAMILIES
from tests.siblings import low_rank, tuned

CHANGED, RANK = MatrixKey(1, Kind.K, 1), 2


def diff(W: NDArray[np.float64], other: NDArray[np.float64]) -> SpectrumDiff:
    first, second = (torch.from_numpy(np.ascontiguousarray(one)) for one in (W, other))
    return SpectrumDiff(decompose(first), decompose(second), decompose(second - first).s)


def pair(d_in: int, d_out: int, size: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    W = generator.standard_normal((d_in, d_out))
    return W, W + size * generator.standard_normal((d_in, d_out))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(1e-3, 3.0), st.integers(0, 99))
def test_cosines_are_those_of_scipys_subspace_angles(d_in: int, d_out: int, size: float, seed: int) -> None:
    W, other = pair(d_in, d_out, size, seed)
    found, (U, s, Vh), (U2, s2, Vh2) = diff(W, other), *(np.linalg.svd(one, full_matrices=False) for one in (W, other))
    for k in range(1, min(d_in, d_out) + 1):
        overlap = found.overlap(k)
        assert overlap.k == k
        for side, a, b in ((overlap.left, U[:, :k], U2[:, :k]), (overlap.right, Vh[:k].T, Vh2[:k].T)):
            expected = np.sort(np.cos(scipy.linalg.subspace_angles(a, b)))[::-1]
            np.testing.assert_allclose(side.cosines, expected, atol=1e-6)
            assert side.similarity == pytest.approx(np.sum((a.T @ b) ** 2) / k, abs=1e-6)
            assert side.chance_similarity == k / len(a)
    np.testing.assert_allclose(found.relative_change, (s2 - s) / s, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.difference, np.linalg.svd(other - W, compute_uv=False), rtol=1e-7, atol=1e-12)
    assert found.size == pytest.approx(np.linalg.norm(other - W) / np.linalg.norm(W))
    assert np.abs(s2 - s).max() <= float(found.difference[0]) * (1 + 1e-9)  # Weyl


@pytest.mark.parametrize(("d", "k"), [(40, 1), (40, 4), (40, 30), (6, 6)])
def test_chance_is_what_random_subspaces_give(d: int, k: int) -> None:
    generator = np.random.default_rng(5)

    def frame() -> NDArray[np.float64]:
        return np.linalg.qr(generator.standard_normal((d, k)))[0]

    drawn = [np.linalg.svd(frame().T @ frame(), compute_uv=False) for _ in range(400)]
    chance = random_cosines(d, k)
    np.testing.assert_allclose(chance, np.mean(drawn, axis=0), atol=0.06)
    assert np.mean(np.square(drawn)) == pytest.approx(k / d, abs=0.01)
    assert (np.diff(chance) <= 1e-12).all()
    np.testing.assert_allclose(chance[: max(0, 2 * k - d)], 1.0)
    np.testing.assert_array_equal(random_cosines(d, k), chance)  # seeded


def test_random_matrices_overlap_by_chance_and_equal_ones_wholly() -> None:
    W, _ = pair(60, 50, 0.0)
    unrelated = np.random.default_rng(8).standard_normal((60, 50))
    overlap = diff(W, unrelated).overlap(10)
    assert overlap.left.similarity == pytest.approx(overlap.left.chance_similarity, abs=0.06)
    np.testing.assert_allclose(overlap.left.cosines, overlap.left.chance, atol=0.2)
    same = diff(W, W)
    assert (same.size, same.rank.energy_counts) == (0.0, (0, 0, 0))
    assert same.overlap(10).right.similarity == pytest.approx(1.0)
    assert float(same.relative_change.abs().max()) == 0.0


def test_what_is_not_defined_is_nan_and_what_is_arbitrary_is_said() -> None:
    s = np.array([3.0, 2.0, 2.0, 1.0, 0.0])
    found = diff(np.diag(s), np.diag(2 * s))
    np.testing.assert_allclose(found.relative_change, [1, 1, 1, 1, np.nan])
    assert [found.overlap(k).cuts_block for k in range(1, 5)] == [False, True, False, False]
    for k in (0, 6):
        with pytest.raises(MatrixError, match="has 1 to 5"):
            found.overlap(k)
    zero = np.zeros((3, 3))
    assert diff(zero, zero).size == 0.0
    assert diff(zero, np.eye(3)).size == float("inf")
    with pytest.raises(MatrixError, match="3 x 3 in the base model, 5 x 5 in the other"):
        SpectrumDiff(decompose(torch.eye(3)), decompose(torch.eye(5)), torch.ones(3))


# ---- of loaded models


@pytest.fixture(scope="module")
def sibling(model64: Model, arch: str, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The tiny model with a difference of rank 2 in one matrix."""
    difference = low_rank(*shape(model64.view(), CHANGED), RANK)
    folder = tuned(model64, arch, tmp_path_factory.mktemp(f"tuned-{arch}"), {CHANGED: difference})
    return load(str(folder), dtype="float64", device="cpu")


def test_a_low_rank_fine_tune_is_found_where_it_is(model64: Model, sibling: Model) -> None:
    base, other, svds = model64.view(), sibling.view(), SvdCache(None)
    digests = model64.current_digest(), sibling.current_digest()
    for key in matrices(base):
        found = compare_matrix(base, other, key, svds)
        W, W_other = (read(view, key).numpy() for view in (base, other))
        np.testing.assert_allclose(
            found.difference, np.linalg.svd(W_other - W, compute_uv=False)[: len(found.difference)], atol=1e-12
        )
        np.testing.assert_allclose(found.other.s, np.linalg.svd(W_other, compute_uv=False), rtol=1e-8)
        if key == CHANGED:
            assert found.rank.energy_counts[-1] <= RANK
            assert float(found.difference[RANK]) < 1e-6 * float(found.difference[0])
            assert found.overlap(1).left.similarity < 1
        else:
            assert float(found.difference.max()) == 0.0
    assert (model64.current_digest(), sibling.current_digest()) == digests  # neither model was changed


def test_products_differ_by_the_difference_of_the_dense_products(model64: Model, sibling: Model) -> None:
    base, other, svds = model64.view(), sibling.view(), SvdCache(None)
    queries = 2 if base.config.n_heads == 4 else 1  # the first query head that KV head 1 serves
    for name in (f"L1.QK.H{queries}", "L0.OV.H0"):
        key = parse_key(name)
        assert isinstance(key, CircuitKey)
        found = compare_matrix(base, other, key, svds)
        dense = [decompose_circuit(view, key).recompose().double().numpy() for view in (base, other)]
        expected = np.linalg.svd(dense[1] - dense[0], compute_uv=False)[: len(found.difference)]
        np.testing.assert_allclose(found.difference, expected, atol=1e-9)
        assert (float(found.difference[0]) > 1e-3) == (name != "L0.OV.H0")


def test_what_cannot_be_compared_is_refused_by_name(model64: Model, tmp_path: Path) -> None:
    other = load(str(FAMILIES["bloom"].save(tmp_path)), dtype="float64")
    base = model64.view()
    with pytest.raises(MatrixError, match=r"L9\.K: .*layer 9 is out of range|does not have it"):
        compare_matrix(base, other.view(), MatrixKey(9, Kind.K), SvdCache(None))
    with pytest.raises(MatrixError, match=r"L0\.OUT is \d+ x \d+ in the base model, \d+ x \d+ in the other"):
        compare_matrix(base, other.view(), MatrixKey(0, Kind.OUT), SvdCache(None))
    folded: Any = load(str(tmp_path), dtype="float64", basis="folded")
    with pytest.raises(MatrixError, match=r"in the raw basis, .* in the folded one: load both in one basis"):
        compare_matrix(other.view(), folded.view(), MatrixKey(0, Kind.OUT), SvdCache(None))


def test_a_matrix_that_only_the_first_model_has(tmp_path: Path) -> None:
    with_gate, without = (load(str(tiny.save(arch, tmp_path / arch)), dtype="float64") for arch in ("llama", "gpt2"))
    with pytest.raises(MatrixError, match=r"gpt2 does not have it: L0\.GATE"):
        compare_matrix(with_gate.view(), without.view(), MatrixKey(0, Kind.GATE), SvdCache(None))
