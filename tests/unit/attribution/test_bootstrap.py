"""Bootstrap standard errors against scores taken from scratch on the resampled examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from explorer.attribution import Options, score
from explorer.core.errors import SettingsError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.mask import Mode
from explorer.models import View, load
from explorer.models.matrices import matrices
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests import plain, tiny
from tests.families import FAMILIES
from tests.removal import encoded

KEYS = (MatrixKey(1, Kind.K, 1), MatrixKey(0, Kind.O, 0), MatrixKey(1, Kind.V), MatrixKey(0, Kind.IN))


def drawn(task: Task, times: int, seed: int = 0) -> list[list[int]]:
    """Which examples every resample holds: uniform draws with replacement by seed."""
    n = len(task.train)
    rows: list[list[int]] = torch.randint(n, (times, n), generator=torch.Generator().manual_seed(seed)).tolist()
    return rows


def resampled(task: Task, rows: Sequence[int]) -> Task:
    return dataclasses.replace(task, train=tuple(task.train[row] for row in rows))


def test_gradient_errors_are_the_spread_of_scores_taken_from_scratch(
    view64: View, tiny_task: Task, svds: SvdCache, mode: Mode
) -> None:
    times = 7
    found = score(view64, tiny_task, svds, KEYS, mode=mode, options=Options(bootstrap=times))
    fresh = [score(view64, resampled(tiny_task, rows), svds, KEYS, mode=mode) for rows in drawn(tiny_task, times)]
    plain_scores = score(view64, tiny_task, svds, KEYS, mode=mode)
    assert found.loss == pytest.approx(plain_scores.loss)
    for key in KEYS:
        one, reference = found.matrices[key], plain_scores.matrices[key]
        scale = float(reference.score.abs().max())
        torch.testing.assert_close(one.score, reference.score, rtol=1e-9, atol=1e-9 * scale)
        torch.testing.assert_close(one.c, reference.c, rtol=1e-9, atol=1e-9)
        expected = torch.stack([other.matrices[key].score for other in fresh]).std(dim=0)
        torch.testing.assert_close(one.stderr, expected, rtol=1e-6, atol=1e-9 * scale)
        assert float(expected.max()) > 0.05 * scale


def test_curvature_errors_are_the_spread_over_examples_with_the_frozen_means_held_fixed(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache
) -> None:
    """The spread is that of first-order effects, taken one example at a time, and some more from the second order."""
    key, times = MatrixKey(1, Kind.V), 9
    u, s, vh = plain.svd(plain64, key)
    c = plain.record(plain64, key, encoded(tiny_task)).x.mean(axis=0) @ u
    effects = []
    for one in encoded(tiny_task):
        record = plain.record(plain64, key, [one])
        effects.append(-s * ((record.x @ u - c) * (record.g @ vh.T)).sum(axis=0))
    samples = np.array([np.mean([effects[row] for row in rows], axis=0) for rows in drawn(tiny_task, times)])
    options = Options(bootstrap=times, draws=400)
    found = score(view64, tiny_task, svds, [key], scorer="curvature", options=options).matrices[key]
    assert found.stderr is not None
    ratio = np.median(found.stderr.numpy() / samples.std(axis=0, ddof=1))
    assert 0.5 < ratio < 5
    without = score(view64, tiny_task, svds, [key], scorer="curvature", options=Options(draws=400)).matrices[key]
    torch.testing.assert_close(found.score, without.score)
    assert without.stderr is None


def test_integrated_errors_hold_path_and_frozen_means_fixed(view64: View, tiny_task: Task, svds: SvdCache) -> None:
    key = MatrixKey(0, Kind.OUT)
    for steps in (1, 4):
        plain_scores = score(view64, tiny_task, svds, [key], scorer="integrated", options=Options(steps=steps))
        options = Options(steps=steps, bootstrap=11)
        found = score(view64, tiny_task, svds, [key], scorer="integrated", options=options).matrices[key]
        torch.testing.assert_close(found.score, plain_scores.matrices[key].score, rtol=1e-8, atol=1e-10)
        assert found.stderr is not None
        assert bool((found.stderr > 0).all())


def test_errors_shrink_with_the_square_root_of_the_examples(view64: View, tiny_task: Task, svds: SvdCache) -> None:
    more = dataclasses.replace(tiny_task, train=tiny_task.train * 9)
    options = Options(bootstrap=300)
    few, many = (score(view64, task, svds, KEYS, options=options, mode="zero") for task in (tiny_task, more))
    ratios = torch.cat([few.matrices[key].stderr / many.matrices[key].stderr for key in KEYS])
    assert float(ratios.median()) == pytest.approx(3.0, rel=0.15)


@pytest.mark.parametrize("scorer", ["gradient", "integrated", "curvature"])
def test_resamples_follow_their_seed(view: View, tiny_task: Task, svds: SvdCache, scorer: str) -> None:
    keys = matrices(view, [Kind.K], [0])
    options = Options(bootstrap=5, steps=2)

    def errors(seed: int) -> torch.Tensor:
        found = score(view, tiny_task, svds, keys, scorer=scorer, seed=seed, options=options)
        return torch.cat([found.matrices[key].stderr for key in keys])

    assert torch.equal(errors(1), errors(1))
    assert not torch.equal(errors(1), errors(2))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_can_be_scored_one_example_at_a_time(
    name: str, tiny_task: Task, svds: SvdCache, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Projected gradients, with nothing that needs a gradient before the first matrix, equal weight gradients."""
    model = load(str(FAMILIES[name].save(tmp_path_factory.mktemp(name))), dtype="float32", device="cpu")
    view = dataclasses.replace(model, tokenizer=tiny.tokenizer()).view()
    keys = matrices(view)
    usual = score(view, tiny_task, svds, keys)
    found = score(view, tiny_task, svds, keys, options=Options(bootstrap=2))
    largest = max(float(one.score.abs().max()) for one in usual.matrices.values())
    for key in keys:
        torch.testing.assert_close(
            found.matrices[key].score, usual.matrices[key].score, rtol=1e-3, atol=1e-5 * max(largest, 1.0)
        )
        torch.testing.assert_close(found.matrices[key].c, usual.matrices[key].c, rtol=1e-3, atol=1e-5)


def test_scorers_without_standard_errors_say_so(view: View, tiny_task: Task, svds: SvdCache) -> None:
    with pytest.raises(SettingsError, match="exact has no bootstrap standard errors: choose one of gradient, "):
        score(view, tiny_task, svds, [MatrixKey(0, Kind.Q)], scorer="exact", options=Options(bootstrap=3))
    with pytest.raises(SettingsError, match="one resample has no spread"):
        Options(bootstrap=1)
