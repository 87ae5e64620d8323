"""Narrow sides of decompositions against numpy's float64 LAPACK, and models of which only these are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from explorer.attribution import score
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply, empty_mask
from explorer.models import Model, load
from explorer.models.matrices import kinds, matrices, read, read_base
from explorer.spectra.cache import SvdCache
from explorer.spectra.narrow import LIMIT, NarrowSide, decompose_narrow
from explorer.spectra.svd import Decomposition, decompose
from tests import tiny

SHAPES = [(96, 32), (32, 96), (40, 40), (7, 64), (64, 1)]


def with_condition(d_in: int, d_out: int, condition: float) -> Tensor:
    """A float32 matrix whose singular values fall evenly from 1 to 1 / condition."""
    r, generator = min(d_in, d_out), torch.Generator().manual_seed(d_in)
    u, v = (torch.linalg.qr(torch.randn(d, r, generator=generator, dtype=torch.float64)).Q for d in (d_in, d_out))
    s = torch.logspace(0, -np.log10(condition), r, dtype=torch.float64)
    return ((u * s) @ v.T).float()


def narrow(W: Tensor) -> Decomposition:
    """The decomposition of a matrix of which the narrow side is kept."""
    ((places, stack),) = decompose_narrow([W])
    (side,) = stack.each()
    assert places == [0]
    assert isinstance(side, NarrowSide)
    return side.of(lambda: W)


def by_lapack(W: Tensor, like: Decomposition) -> tuple[Tensor, Tensor, Tensor]:
    """U, s and vh from numpy in float64, with the signs of another decomposition."""
    u, s, vh = map(torch.from_numpy, np.linalg.svd(W.double().numpy(), full_matrices=False))
    sign = (u * like.u.double()).sum(dim=0).sign()
    return u * sign, s, vh * sign[:, None]


@pytest.mark.parametrize("condition", [1.5, 30.0, 0.9 / LIMIT])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_made_again_agrees_with_lapack(shape: tuple[int, int], condition: float) -> None:
    W = with_condition(*shape, condition)
    found = narrow(W)
    u, s, vh = by_lapack(W, found)
    generator = torch.Generator().manual_seed(1)
    x, g, G = (torch.randn(*size, generator=generator) for size in ((5, shape[0]), (shape[1],), shape))
    some = [0, found.rank // 2, found.rank - 1]
    pairs = {
        "u": (found.u, u),
        "s": (found.s, s),
        "vh": (found.vh.T, vh.T),
        "left": (found.left(some), u[:, some]),
        "right": (found.right(some).T, vh[some].T),
        "reads": (found.reads(x).T, (x.double() @ u).T),
        "writes": (found.writes(g), vh @ g.double()),
        "contract": (found.contract(G), ((u.T @ G.double()) * vh).sum(dim=1)),
        "part": (found.part([found.rank - 1]), s[-1] * torch.outer(u[:, -1], vh[-1])),
        "recompose": (found.recompose(), W.double()),
    }
    for name, (made, expected) in pairs.items():
        difference = made.double() - expected
        if name == "part":  # an edit is exact relative to the whole matrix
            assert float(difference.norm()) <= 1e-5 * s[0], name
            continue
        error = difference.norm(dim=0) / expected.norm(dim=0).clamp_min(1e-30)
        assert float(error.max()) <= 1e-5, name
    assert found.shape == shape


def test_the_kept_side_and_signs_are_those_of_whole_decompositions() -> None:
    for shape in SHAPES:
        W = with_condition(*shape, 10.0)
        found, whole = narrow(W), decompose(W)
        assert torch.equal(found.s, whole.s)
        side = (found.u, whole.u) if shape[0] < shape[1] else (found.vh, whole.vh)
        assert torch.equal(*side)
        assert found.nbytes <= whole.nbytes


def test_what_would_lose_digits_is_kept_whole() -> None:
    good, bad = with_condition(24, 8, 10.0), with_condition(24, 8, 2 / LIMIT)
    null = good @ torch.diag(torch.tensor([1.0] * 7 + [0.0]))
    stacks = list(decompose_narrow([good, bad, good, null]))
    assert [places for places, _ in stacks] == [[0, 2], [1, 3]]
    assert [type(one) for one in stacks[0][1].each()] == [NarrowSide] * 2
    for one, W in zip(stacks[1][1].each(), (bad, null), strict=True):
        assert isinstance(one, Decomposition)
        assert torch.equal(one.u, decompose(W).u)


def test_weights_that_are_no_numbers_are_refused() -> None:
    W = with_condition(8, 4, 2.0)
    W[0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        list(decompose_narrow([with_condition(8, 4, 2.0), W]))


@pytest.fixture(params=tiny.ARCHITECTURES)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    tiny.save(request.param, tmp_path / "model")
    return load(str(tmp_path / "model"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scores_and_edits_are_those_of_both_sides(model: Model, tmp_path: Path, dtype: str) -> None:
    """In bfloat16 the wide sides are made of the weights as they are stored, which are read again."""
    model = load(model.source.name, dtype=dtype)
    view, task = model.view(), tiny.task()
    whole, halves = SvdCache(tmp_path / "whole"), SvdCache(tmp_path / "halves", narrow=True)
    keys = matrices(view, kinds(view))
    assert any(type(one) is not Decomposition for one in halves.get_many(view, keys).values())
    expected, found = (score(view, task, svds, keys, mode="freeze") for svds in (whole, halves))
    for key in keys:
        scale = expected.matrices[key].score.abs().max()
        assert float((found.matrices[key].score - expected.matrices[key].score).abs().max()) <= 1e-4 * float(scale)
        torch.testing.assert_close(found.matrices[key].c, expected.matrices[key].c, rtol=1e-4, atol=1e-5)
    mask = empty_mask(model).with_removed(expected.removed(key, 1) for key in keys[::2])
    edited = []
    for svds in (whole, halves):
        apply(view, mask, svds)
        edited.append({key: read(view, key).clone() for key in matrices(view, kinds(view), per_head=False)})
    for key, W in edited[0].items():
        torch.testing.assert_close(edited[1][key], W, rtol=1e-5 if dtype == "float32" else 1e-2, atol=1e-6)


def test_narrow_sides_come_back_from_disk_and_hold_no_model(model: Model, tmp_path: Path) -> None:
    view = model.view()
    keys = matrices(view, [Kind.Q, Kind.IN, Kind.OUT])
    fresh = SvdCache(tmp_path / "svd", narrow=True).get_many(view, keys)
    again = SvdCache(tmp_path / "svd", narrow=True)
    assert again.missing(view, keys) == ()
    for key, one in again.get_many(view, keys).items():
        assert torch.equal(one.vh, fresh[key].vh)
        torch.testing.assert_close(one.recompose(), read_base(view, key).detach(), rtol=1e-5, atol=1e-6)
    both = SvdCache(tmp_path / "svd")
    assert set(both.missing(view, keys)) == set(keys)  # others' halves are not taken for wholes


def test_a_large_model_takes_less_room(model: Model, tmp_path: Path) -> None:
    view = model.view()
    key = MatrixKey(0, Kind.IN)
    whole, half = (SvdCache(tmp_path / "svd", narrow=narrow).get(view, key) for narrow in (False, True))
    assert half.nbytes < whole.nbytes
