"""Scores averaged along the removal path: complete, convergent, and the gradient where the loss is linear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import explorer.attribution.passes
import explorer.attribution.sums
from explorer.attribution import Options, Scores, score
from explorer.core.errors import SettingsError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.mask import Mode
from explorer.measure.metrics import Outcome, run
from explorer.models import View
from explorer.models.matrices import matrices, output_hook
from explorer.search import mask_of
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests import plain
from tests.removal import derivative, encoded, masked, mean_read, without


def total(found: Scores) -> float:
    return sum(float(matrix.score.sum()) for matrix in found.matrices.values())


def ablated(model: Any, keys: tuple[MatrixKey, ...], task: Task, mode: Mode) -> float:
    """Mean loss with everything removed from some stacked matrices of the plain model, by hand."""
    edited = without(model, [])
    for key in keys:
        where = plain.site(edited, key)
        mean = plain.record(model, key, encoded(task)).x.mean(axis=0)
        frozen = torch.tensor(mean) @ where.weight()
        where.weight().zero_()
        if mode == "freeze":
            if where.module.bias is None:
                where.module.bias = torch.nn.Parameter(torch.zeros_like(frozen))
            where.module.bias.data[where.columns] += frozen
    return plain.mean_loss(edited, encoded(task))


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [(Kind.Q, Kind.V), (Kind.O, Kind.IN, Kind.OUT)])
def test_the_scores_of_a_joint_path_add_up_to_the_exact_joint_effect(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, mode: Mode, kinds: tuple[Kind, ...]
) -> None:
    keys = matrices(view64, kinds)
    exact = ablated(plain64, matrices(view64, kinds, per_head=False), tiny_task, mode) - plain.mean_loss(
        plain64, encoded(tiny_task)
    )
    errors = [
        abs(
            total(score(view64, tiny_task, svds, keys, scorer="integrated", mode=mode, options=Options(steps=k)))
            - exact
        )
        for k in (1, 32)
    ]
    assert abs(exact) > 1e-2
    assert errors[1] < 3e-3 * abs(exact)
    assert errors[1] < errors[0]


@pytest.mark.slow
def test_each_matrix_of_separate_paths_adds_up_to_its_own_effect(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, mode: Mode
) -> None:
    keys = (MatrixKey(0, Kind.K), MatrixKey(0, Kind.OUT))
    options = Options(steps=32, path="matrix")
    found = score(view64, tiny_task, svds, keys, scorer="integrated", mode=mode, options=options)
    base = plain.mean_loss(plain64, encoded(tiny_task))
    for key in keys:
        exact = ablated(plain64, (key,), tiny_task, mode) - base
        assert float(found.matrices[key].score.sum()) == pytest.approx(exact, rel=2e-3, abs=1e-6), str(key)


def test_one_step_is_the_gradient_halfway(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, mode: Mode
) -> None:
    """The one-point rule takes the middle: the slope of a value's own removal in the half-removed model."""
    key, index = MatrixKey(1, Kind.V), 2
    options = Options(steps=1)
    found = score(view64, tiny_task, svds, [key], scorer="integrated", mode=mode, options=options).matrices[key]
    svd = plain.svd(plain64, key)
    c = mean_read(plain64, key, svd, tiny_task) if mode == "freeze" else np.zeros(len(svd[1]))

    def loss(t: float) -> float:
        W = svd[0] @ np.diag(svd[1] * (0.5 - t * (np.arange(len(svd[1])) == index))) @ svd[2]
        gone = 0.5 + t * (np.arange(len(svd[1])) == index)
        edited = without(plain64, [])
        where = plain.site(edited, key)
        where.weight().copy_(torch.tensor(W))
        if where.module.bias is None:
            where.module.bias = torch.nn.Parameter(torch.zeros(W.shape[1], dtype=torch.float64))
        where.module.bias.data[where.columns] += torch.tensor((gone * svd[1] * c) @ svd[2])
        return plain.mean_loss(edited, encoded(tiny_task))

    assert float(found.score[index]) == pytest.approx(derivative(loss), rel=1e-5)


def test_it_equals_the_gradient_where_the_loss_is_linear_along_the_path(
    view64: View, tiny_task: Task, svds: SvdCache, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is a linear function of what one matrix puts out, read with a hook, in place of the task's loss."""
    direction = torch.randn(int(view64.config.d_model), generator=torch.Generator().manual_seed(0)).double()

    def linear(view: View, batch: Any) -> Outcome:
        written: list[torch.Tensor] = []
        with view.bridge.hooks(fwd_hooks=[(output_hook(keys[0]), lambda y, hook: written.append(y))]):
            found = run(view, batch)
        weights = batch.real * torch.arange(batch.real.shape[1]).cos()
        loss = ((written[0] @ direction) * weights).sum(dim=1)
        return Outcome(loss, found.correct, found.predicted)

    for module in (explorer.attribution.passes, explorer.attribution.sums):
        monkeypatch.setattr(module, "run", linear)
    keys = (MatrixKey(1, Kind.OUT),)
    first = score(view64, tiny_task, svds, keys, mode=mode).matrices[keys[0]]
    for steps in (1, 3):
        options = Options(steps=steps)
        found = score(view64, tiny_task, svds, keys, scorer="integrated", mode=mode, options=options).matrices[keys[0]]
        torch.testing.assert_close(found.score, first.score, rtol=1e-5, atol=1e-6 * float(first.score.abs().max()))
    assert float(first.score.abs().max()) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("gain", [0.0, 0.3])
def test_at_a_mask_the_path_ends_where_every_value_is_flipped(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, mode: Mode, gain: float
) -> None:
    keys = (MatrixKey(1, Kind.V, 0), MatrixKey(1, Kind.OUT))
    clean = score(view64, tiny_task, svds, keys, mode=mode)
    chosen = [clean.removed(keys[0], 1), clean.removed(keys[1], 0), clean.removed(keys[1], 5)]
    mask = mask_of(view64, clean, chosen, gain=gain)
    options = Options(steps=32)
    found = score(view64, tiny_task, svds, keys, scorer="integrated", mode=mode, mask=mask, options=options)
    kept = [(key, i) for key in keys for i in range(len(found.matrices[key].s)) if i not in mask.indices(key)]
    flipped = mask.without_all().with_removed([found.removed(key, index) for key, index in kept])
    now, then = (plain.mean_loss(masked(plain64, one), encoded(tiny_task)) for one in (mask, flipped))
    assert found.loss == pytest.approx(now, rel=1e-6)
    assert found.predicted(flipped) == pytest.approx(then - now, rel=2e-3)
    assert found.predicted(flipped) == pytest.approx(total(found))


def test_a_matrix_cannot_be_on_the_path_twice(view: View, tiny_task: Task, svds: SvdCache) -> None:
    keys = (MatrixKey(0, Kind.K), MatrixKey(0, Kind.K, 1))
    with pytest.raises(SettingsError, match=r"L0\.K and L0\.K\.H1 overlap on the path"):
        score(view, tiny_task, svds, keys, scorer="integrated")
