"""The exact scorer against hand-made weights; the measurement behind it has tests of its own."""

from __future__ import annotations

from typing import Any

import pytest

from explorer.attribution import score
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.mask import Mode
from explorer.models import View
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests import plain
from tests.removal import encoded


@pytest.mark.slow
def test_exact_scores_equal_hand_made_weights(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, mode: Mode
) -> None:
    keys = (MatrixKey(1, Kind.K, 1), MatrixKey(0, Kind.O, 2), MatrixKey(1, Kind.V), MatrixKey(0, Kind.OUT))
    found = score(view64, tiny_task, svds, keys, scorer="exact", mode=mode)
    examples = encoded(tiny_task)
    base = plain.mean_loss(plain64, examples)
    for key in keys:
        mean = plain.record(plain64, key, examples).x.mean(axis=0) if mode == "freeze" else None
        for index in {0, len(found.matrices[key].s) - 1, 2}:
            edited = plain.without_value(plain64, key, index, mean)
            expected = plain.mean_loss(edited, examples) - base
            assert float(found.matrices[key].score[index]) == pytest.approx(expected, abs=2e-6), f"{key}, value {index}"
        assert float(found.matrices[key].score.abs().max()) > 1e-3
    assert found.loss == pytest.approx(base, abs=1e-6)
