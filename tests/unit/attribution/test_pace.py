"""What long work takes is told after a few runs of it, and time given is kept, on a clock of our own."""

from __future__ import annotations

import random

import pytest

from explorer.attribution.pace import PORTION, Estimate, Pace, Run, tracked
from explorer.core.keys import Kind, MatrixKey

SPEED = 10.0  # work per second


def some(count: int) -> list[Run]:
    rng = random.Random(0)
    return [Run(tuple((MatrixKey(i, Kind.Q), j) for j in range(3)), rng.uniform(50, 150)) for i in range(count)]


def paced(runs: list[Run], seconds: float | None, told: list[Estimate], speed: float = SPEED) -> list[Run]:
    """The runs that are done, on a clock that each moves by its work."""
    spent = 0.0
    pace = Pace(seconds, told.append, 3, lambda: spent)
    done = []
    for run in pace.ordered(runs, known=5):
        if len(done) < 3:
            assert not told, "told after the probes"
        done.append(run)
        spent += run.work / speed
    return done


def test_all_runs_are_done_once_and_the_estimate_is_what_they_take() -> None:
    told: list[Estimate] = []
    runs = some(200)
    done = paced(runs, None, told)
    assert sorted(run.values for run in done) == [run.values for run in runs]
    (estimate,) = told
    assert (estimate.values, estimate.known, estimate.probed) == (600, 5, 9)
    assert estimate.seconds == pytest.approx(sum(run.work for run in runs) / SPEED)
    assert estimate.flops == pytest.approx(SPEED)
    assert done[:3] == [runs[0], runs[100], runs[199]]


def test_fast_runs_are_probed_for_a_second() -> None:
    told: list[Estimate] = []
    runs = some(400)
    done = paced(runs, None, told, speed=1000.0)
    (estimate,) = told
    probed = done[: estimate.probed // 3]
    assert 1.0 <= sum(run.work for run in probed) / 1000 < 1.2
    assert sorted(run.values for run in done) == [run.values for run in runs]
    assert estimate.seconds == pytest.approx(sum(run.work for run in runs) / 1000)


def test_the_time_given_is_used_and_kept() -> None:
    runs = some(200)
    whole = sum(run.work for run in runs) / SPEED
    for share in (0.1, 0.5):
        done = paced(runs, share * whole, [])
        assert share - 0.05 <= sum(run.work for run in done) / SPEED / whole <= share
    assert len(paced(runs, 1e-3, [])) == 3, "what the estimate comes from is kept"
    assert len(paced(runs, 2 * whole, [])) == 200


def test_what_is_done_first_is_spread_over_the_layers_and_goes_through_them_in_order() -> None:
    done = paced(some(400), None, [])[3 : 3 + PORTION]
    layers = [run.values[0][0].layer for run in done]
    assert layers == sorted(layers)
    assert min(layers) < 40
    assert max(layers) > 360


def test_few_runs_or_none() -> None:
    told: list[Estimate] = []
    assert paced([], None, told) == []
    assert not told
    assert len(paced(some(3), None, told)) == 3
    assert not told, "they are done by then"
    assert len(paced(some(4), None, told)) == 4
    assert told[0].values == 12


def test_progress_goes_by_the_work_and_ends_at_the_end() -> None:
    seen: list[tuple[int, int]] = []
    runs = [Run(((MatrixKey(0, Kind.Q), 0),), work) for work in (30.0, 10.0)]
    assert list(tracked(runs, 40.0, lambda done, total: seen.append((done, total)))) == runs
    assert seen == [(0, 1000), (750, 1000), (1000, 1000), (1000, 1000)]
