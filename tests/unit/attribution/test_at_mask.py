"""Scores at a mask against the plain model with that mask put onto it by hand: what flipping each value does now."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from explorer.attribution import SCORERS, Options, Scores, score
from explorer.core.errors import MaskError, SettingsError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask, Mode
from explorer.models import View
from explorer.models.matrices import matrices
from explorer.search import mask_of
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests import plain
from tests.removal import derivative, encoded, masked, mean_read, removal_path

KEYS = (MatrixKey(0, Kind.V, 1), MatrixKey(0, Kind.OUT), MatrixKey(1, Kind.K, 0), MatrixKey(1, Kind.O, 1))
ELSEWHERE = MatrixKey(0, Kind.IN)


@pytest.fixture(params=[0.0, 0.4], ids=["removed", "scaled"])
def mask(view64: View, tiny_task: Task, svds: SvdCache, mode: Mode, request: pytest.FixtureRequest) -> Mask:
    """Values of three scored matrices and of one that is not scored, with frozen means that are not the data's own."""
    clean = score(view64, tiny_task, svds, (*KEYS, ELSEWHERE), mode=mode)
    places = [(KEYS[0], 0), (KEYS[1], 2), (KEYS[1], 3), (KEYS[3], 1), (ELSEWHERE, 0), (ELSEWHERE, 4)]
    return mask_of(view64, clean, [shifted(clean, key, index) for key, index in places], gain=request.param)


def shifted(clean: Scores, key: MatrixKey, index: int) -> Any:
    one = clean.removed(key, index)
    return one.model_copy(update={"c": one.c + 0.3})


def frozen(model: Any, mask: Mask, key: MatrixKey, svd: tuple[plain.Array, ...], task: Task) -> plain.Array:
    """What stands in for every value: the masked model's mean for a kept one, the mask's for a removed one."""
    c = mean_read(model, key, svd, task)
    for one in mask.by_matrix.get(key, ()):
        c[one.index] = one.c
    return c


@pytest.mark.slow
def test_gradient_scores_are_the_slopes_of_flipping_each_value(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, mode: Mode, mask: Mask
) -> None:
    found = score(view64, tiny_task, svds, KEYS, mode=mode, mask=mask)
    now = masked(plain64, mask)
    assert found.loss == pytest.approx(plain.mean_loss(now, encoded(tiny_task)), rel=1e-7)
    for key in KEYS:
        svd = plain.svd(plain64, key)
        c = frozen(now, mask, key, svd, tiny_task)
        np.testing.assert_allclose(found.matrices[key].c, c, rtol=1e-5, atol=1e-6)
        for index in {0, 1, 2, 3, len(c) - 1}:
            step = (1 - mask.gain) * (1 if index in mask.indices(key) else -1)
            path = removal_path(now, key, svd, index, c[index] if mode == "freeze" else 0.0, tiny_task, step)
            expected = derivative(path)
            assert float(found.matrices[key].score[index]) == pytest.approx(expected, rel=1e-5, abs=1e-6), (key, index)


@pytest.mark.slow
def test_exact_scores_are_what_apply_then_does(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, mode: Mode, mask: Mask
) -> None:
    found = score(view64, tiny_task, svds, KEYS, scorer="exact", mode=mode, mask=mask)
    now = plain.mean_loss(masked(plain64, mask), encoded(tiny_task))
    for key, index in ((KEYS[0], 0), (KEYS[0], 2), (KEYS[1], 3), (KEYS[2], 1), (KEYS[3], 1), (KEYS[3], 0)):
        if index in mask.indices(key):
            after = mask.without({(str(key), index)})
        else:
            after = mask.with_removed([found.removed(key, index)])
        change = plain.mean_loss(masked(plain64, after), encoded(tiny_task)) - now
        assert float(found.matrices[key].score[index]) == pytest.approx(change, abs=2e-6), (key, index)
        assert found.predicted(after) == pytest.approx(float(found.matrices[key].score[index]))
    for key in KEYS:
        kept = {one.index: one.c for one in mask.by_matrix.get(key, ())}
        assert {index: found.removed(key, index).c for index in kept} == pytest.approx(kept)


@pytest.mark.slow
@pytest.mark.parametrize("scorer", [name for name, spec in SCORERS.items() if spec.at_mask])
def test_the_empty_mask_changes_nothing_and_the_view_keeps_the_mask(
    view64: View, tiny_task: Task, svds: SvdCache, mode: Mode, mask: Mask, scorer: str
) -> None:
    key, options = KEYS[1], Options(steps=2)
    clean = score(view64, tiny_task, svds, [key], scorer=scorer, mode=mode, options=options)
    assert view64.applied == {}
    nothing = mask.without_all().scaled(0.0)
    empty = score(view64, tiny_task, svds, [key], scorer=scorer, mode=mode, mask=nothing, options=options)
    assert torch.equal(clean.matrices[key].score, empty.matrices[key].score)
    there = score(view64, tiny_task, svds, [key], scorer=scorer, mode=mode, mask=mask, options=options)
    assert not torch.allclose(clean.matrices[key].score, there.matrices[key].score)
    tokens = torch.tensor([[0, 5, 6]])
    left = view64.logits(tokens)
    apply(view64, mask, svds)
    assert torch.equal(view64.logits(tokens), left)
    assert not left.requires_grad
    assert view64.model.current_digest() == view64.model.digest


def test_bootstrapped_scores_at_a_mask_are_the_same_scores(
    view64: View, tiny_task: Task, svds: SvdCache, mode: Mode, mask: Mask
) -> None:
    usual = score(view64, tiny_task, svds, KEYS, mode=mode, mask=mask)
    found = score(view64, tiny_task, svds, KEYS, mode=mode, mask=mask, options=Options(bootstrap=4))
    for key in KEYS:
        torch.testing.assert_close(found.matrices[key].score, usual.matrices[key].score, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(found.matrices[key].c, usual.matrices[key].c, rtol=1e-9, atol=1e-11)


def test_what_cannot_be_scored_at_a_mask_is_refused(view64: View, tiny_task: Task, svds: SvdCache, mask: Mask) -> None:
    other: Mode = "zero" if mask.mode == "freeze" else "freeze"
    with pytest.raises(SettingsError, match=f"the mask removes by {mask.mode}, but scores were asked for {other}"):
        score(view64, tiny_task, svds, KEYS, mode=other, mask=mask)
    with pytest.raises(MaskError, match=r"L0\.V overlaps L0\.V\.H1 of the mask: score matrices as the mask holds them"):
        score(view64, tiny_task, svds, matrices(view64, [Kind.V], [0], per_head=False), mode=mask.mode, mask=mask)
    for name, spec in SCORERS.items():
        if not spec.at_mask:
            with pytest.raises(SettingsError, match=f"{name} cannot score at a mask: choose one of gradient"):
                score(view64, tiny_task, svds, KEYS, scorer=name, mode=mask.mode, mask=mask)


def test_the_prediction_for_a_softer_mask_is_its_share_of_the_way(
    view64: View, tiny_task: Task, svds: SvdCache, mode: Mode, mask: Mask
) -> None:
    clean = score(view64, tiny_task, svds, (*KEYS, ELSEWHERE), mode=mode)
    whole = clean.predicted(mask.scaled(0.0))
    assert whole is not None
    assert clean.predicted(mask) == pytest.approx((1 - mask.gain) * whole)
    keys = (*KEYS, ELSEWHERE)
    there = score(view64, tiny_task, svds, keys, mode=mode, mask=mask)
    assert there.predicted(mask) == 0.0
    restored = there.predicted(mask.without_all())
    assert restored is not None
    for gain in (0.0, 0.2, 0.9):
        assert there.predicted(mask.scaled(gain)) == pytest.approx((gain - mask.gain) / (1 - mask.gain) * restored)
        more = mask.scaled(gain).with_removed([there.removed(KEYS[2], 3)])
        share = (1 - gain) / (1 - mask.gain) * float(there.matrices[KEYS[2]].score[3])
        expected = share + (gain - mask.gain) / (1 - mask.gain) * restored
        assert there.predicted(more) == pytest.approx(expected)


def test_curvature_falls_with_the_square_of_what_is_taken(view64: View, tiny_task: Task, svds: SvdCache) -> None:
    """At an empty mask with a gain, only the step of a score is smaller: the model is the unpruned one."""
    key, options = KEYS[1], Options(draws=2)
    nothing, found = empty_mask(view64.model), []
    for mask in (nothing, nothing.scaled(0.75)):
        first, second = (
            score(view64, tiny_task, svds, [key], scorer=scorer, mask=mask, options=options).matrices[key].score
            for scorer in ("gradient", "curvature")
        )
        found.append((first, second - first))
    torch.testing.assert_close(found[1][0], 0.25 * found[0][0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[1][1], 0.0625 * found[0][1], rtol=1e-9, atol=1e-12)
