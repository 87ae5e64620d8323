"""Random bases: every matrix is put together again, and nothing of the singular basis is left."""

from __future__ import annotations

import pytest
import torch

from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Removed
from explorer.models import View
from explorer.models.matrices import matrices, read, read_base
from explorer.search.evidence.searched import change_of
from explorer.spectra.cache import SvdCache
from explorer.spectra.rotated import RotatedBases, basis


def test_every_matrix_is_put_together_again(view: View, svds: SvdCache) -> None:
    bases = RotatedBases(svds, 3)
    for key in matrices(view):
        W, own, found = read_base(view, key), svds.get(view, key), bases.get(view, key)
        torch.testing.assert_close(found.recompose(), W, rtol=1e-4, atol=1e-5)
        assert found.rank == own.rank
        eye = torch.eye(own.rank)
        torch.testing.assert_close(found.u.T @ found.u, eye, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.u @ found.u.T, own.u @ own.u.T, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.vh.norm(dim=1), torch.ones(own.rank), rtol=0, atol=1e-5)
        assert torch.equal(found.s, found.s.sort(descending=True).values)
        assert bool((found.u.gather(0, found.u.abs().argmax(dim=0, keepdim=True)) > 0).all())
        assert float((found.u.T @ own.u).abs().max()) < 0.999, "no direction is a singular one"


def test_bases_are_drawn_by_seed_and_matrix(view: View, svds: SvdCache) -> None:
    key, other = matrices(view)[:2]
    assert torch.equal(RotatedBases(svds, 1).get(view, key).u, RotatedBases(svds, 1).get(view, key).u)
    assert not torch.equal(RotatedBases(svds, 1).get(view, key).u, RotatedBases(svds, 2).get(view, key).u)
    assert not torch.equal(basis(6, 1, str(key)), basis(6, 1, str(other)))
    q = basis(6, 1, str(key))
    torch.testing.assert_close(q @ q.T, torch.eye(6, dtype=torch.float64))


def test_a_mask_of_rotated_values_removes_that_part(view: View, svds: SvdCache) -> None:
    bases, key = RotatedBases(svds, 0), matrices(view)[0]
    found = bases.get(view, key)
    value = Removed(matrix=str(key), index=1, sigma=float(found.s[1]), c=0.0)
    apply(view, empty_mask(view.model).with_removed([value]), bases)
    wanted = read_base(view, key) - found.s[1].float() * torch.outer(found.u[:, 1], found.vh[1])
    torch.testing.assert_close(read(view, key), wanted, rtol=1e-4, atol=1e-5)
    apply(view, empty_mask(view.model), bases)
    assert view.applied == {}


def test_the_size_of_a_change_is_that_of_the_weights(view: View, svds: SvdCache) -> None:
    keys = matrices(view)
    for bases in (svds, RotatedBases(svds, 0)):
        values = [
            Removed(matrix=str(key), index=index, sigma=float(bases.get(view, key).s[index]), c=0.0)
            for key in keys[:3]
            for index in (0, 1, 3)
        ]
        mask = empty_mask(view.model).with_removed(values)
        apply(view, mask, bases)
        moved = sum(float((read(view, key) - read_base(view, key)).double().square().sum()) for key in keys)
        assert change_of(mask) == pytest.approx(moved**0.5, rel=1e-4)
        apply(view, mask.without_all(), bases)
