"""First order plus half the Gauss-Newton diagonal, against finite differences of logits and losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from explorer.attribution import Options, score
from explorer.attribution.curvature import draw
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.mask import Mode
from explorer.models import View
from explorer.search import mask_of
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task
from tests import plain
from tests.removal import STEP, encoded, mean_read, removal_path, second_derivative

KEYS = (MatrixKey(1, Kind.Q, 0), MatrixKey(0, Kind.V), MatrixKey(1, Kind.OUT))


def logits(model: Any, one: plain.Encoded, change: Any) -> plain.Array:
    """Logits of one example's answer tokens [answer_token, vocabulary], with something changed."""
    with torch.no_grad(), plain.on_output(*change):
        found = model(torch.tensor([one.read])).logits[0]
    return found[one.first : one.first + len(one.answer)].double().numpy()


def gauss_newton(model: Any, key: MatrixKey, index: int, c: float, task: Task) -> tuple[float, float]:
    """J^T (diag p - p p^T) J, and what the Hessian has besides: (p - y) . d2 logits; both by finite differences."""
    u, s, vh = (torch.tensor(part) for part in plain.svd(model, key))
    where = plain.site(model, key)

    def moved(t: float) -> tuple[Any, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]:
        def change(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            made = y.clone()
            made[..., where.columns] -= t * s[index] * (x[..., where.rows] @ u[:, index] - c)[..., None] * vh[index]
            return made

        return where.module, change

    newton = rest = 0.0
    for one in encoded(task):
        low, middle, high = (logits(model, one, moved(t)) for t in (-STEP, 0.0, STEP))
        p = np.exp(middle - middle.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        J, bend = (high - low) / (2 * STEP), (high - 2 * middle + low) / STEP**2
        newton += float(((p * J**2).sum(axis=1) - (p * J).sum(axis=1) ** 2).sum())
        rest += float((p * bend).sum() - sum(bend[k, token] for k, token in enumerate(one.answer)))
    return newton / len(task.train), rest / len(task.train)


@pytest.fixture
def short_task() -> Task:
    """Two examples, one of them with an answer of two tokens."""
    rows = (Example("w1 w2 w3", " w4"), Example("w5 w6", " w7 w8"))
    return Task("short", "", rows, rows, rows, seed=0)


@pytest.mark.slow
def test_the_second_order_term_is_the_gauss_newton_diagonal(
    view64: View, plain64: Any, short_task: Task, svds: SvdCache, mode: Mode
) -> None:
    """Drawn answers estimate it: within 4 standard errors of a chi-square with as many degrees of freedom as draws."""
    options = Options(draws=300)
    first = score(view64, short_task, svds, KEYS, mode=mode)
    found = score(view64, short_task, svds, KEYS, scorer="curvature", mode=mode, options=options)
    assert found.loss == pytest.approx(first.loss)
    ratios = []
    for key in KEYS:
        svd = plain.svd(plain64, key)
        for index in (0, 2):
            c = mean_read(plain64, key, svd, short_task)[index] if mode == "freeze" else 0.0
            newton, rest = gauss_newton(plain64, key, index, c, short_task)
            whole = second_derivative(removal_path(plain64, key, svd, index, c, short_task))
            assert newton + rest == pytest.approx(whole, rel=1e-3, abs=1e-5), "the reference must add up to the Hessian"
            added = float(found.matrices[key].score[index] - first.matrices[key].score[index])
            ratios.append(2 * added / newton)
    assert ratios == pytest.approx([1.0] * len(ratios), abs=0.6)
    assert float(np.mean(ratios)) == pytest.approx(1.0, abs=0.2)


def test_more_draws_only_sharpen_the_second_order_term(
    view64: View, tiny_task: Task, svds: SvdCache, mode: Mode
) -> None:
    first = score(view64, tiny_task, svds, KEYS, mode=mode)
    for draws, seed in ((1, 0), (1, 1), (3, 0)):
        options = Options(draws=draws)
        found = score(view64, tiny_task, svds, KEYS, scorer="curvature", mode=mode, seed=seed, options=options)
        again = score(view64, tiny_task, svds, KEYS, scorer="curvature", mode=mode, seed=seed, options=options)
        for key in KEYS:
            assert torch.equal(found.matrices[key].score, again.matrices[key].score)
            assert bool((found.matrices[key].score >= first.matrices[key].score - 1e-9).all()), "never negative"
            torch.testing.assert_close(found.matrices[key].c, first.matrices[key].c)


def test_flipping_a_value_back_costs_the_same_curvature(view64: View, tiny_task: Task, svds: SvdCache) -> None:
    """At a mask the first-order term turns its sign for a removed value, the second-order one does not."""
    key = MatrixKey(1, Kind.V)
    clean = score(view64, tiny_task, svds, [key])
    mask = mask_of(view64, clean, [clean.removed(key, 1)])
    first = score(view64, tiny_task, svds, [key], mask=mask).matrices[key]
    found = score(view64, tiny_task, svds, [key], scorer="curvature", mask=mask).matrices[key]
    assert bool((found.score - first.score >= -1e-9).all())
    assert float(found.score[1] - first.score[1]) > 0
    assert float(found.c[1]) == mask.removed[0].c


def test_answers_are_drawn_from_the_softmax() -> None:
    p = torch.tensor([0.7, 0.2, 0.1])
    drawn = draw(p.log().expand(20_000, 3) + 5.0, torch.Generator().manual_seed(0))
    assert torch.bincount(drawn) / 20_000 == pytest.approx(p, abs=0.02)
