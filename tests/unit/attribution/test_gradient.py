"""Gradient scores against per-value loops and finite differences through plain transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from explorer.attribution import score
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.mask import Mode
from explorer.models import View
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task
from tests import plain
from tests.removal import derivative, encoded, mean_read, removal_path


def slow_scores(record: plain.Record, svd: tuple[plain.Array, ...], n: int, mode: Mode) -> list[float]:
    """The definition, one value and one token at a time."""
    u, s, vh = svd
    mean = record.x.mean(axis=0) if mode == "freeze" else np.zeros(record.x.shape[1])
    scores = []
    for i in range(len(s)):
        total = 0.0
        for x, g in zip(record.x, record.g, strict=True):
            total += float((x - mean) @ u[:, i]) * float(vh[i] @ g)
        scores.append(-s[i] / n * total)
    return scores


@pytest.mark.slow
def test_scores_equal_the_sum_over_tokens_of_every_value(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, keys: tuple[MatrixKey, ...], mode: Mode
) -> None:
    found = score(view64, tiny_task, svds, keys, mode=mode)
    examples = encoded(tiny_task)
    assert found.loss == pytest.approx(plain.mean_loss(plain64, examples), rel=1e-6)
    assert (found.n, found.mode, found.task, found.split) == (6, mode, "tiny", "train")
    for key in keys:
        record = plain.record(plain64, key, examples)
        svd = plain.svd(plain64, key)
        expected = np.array(slow_scores(record, svd, len(examples), mode))
        matrix = found.matrices[key]
        largest = np.abs(expected).max()
        np.testing.assert_allclose(matrix.score, expected, rtol=1e-5, atol=1e-5 * largest, err_msg=str(key))
        np.testing.assert_allclose(matrix.s, svd[1], rtol=1e-6, err_msg=str(key))
        np.testing.assert_allclose(matrix.c, record.x.mean(axis=0) @ svd[0], rtol=1e-5, atol=1e-6, err_msg=str(key))
        assert largest > 1e-4, "the examples must move the score"
        assert matrix.stderr is None


@pytest.mark.slow
def test_scores_equal_the_finite_difference_derivative(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, keys: tuple[MatrixKey, ...], mode: Mode
) -> None:
    found = score(view64, tiny_task, svds, keys, mode=mode)
    largest = max(float(matrix.score.abs().max()) for matrix in found.matrices.values())
    for place, key in enumerate(keys):
        matrix, svd = found.matrices[key], plain.svd(plain64, key)
        index = place % len(matrix.s)
        c = mean_read(plain64, key, svd, tiny_task)[index] if mode == "freeze" else 0.0
        slope = derivative(removal_path(plain64, key, svd, index, c, tiny_task))
        assert float(matrix.score[index]) == pytest.approx(slope, rel=1e-6, abs=1e-6 * largest), f"{key}, value {index}"


def test_what_never_varies_scores_zero_in_freeze_mode_only(view64: View, svds: SvdCache) -> None:
    """Without BOS and with prompts of one and the same word, every input is the mean input."""
    task = Task("constant", "", *((Example("w1", " w3"),) * 3,) * 3, seed=0, bos=False)
    key = MatrixKey(1, Kind.V)
    modes: tuple[Mode, ...] = ("freeze", "zero")
    largest = {
        mode: float(score(view64, task, svds, [key], mode=mode).matrices[key].score.abs().max()) for mode in modes
    }
    assert largest["freeze"] < 1e-6
    assert largest["zero"] > 1e-3
