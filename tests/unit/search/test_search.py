"""Strategies choose what they say, as many as asked, the same every time."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from explorer.attribution import Scores, score
from explorer.core.errors import MatrixError, SettingsError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply, check_mask
from explorer.masks.mask import Removed
from explorer.measure.evaluate import evaluate
from explorer.models import View
from explorer.models.matrices import matrices
from explorer.search import STRATEGIES, lowest, prune, random_pool
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task


@pytest.fixture
def scores(view: View, tiny_task: Task, svds: SvdCache) -> Scores:
    return score(view, tiny_task, svds, matrices(view, [Kind.Q, Kind.K]))


def places(values: tuple[Removed, ...]) -> list[tuple[str, int]]:
    return [(one.matrix, one.index) for one in values]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_the_lowest_are_lower_than_all_others(scores: Scores, count: int) -> None:
    chosen = lowest(scores, count)
    by_place = {
        (str(key), i): value for key, matrix in scores.matrices.items() for i, value in enumerate(matrix.score.tolist())
    }
    taken = [by_place.pop(place) for place in places(chosen)]
    assert len(taken) == count
    assert taken == sorted(taken)
    assert not taken or max(taken) <= min(by_place.values())
    assert lowest(scores, count, seed=5) == chosen


def test_what_is_chosen_carries_its_sigma_and_frozen_mean(scores: Scores) -> None:
    for one in lowest(scores, scores.size):
        matrix = scores.matrices[MatrixKey.parse(one.matrix)]
        assert one.sigma == float(matrix.s[one.index])
        assert one.c == float(matrix.c[one.index])


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_all_values_can_be_chosen_and_no_more(scores: Scores, name: str) -> None:
    everything = STRATEGIES[name](scores, scores.size, 0)
    assert len(set(places(everything))) == scores.size
    for count in (-1, scores.size + 1):
        with pytest.raises(SettingsError, match=rf"{count} values cannot be removed: choose 0 to {scores.size}"):
            STRATEGIES[name](scores, count, 0)


def test_random_masks_follow_their_seed_and_spread_evenly(scores: Scores) -> None:
    assert random_pool(scores, 6, 1) == random_pool(scores, 6, 1)
    drawn = [frozenset(places(random_pool(scores, 6, seed))) for seed in range(200)]
    assert all(len(draw) == 6 for draw in drawn)
    assert len(set(drawn)) > 190
    counted = [sum(place in draw for draw in drawn) for place in places(random_pool(scores, scores.size, 0))]
    expected = 200 * 6 / scores.size
    assert max(abs(n - expected) for n in counted) < 6 * expected**0.5


def test_random_masks_take_no_notice_of_the_scores(view: View, tiny_task: Task, svds: SvdCache, scores: Scores) -> None:
    others = score(view, tiny_task, svds, matrices(view, [Kind.Q, Kind.K]), scorer="random", seed=3)
    assert places(random_pool(scores, 9, 4)) == places(random_pool(others, 9, 4))


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("per_head", [True, False], ids=["per head", "stacked"])
def test_pruning_gives_an_applicable_mask_with_its_provenance(
    view: View, tiny_task: Task, svds: SvdCache, strategy: str, per_head: bool
) -> None:
    mask = prune(
        view, tiny_task, svds, kinds=[Kind.V, Kind.OUT], count=5, strategy=strategy, mode="zero", per_head=per_head,
        limit=4, seed=11,
    )  # fmt: skip
    assert len(mask) == 5
    assert mask.mode == "zero"
    assert {key.kind for key in mask.by_matrix} <= {Kind.V, Kind.OUT}
    assert all((key.head is not None) == per_head for key in mask.by_matrix if key.kind is Kind.V)
    note = mask.provenance
    assert (note.task, note.split, note.examples, note.seed, note.scorer) == ("tiny", "train", 4, 11, "gradient")
    assert note.versions["torch"] == version("torch")
    assert set(note.versions) == {"eigenprune-explorer", "torch", "transformers", "transformer-lens"}
    assert view.applied == {}
    check_mask(view, mask, svds)


def test_pruning_the_lowest_lowers_the_loss_it_was_scored_on(view: View, tiny_task: Task, svds: SvdCache) -> None:
    before = evaluate(view, tiny_task, "train").mean_loss.value
    scored = score(view, tiny_task, svds, matrices(view, [Kind.Q, Kind.K]), scorer="exact")
    mask = prune(view, tiny_task, svds, kinds=[Kind.Q, Kind.K], count=1, scorer="exact")
    apply(view, mask, svds)
    after = evaluate(view, tiny_task, "train").mean_loss.value
    assert after - before == pytest.approx(scored.ranking()[0][0], abs=1e-5)
    assert after < before


def test_pruning_is_repeatable(view: View, tiny_task: Task, svds: SvdCache) -> None:
    first = prune(view, tiny_task, svds, kinds=[Kind.Q], count=4)
    again = prune(view.model.view(), tiny_task, SvdCache(None), kinds=[Kind.Q], count=4)
    assert again == first
    assert again.digest == first.digest


def test_what_cannot_be_pruned_is_refused(view: View, tiny_task: Task, svds: SvdCache) -> None:
    with pytest.raises(SettingsError, match="'best' is not a strategy: choose one of lowest, random-pool"):
        prune(view, tiny_task, svds, kinds=[Kind.Q], count=1, strategy="best")
    with pytest.raises(SettingsError, match="'best' is not a scorer"):
        prune(view, tiny_task, svds, kinds=[Kind.Q], count=1, scorer="best")
    with pytest.raises(SettingsError, match="no matrices were chosen"):
        prune(view, tiny_task, svds, kinds=[], count=1)
    with pytest.raises(SettingsError, match="100000 values cannot be removed: choose 0 to"):
        prune(view, tiny_task, svds, kinds=[Kind.Q], count=100_000)
    if view.model.architecture == "GPT2LMHeadModel":
        with pytest.raises(MatrixError, match="has no GATE matrices"):
            prune(view, tiny_task, svds, kinds=[Kind.GATE], count=1)
