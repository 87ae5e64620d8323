"""One way to run a search: recorded, listed whoever asked for it, and the same when it is asked for again."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from explorer.core.errors import Stopped
from explorer.core.keys import Kind
from explorer.models import Model, load
from explorer.models.matrices import matrices
from explorer.search import SEARCHES
from explorer.search.conductor import Recording, Watcher, conduct, earlier
from explorer.search.journal import JournalFile, default_journals
from explorer.search.outcome import Point, Status
from explorer.search.problem import Problem
from explorer.search.report import Evidence, search
from explorer.search.request import SearchRequest
from explorer.spectra.cache import SvdCache
from explorer.tasks import load_task
from tests.commands import report

TASK = load_task("int-mult")
REQUEST = SearchRequest(
    "paper", (Kind.V, Kind.O), (2, 3), per_head=True, mode="freeze", scorer="gradient", limit=12, max_removed=4,
    seconds=None, seed=0, controls=1, test_limit=10,
)  # fmt: skip


def journals(path: Path) -> JournalFile:
    return JournalFile(path / "searches.sqlite", lambda sentence: pytest.fail(sentence))


def test_the_report_is_the_searchs_own(bundled: Model, svds: SvdCache) -> None:
    found = conduct(REQUEST, bundled.view(), TASK, svds)
    view = bundled.view()
    keys = matrices(view, (Kind.V, Kind.O), (2, 3), per_head=True)
    problem = Problem(view, TASK, svds, keys, REQUEST.budget, limit=12)
    own = search(problem, TASK, "paper", SEARCHES["paper"], evidence=Evidence(control_draws=1, test_limit=10))
    assert found.mask == own.mask
    assert found.test == own.test
    assert found.controls == own.controls


def test_what_was_searched_is_listed_and_found_again(bundled: Model, svds: SvdCache, tmp_path: Path) -> None:
    kept = journals(tmp_path)
    first = conduct(REQUEST, bundled.view(), TASK, svds, recording=Recording(kept))
    (listed,) = earlier(kept, bundled, TASK)
    assert listed.asked == REQUEST
    assert listed.result is not None
    assert (listed.result.accuracy, listed.result.n) == (first.test.accuracy, 10)
    assert listed.result.removed == len(first.mask)
    again = conduct(REQUEST, bundled.view(), TASK, svds, recording=Recording(kept))
    assert again.mask == first.mask
    assert again.forwards == first.forwards
    assert [one.answers for one in earlier(kept, bundled, TASK)] == [listed.answers]
    assert earlier(kept, bundled, load_task("int-sum")) == ()


def test_one_that_was_stopped_is_listed_without_a_result_and_goes_on(
    bundled: Model, svds: SvdCache, tmp_path: Path
) -> None:
    kept, seen = journals(tmp_path), list[int]()

    def measured(curve: Sequence[Point], status: Status) -> None:
        seen.append(len(curve))

    def stop_soon(done: int, total: int) -> None:
        if seen and seen[-1] >= 2:
            raise Stopped

    ended = list[int]()
    watcher = Watcher(stop_soon, measured, ended=lambda: ended.append(len(seen)))
    part = conduct(REQUEST, bundled.view(), TASK, svds, recording=Recording(kept), watcher=watcher)
    assert part.found.stopped == "stopped"
    assert len(ended) == 1
    assert earlier(kept, bundled, TASK)[0].result is None
    whole = conduct(REQUEST, bundled.view(), TASK, svds, recording=Recording(kept))
    assert whole.mask == conduct(REQUEST, bundled.view(), TASK, svds).mask
    assert earlier(kept, bundled, TASK)[0].result is not None


def test_requests_of_the_first_version_are_listed(bundled: Model, svds: SvdCache, tmp_path: Path) -> None:
    kept = journals(tmp_path)
    conduct(REQUEST, bundled.view(), TASK, svds, recording=Recording(kept))
    with sqlite3.connect(kept.path) as db:
        db.execute("UPDATE requests SET request = replace(request, 'max_removed', 'most')")
    db.close()
    assert [one.asked for one in earlier(kept, bundled, TASK)] == [REQUEST]


def test_a_search_of_the_command_line_is_listed(tmp_path: Path, isolated_folders: Path) -> None:
    found = report(
        "search", "--model", "bundled", "--task", "int-mult", "--strategy", "paper", "--kinds", "V,O", "--layers",
        "2-3", "--max-removed", 4, "--limit", 12, "--controls", 1, "--test-limit", 10,
        "--out", tmp_path / "mask.json",
    )  # fmt: skip
    listed = earlier(default_journals(lambda sentence: None), load("bundled"), TASK)
    assert REQUEST in [one.asked for one in listed]
    assert found["removed"] in [one.result.removed for one in listed if one.result is not None]
