"""Ensembles combine searches on halves of the train examples, as counting by hand does."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from explorer.core.errors import SettingsError, Stopped, TaskError
from explorer.core.keys import Kind
from explorer.models import Model
from explorer.models.matrices import matrices
from explorer.search import METHODS, SEARCHES
from explorer.search.chance import CHANCE
from explorer.search.ensemble import BASES, EnsembleSettings, ensemble, halves
from explorer.search.outcome import Budget
from explorer.search.paper import paper
from explorer.search.problem import Problem, solve
from explorer.search.report import Evidence, search
from explorer.spectra.cache import SvdCache
from explorer.tasks import Cases, Example, load_task

TASK = load_task("int-mult", 0, cases=Cases("published"))
PLANTED = {("L0.Q.H3", 0), ("L0.K.H3", 0)}


@pytest.fixture(scope="module")
def svds() -> SvdCache:
    return SvdCache(None)


def problem(model: Model, svds: SvdCache, **settings) -> Problem:
    view = model.view()
    keys = matrices(view, (Kind.Q, Kind.K), [0])
    return Problem(view, TASK, svds, keys, **{"budget": Budget(16), "limit": 40, **settings})


def places(mask) -> set[tuple[str, int]]:
    return {(one.matrix, one.index) for one in mask.removed}


def test_the_table_has_every_base_the_ensemble_and_the_controls() -> None:
    assert list(METHODS) == [*BASES, "ensemble"]
    assert list(SEARCHES) == [*METHODS, *CHANCE]


def test_halves_part_the_examples_anew_for_every_seed_and_number() -> None:
    examples = (*TASK.train[:20], TASK.train[0])
    seen = set()
    for seed, number in ((0, 0), (0, 1), (1, 0)):
        first, second = halves(examples, seed, number)
        assert Counter(first) + Counter(second) == Counter(examples)
        assert not {one.prompt for one in first} & {one.prompt for one in second}
        assert abs(len(first) - len(second)) <= 2
        assert halves(examples, seed, number) == (first, second)
        seen.add(frozenset(first))
    assert len(seen) == 3
    with pytest.raises(TaskError, match="1 train prompt cannot be cut into halves"):
        halves((Example("a", " b"), Example("a", " c")), 0, 0)


def test_what_is_measured_are_the_votes_of_searches_on_halves(bundled: Model, svds: SvdCache) -> None:
    given = problem(bundled, svds)
    found = solve(given, lambda one: ensemble(one, EnsembleSettings(resamples=3)))
    votes: Counter[tuple[str, int]] = Counter()
    for number in range(3):
        train, validation = halves(given.examples, 0, number)
        task = replace(TASK, train=train, validation=validation, test=())
        alone = solve(replaced(given, task), paper)
        votes.update(places(alone.best.mask))
    expected = [{place for place, n in votes.items() if n >= k} for k in (3, 2, 1)]
    measured = [places(point.mask) for point in found.curve[1:]]
    assert measured == [e for i, e in enumerate(expected) if 0 < len(e) <= 16 and e not in expected[:i]]
    means = {(one.key, one.index): one.c for one in found.best.mask.removed}
    scores = problem(bundled, svds).score()  # frozen means over all train examples, not over a half
    assert all(float(scores.matrices[key].c[index]) == c for (key, index), c in means.items())
    assert places(found.best.mask) & PLANTED
    assert found.best.validation.accuracy >= 0.75


def replaced(given: Problem, task) -> Problem:
    return Problem(given.view, task, given.svds, given.keys, given.budget, seed=given.seed)


def votes_of(masks: list, at_most: int) -> list[set[tuple[str, int]]]:
    """What each number of votes removes, the smallest first, each once."""
    votes = Counter(place for mask in masks for place in places(mask))
    expected = [{place for place, n in votes.items() if n >= k} for k in range(len(masks), 0, -1)]
    return [one for i, one in enumerate(expected) if 0 < len(one) <= at_most and one not in expected[:i]]


@pytest.mark.slow
def test_over_seeds_the_searches_differ_in_their_seed_only(bundled: Model, svds: SvdCache) -> None:
    given = problem(bundled, svds, seed=3, scorer="random")
    found = solve(given, lambda one: ensemble(one, EnsembleSettings(resamples=3, over="seeds")))
    alone = [solve(problem(bundled, svds, seed=seed, scorer="random"), paper).best.mask for seed in (3, 4, 5)]
    assert len({one.digest for one in alone}) == 3
    assert [places(point.mask) for point in found.curve[1:]] == votes_of(alone, 16)


@pytest.mark.slow
def test_over_tasks_each_search_has_its_own_task(bundled: Model, svds: SvdCache) -> None:
    other = load_task("int-sum", 0)
    found = solve(problem(bundled, svds), lambda one: ensemble(one, EnsembleSettings(tasks=(other,))))
    given = problem(bundled, svds)
    there = Problem(given.view, other, svds, given.keys, given.budget, limit=40)
    alone = [solve(given, paper).best.mask, solve(there, paper).best.mask]
    assert alone[0].digest != alone[1].digest
    assert [places(point.mask) for point in found.curve[1:]] == votes_of(alone, 16)
    assert EnsembleSettings(tasks=(other,)).members == 2
    assert all(point.validation.examples == TASK.validation for point in found.curve)


@pytest.mark.slow
@pytest.mark.parametrize("at_least", [1, 2])
def test_a_threshold_is_the_only_one_measured(bundled: Model, svds: SvdCache, at_least: int) -> None:
    every = solve(problem(bundled, svds), lambda one: ensemble(one, EnsembleSettings(resamples=2)))
    single = solve(problem(bundled, svds), lambda one: ensemble(one, EnsembleSettings(resamples=2, at_least=at_least)))
    assert len(single.curve) <= 2
    assert {point.mask.digest for point in single.curve} <= {point.mask.digest for point in every.curve}


@pytest.mark.slow
def test_only_the_train_split_is_searched_and_all_work_is_counted(bundled: Model, svds: SvdCache) -> None:
    """With other validation examples the same masks are measured; the test split is not there at all."""
    usual, other = problem(bundled, svds), problem(bundled, svds)
    other.task = replace(other.task, validation=TASK.test[:10])
    masks = [[point.mask.digest for point in solve(one, ensemble).curve] for one in (usual, other)]
    assert masks[0] == masks[1]
    assert usual.task.test == ()
    assert usual.forwards > 3 * 40 + 40 * len(masks[0])  # the searches on halves, too


@pytest.mark.slow
def test_seeds_decide_and_reports_take_it(bundled: Model, svds: SvdCache) -> None:
    first, again = (
        search(problem(bundled, svds, seed=4), TASK, "ensemble", ensemble, evidence=Evidence(control_draws=0))
        for _ in range(2)
    )
    assert first.mask == again.mask
    assert first.strategy == "ensemble"


def test_no_combination_is_over_the_budget(bundled: Model, svds: SvdCache) -> None:
    found = solve(problem(bundled, svds, budget=Budget(1)), ensemble)
    assert all(point.removed <= 1 for point in found.curve)


def test_time_and_stops_end_it(bundled: Model, svds: SvdCache) -> None:
    out_of_time = solve(problem(bundled, svds, budget=Budget(8, seconds=1e-9)), ensemble)
    assert (out_of_time.stopped, out_of_time.best.removed) == ("time", 0)
    calls = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 6:
            raise Stopped

    given = problem(bundled, svds, progress=stop)
    assert solve(given, ensemble).stopped == "stopped"
    assert len(calls) == 6
    assert given.view.applied == {}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base": "best"}, "'best' cannot be combined: choose one of paper"),
        ({"base": "ensemble"}, "'ensemble' cannot be combined"),
        ({"resamples": 1}, "1 resamples leave nothing to combine"),
        ({"at_least": 6}, "6 of 5 masks: give a number from 1 to 5"),
        ({"at_least": 0}, "0 of 5 masks"),
        ({"tasks": (TASK,), "at_least": 3}, "3 of 2 masks"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        EnsembleSettings(**settings)
