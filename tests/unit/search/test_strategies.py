"""Strategies on the bundled model find the planted habit, keep to their budget and never see the test split."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from explorer.core.errors import SettingsError, Stopped, TaskError
from explorer.core.keys import Kind
from explorer.masks.apply import apply
from explorer.models import Model, load
from explorer.models.matrices import matrices
from explorer.search.adaptive import adaptive
from explorer.search.anchor import HELD, Anchor
from explorer.search.chance import CHANCE, SUMMARIES
from explorer.search.columns import figures_sentences
from explorer.search.controls import DRAWS, RANDOM, draws
from explorer.search.gates import Momentum
from explorer.search.laser import laser
from explorer.search.learned import LearnedSettings, learned
from explorer.search.outcome import Budget
from explorer.search.paper import paper, proportional
from explorer.search.problem import Problem, solve
from explorer.search.report import Evidence, Report, search
from explorer.search.stepwise import stepwise
from explorer.search.thorough import thorough
from explorer.search.verified import verified
from explorer.spectra.cache import SvdCache
from explorer.tasks import load_task

PLANTED = {("L0.Q.H3", 0), ("L0.K.H3", 0)}


def quick_learned(problem: Problem) -> None:
    learned(problem, LearnedSettings(steps=60))


def quick_thorough(problem: Problem) -> None:
    thorough(problem, LearnedSettings(steps=60))


STRATEGIES = {
    "paper": paper,
    "adaptive": adaptive,
    "verified": verified,
    "stepwise": stepwise,
    "learned": quick_learned,
    "thorough": quick_thorough,
    "laser": laser,
}


@pytest.fixture(scope="module")
def model() -> Model:
    return load("bundled")


@pytest.fixture(scope="module")
def svds() -> SvdCache:
    return SvdCache(None)


class Clock:
    """Seconds that pass when a test says so, from when it was made."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now


def problem(model: Model, svds: SvdCache, **settings) -> Problem:
    view = model.view()
    keys = matrices(view, (Kind.Q, Kind.K), settings.pop("layers", None))
    given = {"budget": Budget(30), "limit": 64, **settings}
    return Problem(view, load_task("int-mult", 0), svds, keys, **given)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper", "adaptive", "verified", "stepwise", "learned", "thorough"])
def test_the_planted_habit_is_found(model: Model, svds: SvdCache, name: str) -> None:
    found = solve(problem(model, svds), STRATEGIES[name])
    before, best = found.curve[0].validation, found.best.validation
    assert before.accuracy <= 0.15
    assert best.accuracy >= 0.75
    assert found.best.removed <= 30
    removed = {(one.matrix, one.index) for one in found.best.mask.removed}
    assert removed & PLANTED
    assert found.stopped == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_equal_seeds_give_equal_masks(model: Model, svds: SvdCache, name: str) -> None:
    masks = [solve(problem(model, svds, layers=[0], limit=16), STRATEGIES[name]).best.mask.digest for _ in range(2)]
    assert masks[0] == masks[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_the_test_split_is_never_seen(model: Model, svds: SvdCache, name: str) -> None:
    given = problem(model, svds, layers=[0], limit=8)
    with pytest.raises(TaskError, match="empty"):
        given.task.split("test")
    seen = {example for point in solve(given, STRATEGIES[name]).curve for example in point.validation.examples}
    assert not seen & set(load_task("int-mult", 0).test)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_no_result_is_over_the_budget(model: Model, svds: SvdCache, name: str) -> None:
    found = solve(problem(model, svds, layers=[0], limit=8, budget=Budget(3)), STRATEGIES[name])
    assert found.best.removed <= 3


@pytest.mark.slow
def test_laser_truncates(model: Model, svds: SvdCache) -> None:
    found = solve(problem(model, svds, layers=[0], limit=8, budget=Budget(400), mode="zero"), laser)
    for key, removed in found.best.mask.by_matrix.items():
        rank = svds.get(model.view(), key).rank
        assert [one.index for one in removed] == list(range(rank - len(removed), rank))


def test_a_stop_keeps_the_best_so_far(model: Model, svds: SvdCache) -> None:
    calls = []

    def stop_after_three(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 4:
            raise Stopped

    found = solve(problem(model, svds, progress=stop_after_three), verified)
    assert found.stopped == "stopped"
    assert len(found.curve) >= 3
    losses = [point.validation.mean_loss.value for point in found.curve]
    assert found.best.validation.mean_loss.value == min(losses)


def test_time_ends_a_search(model: Model, svds: SvdCache) -> None:
    found = solve(problem(model, svds, budget=Budget(30, seconds=1e-9)), paper)
    assert (found.stopped, len(found.curve)) == ("time", 1)


def test_the_view_is_left_unpruned(model: Model, svds: SvdCache) -> None:
    given = problem(model, svds, layers=[0], limit=8)
    solve(given, paper)
    assert given.view.applied == {}


def test_proportional_takes_equal_shares_of_the_kinds(model: Model, svds: SvdCache) -> None:
    scores = problem(model, svds).score()
    ranked = proportional(scores)
    half = [key.kind for key, _ in ranked[: len(ranked) // 2]]
    assert abs(half.count(Kind.Q) - half.count(Kind.K)) <= 1
    assert len(set(ranked)) == scores.size


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adaptive", "laser"])
def test_what_a_strategy_keeps_on_its_way_is_measured_on_train_too(model: Model, svds: SvdCache, name: str) -> None:
    given = problem(model, svds, layers=[0], limit=16, budget=Budget(60))
    found = solve(given, STRATEGIES[name])
    complete = [point for point in found.curve if point.train is not None]
    assert found.best in complete
    assert len(found.curve) > len(complete) > 1
    assert all(point.train.n == 16 for point in complete)
    losses = [point.validation.mean_loss.value for point in complete]
    assert losses == sorted(losses, reverse=True), "each is an improvement of the one before"
    seen = [point.mask.digest for point in found.curve]
    assert len(set(seen)) == len(seen), "measured on train in its place, not a second time"
    measured = sum(point.validation.n + (point.train.n if point.train else 0) for point in found.curve)
    assert given.forwards == measured + round(given.score().forwards)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CHANCE))
def test_controls_are_strategies_that_follow_the_masks_of_paper(model: Model, svds: SvdCache, name: str) -> None:
    def settings() -> Problem:
        return problem(model, svds, layers=[0], limit=8, budget=Budget(6), seed=5)

    control = {"random-search": "random-per-matrix"}.get(name, name)
    followed = [point.mask for point in solve(settings(), paper).curve[1:]]
    scores = settings().score()
    masks = [mask for one in followed for mask in draws(scores, one, control, range(5, 5 + DRAWS))]
    expected = [mask.digest for mask in masks if 0 < len(mask) <= 6]
    found = solve(settings(), CHANCE[name])
    assert [point.mask.digest for point in found.curve[1:]] == expected
    assert (control in RANDOM) == (len(masks) == DRAWS * len(followed))
    assert found.best.validation.mean_loss.value == min(one.validation.mean_loss.value for one in found.curve)
    assert set(SUMMARIES) == set(CHANCE) == {"random-search", "random-energy", "smallest", "largest"}


@pytest.mark.parametrize("error", [Stopped, KeyboardInterrupt])
def test_an_interrupt_keeps_what_was_measured_and_nothing_else(
    model: Model, svds: SvdCache, error: type[BaseException]
) -> None:
    def interrupted(problem: Problem) -> None:
        raise error

    given = problem(model, svds, layers=[0], limit=8)
    assert solve(given, interrupted).stopped == "stopped"
    assert given.view.applied == {}

    def at_once(done: int, total: int) -> None:
        raise error

    with pytest.raises(error):
        solve_before_anything(given, at_once)


def solve_before_anything(given: Problem, progress: Callable[[int, int], None]) -> None:
    """An interrupt while the unpruned model is being measured leaves no result."""
    empty = replace(given, curve=[], progress=progress)
    empty.start = lambda: progress(0, 1)  # type: ignore[assignment, method-assign]
    solve(empty, paper)


@pytest.fixture(scope="module")
def text(model: Model) -> tuple[torch.Tensor, ...]:
    """Blocks in the model's own words: more of them than are held out."""
    prompts = [example.prompt + example.answer for example in load_task("int-mult", 0).train]
    ids = model.tokenizer(" ".join(prompts), add_special_tokens=False)["input_ids"]
    return tuple(torch.tensor([ids[start : start + 10]]) for start in range(0, 10 * (HELD + 4), 10))


@pytest.mark.parametrize(("shift", "steps"), [(0.0, 3), (math.inf, 0)])
def test_a_divergence_that_is_not_finite_teaches_nothing(
    model: Model,
    svds: SvdCache,
    text: tuple[torch.Tensor, ...],
    monkeypatch: pytest.MonkeyPatch,
    shift: float,
    steps: int,
) -> None:
    found, taken = Anchor.divergence, []
    monkeypatch.setattr(Anchor, "divergence", lambda anchor, block: found(anchor, block) + shift)
    monkeypatch.setattr(Momentum, "step", lambda optimizer: taken.append(optimizer))
    given = problem(model, svds, layers=[0], text=text, limit=8)
    given.start()
    learned(given, LearnedSettings(steps=3))
    assert len(taken) == steps


@pytest.mark.slow
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_the_perplexity_grows_no_more_than_the_budget_allows(
    model: Model, svds: SvdCache, text: tuple[torch.Tensor, ...], name: str
) -> None:
    free = solve(problem(model, svds, layers=[0], text=text, budget=Budget(30, growth=1e9)), STRATEGIES[name])
    growths = [point.growth for point in free.curve if point.removed and point.growth is not None]
    assert free.curve[0].growth == 0.0
    limit = sorted(growths)[len(growths) // 2]
    given = problem(model, svds, layers=[0], text=text, budget=Budget(30, growth=limit))
    found = solve(given, STRATEGIES[name])
    assert found.best.growth <= max(limit, 0.0)
    apply(given.view, found.best.mask, svds)
    held = [(given.view.logits(block)[0, :-1].log_softmax(-1), block[0, 1:]) for block in text[-HELD:]]
    apply(given.view, given.mask(), svds)
    base = [given.view.logits(block)[0, :-1].log_softmax(-1) for block in text[-HELD:]]
    changes = [
        float((before - after).gather(1, wanted[:, None]).mean())
        for (after, wanted), before in zip(held, base, strict=True)
    ]
    assert found.best.growth == pytest.approx(math.expm1(sum(changes) / HELD), abs=1e-5)


def test_where_nothing_is_within_the_limit_the_nearest_that_helps_is_reported(
    model: Model, svds: SvdCache, text: tuple[torch.Tensor, ...]
) -> None:
    def found(growth: float) -> Report:
        given = problem(model, svds, layers=[0], text=text, budget=Budget(30, growth=growth))
        return search(given, load_task("int-mult", 0), "paper", paper, evidence=Evidence(control_draws=0, test_limit=8))

    free = found(1e9)
    helping = [
        (point.growth, point)
        for point in free.found.curve[1:]
        if point.growth is not None
        and point.validation.mean_loss.value < free.found.curve[0].validation.mean_loss.value
    ]
    least, nearest = min(helping, key=lambda one: one[0])
    assert (free.file.beyond, free.found.nearest) == (False, None)
    tight = found((least - 1) / 2)  # below all of them: no growth is below -1
    assert (tight.found.best.removed, len(tight.mask)) == (0, nearest.removed)
    assert tight.mask.removed == nearest.mask.removed
    assert tight.validation.loss == nearest.validation.loss
    assert (tight.file.growth, tight.file.beyond) == (least, True)
    said = next(figures_sentences(tight.file))
    assert f"{100 * least:+.1f} %" in said
    assert "Nothing within the limit" in said


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "steps"), [(None, 30), (1e6, 30), (20.0, 13), (6.0, 5)])
def test_training_has_as_many_steps_as_there_is_time_for(
    model: Model,
    svds: SvdCache,
    text: tuple[torch.Tensor, ...],
    monkeypatch: pytest.MonkeyPatch,
    seconds: float | None,
    steps: int,
) -> None:
    clock, rates = Clock(), []
    taken = Momentum.step

    def step(optimizer: Momentum) -> None:
        rates.append(optimizer.rate)
        taken(optimizer)
        clock.now += 1.0

    monkeypatch.setattr(Momentum, "step", step)
    monkeypatch.setattr("explorer.search.problem.time.monotonic", clock)
    given = problem(model, svds, layers=[0], text=text, limit=8, budget=Budget(30, seconds, growth=1e9))
    solve(given, lambda asked: learned(asked, LearnedSettings(steps=30)))
    assert len(rates) == steps
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert sum(rates[4:]) >= 0.4 * (steps > 5), "a gate that starts kept can get to where it is removed"
    assert len(given.curve) > 1, "what was trained is measured before the time is up"


def test_a_limit_to_the_growth_needs_text(model: Model, svds: SvdCache) -> None:
    with pytest.raises(SettingsError, match="tokenizer does not know the text"):
        problem(model, svds, budget=Budget(30, growth=0.1))
