"""Interactions against plain transformers, and Shapley values against all orders."""

from __future__ import annotations

import copy
import json
import math
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import torch

from explorer.attribution import interactions as module
from explorer.attribution import score
from explorer.attribution.interactions import Interactions, interactions
from explorer.core.errors import SettingsError
from explorer.core.keys import MatrixKey
from explorer.masks.mask import Removed, parse_mask
from explorer.measure.batches import batches
from explorer.models import Model, View
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests import plain
from tests.commands import refused, report, run
from tests.unit.test_mask_files import VALID

PLACES = (("L0.Q.H1", 0), ("L0.K.H1", 0), ("L0.K.H1", 2), ("L1.OUT", 1), ("L1.V.H0", 0), ("L0.IN", 3))


def values(view: View, task: Task, svds: SvdCache) -> list[Removed]:
    keys = [MatrixKey.parse(matrix) for matrix, _ in PLACES]
    scores = score(view, task, svds, list(dict.fromkeys(keys)))
    return [scores.removed(key, index) for key, (_, index) in zip(keys, PLACES, strict=True)]


def measured(view: View, task: Task, svds: SvdCache, **how: Any) -> Interactions:
    return interactions(view, batches(view, task, task.train), svds, removed=values(view, task, svds), **how)


def without(model: Any, task: Task, removed: list[Removed]) -> float:
    """Mean loss of the plain model with values taken out by hand, each with its frozen mean in the bias."""
    edited = copy.deepcopy(model)
    for one in removed:
        key, i = MatrixKey.parse(one.matrix), one.index
        u, s, vh = plain.svd(model, key)
        where = plain.site(edited, key)
        where.weight().sub_(torch.tensor(s[i] * np.outer(u[:, i], vh[i])))
        if where.module.bias is None:
            where.module.bias = torch.nn.Parameter(torch.zeros(where.module.weight.shape[0], dtype=torch.float64))
        where.module.bias.data[where.columns] += torch.tensor(s[i] * one.c * vh[i])
    return plain.mean_loss(edited, [plain.encode_words(one) for one in task.train])


@pytest.mark.slow
def test_pairs_are_those_of_plain_weights(model64: Model, plain64: Any, tiny_task: Task, svds: SvdCache) -> None:
    view = model64.view()
    removed, found = values(view, tiny_task, svds), measured(view, tiny_task, svds)
    unpruned = without(plain64, tiny_task, [])
    singles = [without(plain64, tiny_task, [one]) - unpruned for one in removed]
    np.testing.assert_allclose([one.effect for one in found.values], singles, atol=1e-6)
    for one in found.pairs[::4]:
        both = without(plain64, tiny_task, [removed[one.first], removed[one.second]]) - unpruned
        assert one.effect == pytest.approx(both, abs=1e-6)
        assert one.interaction == pytest.approx(both - singles[one.first] - singles[one.second], abs=1e-6)
    assert found.together[0] == pytest.approx(without(plain64, tiny_task, removed) - unpruned, abs=1e-6)
    assert [(one.first, one.second) for one in found.pairs] == list(combinations(range(6), 2))
    assert not view.applied


@pytest.mark.slow
def test_shapley_values_are_the_mean_over_all_orders(
    view: View, tiny_task: Task, svds: SvdCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measured(view, tiny_task, svds)
    assert (found.orders, found.masks) == (0, 2**6 - 1)
    assert math.fsum(one.share for one in found.values) == pytest.approx(found.together[0], abs=1e-6)
    monkeypatch.setattr(module, "EXACT", 1)
    drawn = measured(view, tiny_task, svds, orders=40, seed=3)
    assert drawn.orders == 40
    for exact, guess in zip(found.values, drawn.values, strict=True):
        assert guess.share_stderr is not None
        assert abs(guess.share - exact.share) <= 4 * guess.share_stderr + 1e-6
    assert math.fsum(one.share for one in drawn.values) == pytest.approx(drawn.together[0], abs=1e-5)
    assert drawn.greedy == found.greedy


def test_shapley_values_of_a_known_game_are_those_of_all_orders() -> None:
    """The weights over subsets, against the definition: every order, one after the other."""
    generator = np.random.default_rng(0)
    game = {
        frozenset(some): float(generator.standard_normal()) for k in range(1, 7) for some in combinations(range(6), k)
    }
    game[frozenset()] = 0.0

    class Known(module.Sets):
        def change(self, gone: frozenset[int], value: int) -> float:
            return game[gone | {value}] - game[gone]

    table = Known((), parse_mask(json.dumps(VALID)), (), measure=lambda masks, stage: [])
    found, errors = module.shares(table, 6, 8, seed=0)
    orders = list(permutations(range(6)))
    for i in range(6):
        mean = math.fsum(game[frozenset(o[: o.index(i) + 1])] - game[frozenset(o[: o.index(i)])] for o in orders)
        assert found[i] == pytest.approx(mean / len(orders))
    assert errors == [None] * 6


def test_the_greedy_order_takes_the_best_next(view: View, tiny_task: Task, svds: SvdCache) -> None:
    found = measured(view, tiny_task, svds)
    first = found.greedy[0]
    assert first.effect == min(one.effect for one in found.values)
    second = [one for one in found.pairs if first.value in (one.first, one.second)]
    assert found.greedy[1].effect == min(one.effect for one in second)
    assert sorted(one.value for one in found.greedy) == list(range(6))
    assert found.greedy[-1].effect == found.together[0]
    for cluster in found.clusters:
        assert any(
            {one.first, one.second} <= set(cluster) and abs(one.interaction) > 2 * one.stderr for one in found.pairs
        )


def test_what_cannot_be_measured_is_refused(view: View, tiny_task: Task, svds: SvdCache) -> None:
    removed, cut = values(view, tiny_task, svds), batches(view, tiny_task, tiny_task.train)
    for some in (removed[:1], [removed[0], removed[0]]):
        with pytest.raises(SettingsError, match="give 2 to 32"):
            interactions(view, cut, svds, removed=some)
    with pytest.raises(SettingsError, match="an even number"):
        interactions(view, cut, svds, removed=removed, orders=5)


@pytest.mark.slow
def test_the_command_says_what_does_not_add_up() -> None:
    words = ("interactions", "--model", "bundled", "--task", "int-mult", "--limit", "16")
    found = report(*words, "--value", "L0.Q.H3:0,1", "--value", "L0.K.H3:0")
    assert [(one["matrix"], one["index"]) for one in found["values"]] == [
        ("L0.Q.H3", 0),
        ("L0.Q.H3", 1),
        ("L0.K.H3", 0),
    ]
    assert len(found["pairs"]) == 3
    assert "furthest from the sum" in run(*words, "--value", "L0.Q.H3:0,1").stdout
    assert "give one" in refused(*words)
    assert "give 2 to 32" in refused(*words, "--value", "L0.Q.H3:0")
    assert "0 to 31" in refused(*words, "--value", "L0.Q.H3:0,99")
