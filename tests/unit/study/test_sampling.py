"""The sample of a study: stratified by layer and rank, with the extremes, by seed."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from explorer.attribution import MatrixScores, Scores
from explorer.core.keys import Kind, MatrixKey
from explorer.experiments.study.sampling import sample


def scores(layers: int = 5, rank: int = 40, kinds: tuple[Kind, ...] = (Kind.Q, Kind.OUT)) -> Scores:
    generator = torch.Generator().manual_seed(0)
    found = {}
    for layer in range(layers):
        for kind in kinds:
            for head in (0, 1) if kind.has_heads else (None,):
                s = torch.ones(rank, dtype=torch.float64)
                value = torch.randn(rank, generator=generator)
                found[MatrixKey(layer, kind, head)] = MatrixScores(s, value, torch.zeros(rank))
    return Scores("gradient", "freeze", "task", "train", 8, 0, 1.0, found)


def test_every_layer_and_every_stratum_has_its_places() -> None:
    given = scores()
    drawn = sample(given, per_kind=20, extremes=0, seed=0)
    assert set(drawn.values()) == {"stratified"}
    assert Counter((key.kind, key.layer) for key, _ in drawn) == {
        (kind, layer): 4 for kind in (Kind.Q, Kind.OUT) for layer in range(5)
    }
    ranking = [(key, index) for _, key, index in given.ranking() if key.kind is Kind.Q and key.layer == 3]
    quarters = sorted(ranking.index(value) * 4 // len(ranking) for value in drawn if value in ranking)
    assert quarters == [0, 1, 2, 3]


def test_extremes_are_the_lowest_and_the_highest_of_the_kind() -> None:
    given = scores()
    drawn = sample(given, per_kind=20, extremes=3, seed=0)
    for kind in (Kind.Q, Kind.OUT):
        ranked = [(key, index) for _, key, index in given.ranking() if key.kind is kind]
        ends = {value for value, group in drawn.items() if group == "extremes" and value[0].kind is kind}
        assert ends == {*ranked[:3], *ranked[-3:]}


@pytest.mark.parametrize("per_kind", [7, 200, 10_000])
def test_a_small_model_gives_what_it_has(per_kind: int) -> None:
    drawn = sample(scores(kinds=(Kind.OUT,)), per_kind=per_kind, extremes=0, seed=0)
    assert len(drawn) == min(per_kind, 200)


def test_equal_seeds_draw_equal_samples_and_others_do_not() -> None:
    given = scores()
    assert sample(given, per_kind=20, extremes=2, seed=1) == sample(given, per_kind=20, extremes=2, seed=1)
    assert sample(given, per_kind=20, extremes=2, seed=1) != sample(given, per_kind=20, extremes=2, seed=2)


def test_what_a_small_layer_cannot_take_goes_to_the_others() -> None:
    given = scores(layers=2, kinds=(Kind.OUT,))
    first, second = given.matrices
    small = MatrixScores(*(getattr(given.matrices[first], name)[:3] for name in ("s", "score", "c")))
    uneven = Scores("gradient", "freeze", "task", "train", 8, 0, 1.0, {first: small, second: given.matrices[second]})
    assert Counter(key.layer for key, _ in sample(uneven, per_kind=20, extremes=0, seed=0)) == {0: 3, 1: 17}
