"""Controls match the mask in what they say they match, and in nothing else."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest

from explorer.attribution import Scores, score
from explorer.core.errors import SettingsError
from explorer.core.keys import Kind
from explorer.masks.apply import check_mask
from explorer.masks.mask import Mask
from explorer.models import View
from explorer.models.matrices import matrices
from explorer.search import check_strategy, mask_of
from explorer.search.control_pool import ControlPool
from explorer.search.controls import CONTROLS, RANDOM, beaten, draws
from explorer.search.options import StrategyOptions
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task


@pytest.fixture
def scores(view: View, tiny_task: Task, svds: SvdCache) -> Scores:
    return score(view, tiny_task, svds, matrices(view, [Kind.Q, Kind.OUT]))


@pytest.fixture
def mask(view: View, scores: Scores) -> Mask:
    return mask_of(view, scores, [scores.removed(key, index) for _, key, index in scores.ranking()[:5]])


def per_matrix(mask: Mask) -> Counter[str]:
    return Counter(one.matrix for one in mask.removed)


def energy(mask: Mask) -> float:
    return sum(one.sigma**2 for one in mask.removed)


@pytest.mark.parametrize("control", sorted(CONTROLS))
def test_controls_of_a_softer_mask_are_as_soft(scores: Scores, mask: Mask, control: str) -> None:
    hard, soft = (draws(scores, one, control, range(2)) for one in (mask, mask.scaled(0.4)))
    assert [one.removed for one in soft] == [one.removed for one in hard]
    assert {(one.gain, one.mode) for one in soft} == {(0.4, mask.mode)}


@pytest.mark.parametrize("control", ["random-per-matrix", "smallest", "largest"])
def test_counts_match_in_every_matrix(scores: Scores, mask: Mask, control: str) -> None:
    for drawn in draws(scores, mask, control, range(5)):
        assert per_matrix(drawn) == per_matrix(mask)


def test_smallest_and_largest_are_the_ends_of_the_spectrum(scores: Scores, mask: Mask) -> None:
    [small], [large] = (draws(scores, mask, name, range(5)) for name in ("smallest", "largest"))
    for key, removed in mask.by_matrix.items():
        rank = len(scores.matrices[key].s)
        assert small.indices(key) == set(range(rank - len(removed), rank))
        assert large.indices(key) == set(range(len(removed)))


def test_energy_is_matched_as_closely_as_single_values_allow(scores: Scores, mask: Mask) -> None:
    for drawn in draws(scores, mask, "random-energy", range(5)):
        left = energy(mask) - energy(drawn)
        kept = [
            float(s) ** 2
            for key in mask.by_matrix
            for index, s in enumerate(scores.matrices[key].s)
            if index not in drawn.indices(key)
        ]
        assert left >= -1e-9
        assert all(one > left for one in kept)  # nothing that was kept would still have fitted


@pytest.mark.parametrize("control", list(CONTROLS))
def test_draws_differ_by_seed_and_only_by_seed(
    view: View, svds: SvdCache, scores: Scores, mask: Mask, control: str
) -> None:
    drawn = draws(scores, mask, control, range(20))
    assert drawn == draws(scores, mask, control, range(20))
    assert len(drawn) == (20 if control in RANDOM else 1)
    if control in RANDOM:
        assert len({one.digest for one in drawn}) > 5
    for one in drawn:
        check_mask(view, one, svds)


def test_refusals(view: View, tiny_task: Task, svds: SvdCache, scores: Scores, mask: Mask) -> None:
    with pytest.raises(SettingsError, match="not a control"):
        draws(scores, mask, "best", [0])
    others = score(view, tiny_task, svds, matrices(view, [Kind.V]))
    with pytest.raises(SettingsError, match="was not scored"):
        draws(others, mask, "smallest", [0])


def test_the_pool_is_everything_that_is_scored(scores: Scores, mask: Mask) -> None:
    places = [(str(key), index) for key in sorted(scores.matrices) for index in range(len(scores.matrices[key].s))]
    for seed, drawn in enumerate(draws(scores, mask, "random-pool", range(3))):
        assert {(one.matrix, one.index) for one in drawn.removed} == set(Random(seed).sample(places, len(mask)))


def test_the_name_that_three_controls_had_names_the_three(scores: Scores, mask: Mask) -> None:
    three = "random-pool .*random-per-matrix .*random-search"
    for refused in (
        lambda: draws(scores, mask, "random-count", [0]),
        lambda: check_strategy("random-count"),
        lambda: StrategyOptions().choose("random-count", lambda name: None),  # type: ignore[arg-type, return-value]
        lambda: ControlPool.asked("random-count", None, None, stacked=False),
    ):
        with pytest.raises(SettingsError, match=three):
            refused()


def test_kinds_to_draw_from_are_those_of_the_pool() -> None:
    assert ControlPool.asked(None, None, None, stacked=False).control == "random-per-matrix"
    assert ControlPool.asked(None, (Kind.Q,), None, stacked=False).control == "random-pool"
    with pytest.raises(SettingsError, match="belong to --control random-pool, not to random-per-matrix"):
        ControlPool.asked("random-per-matrix", (Kind.Q,), None, stacked=False)


@pytest.mark.parametrize(
    ("value", "others", "percent"),
    [
        (math.nan, [1.0, 2.0], 0),
        (-math.inf, [math.nan, 1.0], 25),
        (0.5, [math.nan, -math.inf, math.inf], 100),
        (-1.0, [-1.0000000001, -2.0], 75),
    ],
)
def test_what_is_not_finite_beats_nothing(value: float, others: list[float], percent: float) -> None:
    assert beaten(value, others) == percent
