"""A search that was killed goes on where it was: the same mask, curve and cost, and nothing is measured twice."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.core.config import settings
from explorer.core.errors import Stopped
from explorer.core.keys import Kind
from explorer.models import Model, load
from explorer.models.matrices import matrices
from explorer.search import SEARCHES
from explorer.search import problem as problems
from explorer.search.ensemble import BASES, EnsembleSettings, ensemble
from explorer.search.gates import Momentum
from explorer.search.identity import search_digest
from explorer.search.journal import Journal, JournalFile, default_journals
from explorer.search.learned import LearnedSettings, learned
from explorer.search.outcome import Budget, Found, Status
from explorer.search.paper import paper
from explorer.search.problem import Problem, Search, solve
from explorer.search.verified import verified
from explorer.spectra.cache import SvdCache
from explorer.tasks import load_task

QUICK: dict[str, Search] = {
    **SEARCHES,
    "learned": lambda problem: learned(problem, LearnedSettings(steps=23)),
    "ensemble": lambda problem: ensemble(problem, EnsembleSettings(base="paper", resamples=2)),
    "ensemble of learned": lambda problem: ensemble(problem, EnsembleSettings(base="learned", resamples=2)),
}


class KilledError(Exception):
    """Stands for kill -9: nothing after it is written."""


@pytest.fixture(scope="module")
def model() -> Model:
    return load("bundled")


@pytest.fixture(scope="module")
def svds() -> SvdCache:
    return SvdCache(None)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches within `ensemble` are short, too."""
    monkeypatch.setitem(BASES, "learned", QUICK["learned"])


def silent(message: str) -> None:
    raise AssertionError(message)


def problem(model: Model, svds: SvdCache, journal: Journal | None = None, **given: Any) -> Problem:
    view = model.view()
    keys = matrices(view, (Kind.Q, Kind.K), given.pop("layers", [0]))
    text = (torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[3, 9, 7, 5, 6]]))
    settings = {"budget": Budget(12), "limit": 12, "text": text, **given}
    task = load_task("int-mult", 0)
    return Problem(view, replace(task, validation=task.validation[:10]), svds, keys, journal=journal, **settings)


def same(one: Found, other: Found) -> bool:
    """Bit for bit: masks with their frozen means, and every example's loss."""
    return one.best == other.best and one.curve == other.curve and one.stopped == other.stopped


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was really computed: one entry per score and per evaluation of the train or validation split."""
    made: list[str] = []

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            made.append(name)
            return function(*args, **kwargs)

        return counted

    monkeypatch.setattr(problems, "score", counting("score", problems.score))
    monkeypatch.setattr(problems, "evaluate", counting("evaluate", problems.evaluate))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", list(QUICK))
def test_a_search_killed_at_any_point_ends_as_if_it_had_not_been(
    model: Model, svds: SvdCache, tmp_path: Path, calls: list[str], name: str
) -> None:
    whole = problem(model, svds)
    expected = solve(whole, QUICK[name])
    needed = len(calls)
    assert len(expected.curve) >= 2
    file = JournalFile(tmp_path / "searches.sqlite", silent)
    calls.clear()
    step = max(3, needed // 20)
    for _ in range(40):  # killed after so many scores and evaluations that are new in each run
        given, limit = problem(model, svds, file.open("one")), len(calls) + step

        def killed(done: int, total: int, limit: int = limit) -> None:
            if len(calls) >= limit:
                raise KilledError

        given.progress = killed
        try:
            found = solve(given, QUICK[name])
            break
        except KilledError:
            assert given.view.applied == {}
    assert same(found, expected)
    assert given.forwards == whole.forwards
    assert len(calls) == needed, "nothing was measured twice"
    assert needed > step, "it was killed"


def test_a_finished_search_is_there_at_once(model: Model, svds: SvdCache, tmp_path: Path, calls: list[str]) -> None:
    file = JournalFile(tmp_path / "searches.sqlite", silent)
    first = problem(model, svds, file.open("one"))
    expected = solve(first, verified)
    spent, made = first.seconds, len(calls)
    again = problem(model, svds, file.open("one"))
    assert again.seconds == pytest.approx(spent, abs=1.0)
    assert same(solve(again, verified), expected)
    assert (len(calls), again.forwards) == (made, first.forwards)
    assert again.seconds > 0.9 * spent, "seconds of all runs together"
    fresh = file.open("one", fresh=True)
    assert (fresh.recorded, fresh.seconds) == (0, pytest.approx(0, abs=0.5))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry per step that gates took."""
    taken: list[int] = []
    step = Momentum.step

    def counted(optimizer: Momentum) -> None:
        taken.append(1)
        step(optimizer)

    monkeypatch.setattr(Momentum, "step", counted)
    return taken


def test_steps_between_measurements_are_not_taken_again(
    model: Model, svds: SvdCache, tmp_path: Path, steps: list[int]
) -> None:
    """`learned` goes on from the step of its last measurement: 23 steps, killed in step 13, go on after step 10."""
    expected = solve(problem(model, svds), QUICK["learned"])
    assert len(steps) == 23
    file = JournalFile(tmp_path / "searches.sqlite", silent)
    steps.clear()

    def killed(done: int, total: int) -> None:
        if len(steps) == 13:
            raise KilledError

    with pytest.raises(KilledError):
        solve(problem(model, svds, file.open("one"), progress=killed), QUICK["learned"])
    found = solve(problem(model, svds, file.open("one")), QUICK["learned"])
    assert len(steps) == 13 + 13
    assert same(found, expected)


def test_time_spent_before_counts_and_a_search_out_of_time_stays_so(
    model: Model, svds: SvdCache, tmp_path: Path, calls: list[str]
) -> None:
    file = JournalFile(tmp_path / "searches.sqlite", silent)
    journal = file.open("one")
    given = problem(model, svds, journal, budget=Budget(12, seconds=1e6))
    count = 0

    def killed(status: Status) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise KilledError

    given.watch = killed
    with pytest.raises(KilledError):
        solve(given, paper)
    with closing(sqlite3.connect(file.path)) as db, db:
        db.execute("UPDATE searches SET seconds = 2e6")
    made = len(calls)
    found = solve(problem(model, svds, file.open("one"), budget=Budget(12, seconds=1e6)), paper)
    assert (found.stopped, len(found.curve), len(calls)) == ("time", 4, made)


def test_a_stop_can_be_resumed(model: Model, svds: SvdCache, tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "searches.sqlite", silent)
    shares: list[float] = []

    def stop(status: Status) -> None:
        shares.append(status.share)
        if status.measured == 3:
            raise Stopped

    assert solve(problem(model, svds, file.open("one"), watch=stop), paper).stopped == "stopped"
    assert same(solve(problem(model, svds, file.open("one")), paper), solve(problem(model, svds), paper))


def test_another_question_than_was_recorded_ends_the_replay(model: Model, svds: SvdCache, tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "searches.sqlite", silent)
    solve(problem(model, svds, file.open("one")), paper)
    before = file.open("one").recorded
    found = solve(problem(model, svds, file.open("one")), verified)  # asks for other masks
    assert same(found, solve(problem(model, svds), verified))
    journal = file.open("one")
    assert journal.recorded != before
    assert same(solve(problem(model, svds, journal), verified), found)
    assert not journal.replaying


def test_scores_without_room_are_computed_again(model: Model, svds: SvdCache, tmp_path: Path, calls: list[str]) -> None:
    file = JournalFile(tmp_path / "searches.sqlite", silent, limit=1)
    expected = solve(problem(model, svds, file.open("one")), verified)
    scored, evaluated = calls.count("score"), calls.count("evaluate")
    assert same(solve(problem(model, svds, file.open("one")), verified), expected)
    assert (calls.count("score"), calls.count("evaluate")) == (2 * scored, evaluated)


def test_the_searches_used_longest_ago_go_first(tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "searches.sqlite", silent, limit=400_000)
    for name in range(12):
        file.open(str(name)).add("measure", "", bytes(60_000))
    left = {name for name in range(12) if file.open(str(name)).recorded}
    assert 11 in left
    assert 0 not in left
    assert file.info().bytes <= 460_000
    assert file.clear() == len(left)
    assert len(file) == 0


def test_an_unusable_file_is_told_once_and_the_search_runs(model: Model, svds: SvdCache, tmp_path: Path) -> None:
    path = tmp_path / "searches.sqlite"
    path.write_bytes(b"not a database, but quite long enough to be one" * 100)
    told: list[str] = []
    found = solve(problem(model, svds, JournalFile(path, told.append).open("one")), paper)
    assert same(found, solve(problem(model, svds), paper))
    assert len(told) == 1
    assert "working without that file" in told[0]


def test_what_decides_the_result_decides_the_digest(model: Model, svds: SvdCache) -> None:
    def digest(strategy: str = "paper", settings: object = None, **given: Any) -> str:
        return search_digest(problem(model, svds, **given), strategy, settings)

    base = digest()
    assert digest() == base
    task = load_task("int-mult", 0)
    view = model.view()
    others = [
        digest("verified"),
        digest("paper", LearnedSettings()),
        digest(layers=[1]),
        digest(limit=11),
        digest(seed=1),
        digest(mode="zero"),
        digest(scorer="hybrid"),
        digest(budget=Budget(11)),
        digest(budget=Budget(12, 10.0)),
        digest(text=()),
        search_digest(Problem(view, task, svds, matrices(view, (Kind.Q, Kind.K), [0]), Budget(12), limit=12), "paper"),
    ]
    assert len({base, *others}) == len(others) + 1
    given = problem(model, svds)
    poisoned = replace(task, validation=given.task.validation, test=task.test[:1])
    assert search_digest(replace(given, task=poisoned), "paper") == base, "no search sees the test split"


@pytest.mark.slow
def test_shares_grow_to_the_whole(model: Model, svds: SvdCache) -> None:
    for name in ("paper", "learned", "laser", "adaptive", "ensemble"):
        shares: list[Status] = []
        bar: list[float] = []
        given = problem(
            model, svds, watch=shares.append, progress=lambda done, total, bar=bar: bar.append(done / total)
        )
        found = solve(given, QUICK[name])
        told = [status.share for status in shares]
        assert told == sorted(told)
        assert 0 <= told[0] < 0.3
        assert told[-1] == 1 if name in ("paper", "learned") else told[0] < told[-1] <= 1
        assert bar == sorted(bar)
        assert shares[-1].best == found.best
        assert shares[-1].measured == len(found.curve)


def test_the_settings_decide_where_journals_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = replace(settings(), cache_dir=tmp_path)
    monkeypatch.setattr("explorer.search.journal.settings", lambda: now)
    file = default_journals(silent)
    assert file.path.parent == tmp_path
    assert file.limit == now.cache_bytes // 20
    assert not file.path.exists(), "looking makes no file"
    assert file.open("one").recorded == 0
    assert not file.path.exists()


def test_records_have_no_numbers_that_json_cannot_bring_back(model: Model, svds: SvdCache, tmp_path: Path) -> None:
    """A loss of infinity or NaN comes back as it was."""
    from explorer.measure.evaluate import Evaluation
    from explorer.search.records import pack_point, unpack_point

    given = problem(model, svds)
    examples = given.task.validation[:3]
    strange = Evaluation(examples, (math.inf, -0.0, 5e-324), (True, False, True), ("a", "\ud800", "é"))
    data = pack_point(given.mask(), None, strange, -0.125)
    assert unpack_point(data, (), examples) == ((), None, strange, -0.125)
    assert json.loads(data)["removed"] == []


def test_described_searches_are_listed_by_what_they_are_about_the_latest_first(tmp_path: Path) -> None:
    journals = JournalFile(tmp_path / "searches.sqlite", notify=lambda sentence: pytest.fail(sentence))
    assert journals.about("model task") == ()
    for name, subject in (("one", "model task"), ("two", "model task"), ("other", "other task")):
        journals.describe(name, subject, f"request {name}")
        journals.open(name).add("score", "question", b"answer")
    journals.describe("never begun", "model task", "nothing recorded")
    two, one = JournalFile(journals.path, notify=lambda sentence: pytest.fail(sentence)).about("model task")
    assert (two.search, two.request, two.result, two.answers) == ("two", "request two", None, 1)
    assert two.used >= one.used
    journals.finish("one", "came to its end")
    journals.describe("one", "model task", "request one")  # gone on with: what it came to stays
    assert {row.search: row.result for row in journals.about("model task")} == {"one": "came to its end", "two": None}
    journals.open("two", fresh=True)
    assert [row.search for row in journals.about("model task")] == ["one"]
    journals.clear()
    assert journals.about("model task") == ()
