"""How a running search is stopped, and what a click on its curve may say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from explorer.core.errors import Stopped
from explorer.core.keys import Kind
from explorer.search.outcome import Budget
from explorer.search.request import SearchRequest
from explorer.ui.jobs.searching import Live
from explorer.ui.search.results import clicked


def test_a_stop_ends_the_search_and_giving_up_what_follows() -> None:
    live, told = Live(), []

    def progress(done: int, total: int) -> None:
        told.append((done, total))

    during, after = live.during(progress), live.after(progress)
    during(1, 2)
    after(3, 4)
    live.stop()
    assert live.stopping
    with pytest.raises(Stopped):
        during(2, 2)
    live.stop()
    after(4, 4)
    live.give_up()
    with pytest.raises(Stopped):
        after(4, 4)
    assert told == [(1, 2), (3, 4), (4, 4)]


def test_a_stop_that_comes_once_the_search_has_ended_costs_no_test_figures() -> None:
    live = Live()
    live.measure()
    live.stop()
    live.after(None)(1, 2)


def test_titles_say_what_was_asked() -> None:
    asked = SearchRequest(
        "paper", (Kind.Q, Kind.K), (0, 2), per_head=True, mode="freeze", scorer="gradient", limit=None,
        max_removed=1000, seconds=None, seed=0, controls=20, test_limit=None,
    )  # fmt: skip
    assert asked.title == "paper on Q, K, layers 0, 2, at most 1,000 removed"
    limited = replace(asked, growth=0.075)
    assert limited.title == f"{asked.title}, perplexity up by at most 7.5 %"
    assert limited.budget == Budget(1000, None, 0.075)
    assert limited != asked, "it is another job"


@pytest.mark.parametrize(
    ("event", "place"),
    [
        ({"selection": {"points": [{"id": "2"}]}}, 2),
        ({"selection": {"points": []}}, None),
        ({"selection": {"points": [{"id": "3"}]}}, None),
        ({"selection": {"points": [{"id": "-1"}]}}, None),
        ({"selection": {"points": [{"id": "²"}]}}, None),
        ({"selection": {"points": [{"id": 1}]}}, None),
        ({"selection": {"points": [{}]}}, None),
        ({"selection": {"points": ["1"]}}, None),
        (None, None),
    ],
)
def test_only_points_that_there_are_can_be_clicked(event: Any, place: int | None) -> None:
    assert clicked(event, 3) == place
