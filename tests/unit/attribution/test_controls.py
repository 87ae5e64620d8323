"""Scores that predict no change: singular values, energies, random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from explorer.attribution import Scores, score
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.mask import Mode
from explorer.models import View
from explorer.models.matrices import matrices
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests import plain
from tests.removal import encoded


def test_magnitudes_are_the_singular_values(view64: View, tiny_task: Task, svds: SvdCache, mode: Mode) -> None:
    keys = matrices(view64, [Kind.K, Kind.OUT])
    found = score(view64, tiny_task, svds, keys, scorer="magnitude", mode=mode)
    for key in keys:
        assert torch.equal(found.matrices[key].score, found.matrices[key].s)
    sizes = [float(found.matrices[key].s[index]) for _, key, index in found.ranking()]
    assert sizes == sorted(sizes)
    same_means(found, score(view64, tiny_task, svds, keys, mode=mode))


@pytest.mark.slow
def test_energies_are_mean_squared_changes_of_the_output(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, keys: tuple[MatrixKey, ...], mode: Mode
) -> None:
    found = score(view64, tiny_task, svds, keys, scorer="energy", mode=mode)
    for key in keys:
        u, s, vh = plain.svd(plain64, key)
        x = plain.record(plain64, key, encoded(tiny_task)).x
        mean = x.mean(axis=0) if mode == "freeze" else 0.0
        written = [np.outer((x - mean) @ u[:, i], s[i] * vh[i]) for i in range(len(s))]
        expected = [np.square(one).sum(axis=1).mean() for one in written]
        np.testing.assert_allclose(found.matrices[key].score, expected, rtol=1e-6, atol=1e-12, err_msg=str(key))
    same_means(found, score(view64, tiny_task, svds, keys, mode=mode))


def test_random_scores_follow_their_seed(view: View, tiny_task: Task, svds: SvdCache) -> None:
    keys = matrices(view, [Kind.K])

    def draw(seed: int) -> torch.Tensor:
        found = score(view, tiny_task, svds, keys, scorer="random", seed=seed)
        return torch.cat([found.matrices[key].score for key in keys])

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    values = torch.cat([draw(seed) for seed in range(30)])
    assert abs(float(values.mean())) < 0.1
    assert abs(float(values.std()) - 1) < 0.1


def same_means(found: Scores, reference: Scores) -> None:
    for key, matrix in found.matrices.items():
        torch.testing.assert_close(matrix.c, reference.matrices[key].c)
