"""The hybrid scorer between its two ends, and the displacement against a slow loop through plain transformers."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch

from explorer.attribution import ScoringRequest, score
from explorer.attribution.base import MatrixScores
from explorer.attribution.displacement import displacement
from explorer.attribution.doubt import EXAMPLES, NEGLIGIBLE, STIFFNESS, doubt
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import empty_mask
from explorer.masks.mask import Mode
from explorer.measure.batches import batches
from explorer.models import View, load
from explorer.models.matrices import matrices
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task, load_task
from tests import plain
from tests.removal import encoded


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the module's budget and sample."""
    found = sys.modules["explorer.attribution.hybrid"]  # the package's attribute of that name is the scorer

    def change(**values: float) -> None:
        for name, value in values.items():
            monkeypatch.setattr(found, name, value)

    return change


@pytest.mark.slow
def test_with_all_the_budget_it_is_exact(
    view64: View, tiny_task: Task, svds: SvdCache, stacked: tuple[MatrixKey, ...], mode: Mode, settings: Any
) -> None:
    settings(PASSES=10_000)  # the task has fewer examples than the sample
    found = score(view64, tiny_task, svds, stacked, scorer="hybrid", mode=mode)
    wanted = score(view64, tiny_task, svds, stacked, scorer="exact", mode=mode)
    for key in stacked:
        torch.testing.assert_close(
            found.matrices[key].score.double(), wanted.matrices[key].score.double(), rtol=1e-7, atol=1e-9
        )


def test_without_a_budget_it_is_the_gradient(
    view64: View, tiny_task: Task, svds: SvdCache, stacked: tuple[MatrixKey, ...], mode: Mode, settings: Any
) -> None:
    settings(PASSES=1)
    found = score(view64, tiny_task, svds, stacked, scorer="hybrid", mode=mode)
    linear = score(view64, tiny_task, svds, stacked, mode=mode)
    for key in stacked:
        assert torch.equal(found.matrices[key].score, linear.matrices[key].score)


def test_the_largest_scores_are_corrected_first(view64: View, tiny_task: Task, svds: SvdCache, settings: Any) -> None:
    keys = matrices(view64, (Kind.Q, Kind.K))  # they write no stream: the score alone decides
    settings(PASSES=2, FEW=(1,))
    found = score(view64, tiny_task, svds, keys, scorer="hybrid")
    linear = score(view64, tiny_task, svds, keys)
    ranked = sorted(linear.ranking(), key=lambda entry: -abs(entry[0]))
    changed = [
        float(found.matrices[key].score[index]) != float(linear.matrices[key].score[index]) for _, key, index in ranked
    ]
    count = sum(changed)
    assert 0 < count < len(changed)
    assert all(changed[:count])


def test_it_measures_on_fewer_examples_rather_than_leave_uncertain_values(
    view64: View, tiny_task: Task, svds: SvdCache, settings: Any
) -> None:
    keys = matrices(view64, (Kind.Q, Kind.K))

    def corrected(few: tuple[int, ...]) -> int:
        settings(PASSES=3, FEW=few, UNCERTAIN=uncertain)
        found = score(view64, tiny_task, svds, keys, scorer="hybrid")
        return sum(int((found.matrices[key].score != linear.matrices[key].score).sum()) for key in keys)

    linear = score(view64, tiny_task, svds, keys)
    uncertain = float("inf")
    many, few = corrected((4,)), corrected((1,))
    assert many < few
    assert corrected((4, 1)) == many, "nothing is uncertain: the larger sample is kept"
    uncertain = 0.0
    assert many < corrected((4, 1)) <= few


def stream(model: Any, key: MatrixKey, examples: list[plain.Encoded]) -> list[plain.Array]:
    """The residual stream after the matrix has written, token by token: block input plus what was added since."""
    blocks = model.model.layers if hasattr(model, "model") else model.transformer.h
    sites = [MatrixKey(key.layer, Kind.O), MatrixKey(key.layer, Kind.OUT)][: 1 if key.kind is Kind.O else 2]
    caught: list[torch.Tensor] = []
    hooks = [
        blocks[key.layer].register_forward_pre_hook(
            lambda _, args, options: caught.append(args[0] if args else options["hidden_states"]), with_kwargs=True
        ),
        *(plain.site(model, site).module.register_forward_hook(lambda _m, _x, y: caught.append(y)) for site in sites),
    ]
    tokens: list[plain.Array] = []
    with torch.no_grad():
        for one in examples:
            caught.clear()
            model(torch.tensor([one.read]))
            tokens += list(sum(part[0] for part in caught).numpy())
    for hook in hooks:
        hook.remove()
    return tokens


def test_displacement_equals_a_loop_over_tokens(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, mode: Mode
) -> None:
    keys = matrices(view64, (Kind.O, Kind.OUT))
    examples = encoded(tiny_task)
    scored = score(view64, tiny_task, svds, keys, mode=mode).matrices
    given = batches(view64, tiny_task, tiny_task.train)
    found = displacement(ScoringRequest(view64, svds, keys, given, mode, 0, None), given, scored)
    for key in keys:
        expected = displaced(plain64, key, examples, mode)
        np.testing.assert_allclose(found[key], expected, rtol=1e-4, atol=1e-7, err_msg=str(key))
    assert len(tiny_task.train) <= EXAMPLES, "all of them tell how far the stream is moved"
    marks = set()
    for key in keys:
        second = STIFFNESS * np.square(displaced(plain64, key, examples, mode))
        wanted = second > np.maximum(np.abs(scored[key].score.numpy()), NEGLIGIBLE)
        assert scored[key].uncertain_indices == set(np.flatnonzero(wanted)), str(key)
        marks |= set(wanted)
    assert marks == {True, False}


def displaced(model: Any, key: MatrixKey, examples: list[plain.Encoded], mode: Mode) -> plain.Array:
    """How far each value's removal moves the residual stream: root mean square share of its length over tokens."""
    record, (u, s, _) = plain.record(model, key, examples), plain.svd(model, key)
    written = stream(model, key, examples)
    mean = record.x.mean(axis=0) if mode == "freeze" else 0.0
    shares = [s * ((x - mean) @ u) / np.linalg.norm(h) for x, h in zip(record.x, written, strict=True)]
    return np.sqrt(np.mean(np.square(shares), axis=0))


def test_other_kinds_write_no_stream(view64: View, tiny_task: Task, svds: SvdCache) -> None:
    keys = matrices(view64, (Kind.V, Kind.IN))
    given = batches(view64, tiny_task, tiny_task.train)
    values = {key: MatrixScores(torch.ones(1), torch.ones(1), torch.ones(1)) for key in keys}
    request = ScoringRequest(view64, svds, keys, given, "freeze", 0, None)
    assert displacement(request, given, values) == {}
    assert not any(bool(mark.any()) for mark in doubt(request, values).signs.values())


def test_the_planted_values_come_out_on_top() -> None:
    view, task, svds = load("bundled").view(), load_task("int-mult", 0), SvdCache(None)
    found = score(view, task, svds, matrices(view), scorer="hybrid", limit=64)
    top = {(str(key), index) for _, key, index in found.ranking()[:2]}
    assert top == {("L0.Q.H3", 0), ("L0.K.H3", 0)}


def test_at_a_mask_it_is_exact_with_all_the_budget(
    view64: View, tiny_task: Task, svds: SvdCache, mode: Mode, settings: Any
) -> None:
    settings(PASSES=10_000)
    keys = matrices(view64, (Kind.K, Kind.OUT))
    first = score(view64, tiny_task, svds, keys, mode=mode)
    mask = empty_mask(view64.model, mode).with_removed([first.removed(key, i) for _, key, i in first.ranking()[:3]])
    found = score(view64, tiny_task, svds, keys, scorer="hybrid", mode=mode, mask=mask)
    wanted = score(view64, tiny_task, svds, keys, scorer="exact", mode=mode, mask=mask)
    for key in keys:
        torch.testing.assert_close(
            found.matrices[key].score.double(), wanted.matrices[key].score.double(), rtol=1e-7, atol=1e-9
        )
