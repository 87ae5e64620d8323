"""The fields that belong to one strategy: what `paper` shares out, and what an `ensemble` combines."""

from __future__ import annotations

import streamlit as st

from explorer.search.ensemble import BASES, EnsembleSettings
from explorer.search.options import USUAL, StrategyOptions
from explorer.tasks import TASKS
from explorer.ui.session import Bench, links

MOST_MEMBERS = 50
TASKS_OVER = "tasks"
FIELDS = ("per-kind", "base", "over", "members", "at-least")  # what their keys begin with, behind `search-`
OVER = {"splits": "halves of the train examples", "seeds": "seeds", TASKS_OVER: "other tasks"}


def choose(bench: Bench, strategy: str, before: StrategyOptions) -> StrategyOptions:
    """Draw the strategy's fields, if it has any; they start with the link's, else with what was searched `before`."""
    if strategy == "paper":
        return _choose_shares(before)
    return _choose_members(bench, before) if strategy == "ensemble" else USUAL


def _choose_shares(before: StrategyOptions) -> StrategyOptions:
    linked = links.restore(
        "per-kind", False, {"1": True}.get, key="search-per-kind", start=before.per_kind, text=lambda _: "1"
    )
    about = "Removes the lowest fraction of each kind on its own, not of all values together."
    return StrategyOptions(per_kind=linked.draw(st.toggle, "Same share of every kind", help=about))


def _choose_members(bench: Bench, before: StrategyOptions) -> StrategyOptions:
    """What an ensemble combines."""
    usual = EnsembleSettings()
    first, second, third, fourth = st.columns([2, 2, 1, 1])
    of_base = links.restore("base", usual.base, links.one_of(BASES), key="search-base", start=before.base)
    about = "The strategy that each of its searches uses."
    base = of_base.draw(first.selectbox, "Combines the masks of", list(BASES), help=about)
    start = TASKS_OVER if before.other_tasks else before.over or usual.over
    of_over = links.restore("over", usual.over, links.one_of(OVER), key="search-over", start=start)
    over = of_over.draw(
        second.selectbox, "Its searches differ in", list(OVER), format_func=OVER.__getitem__,
        help="Values that are removed whatever the examples, the seed or the task are less likely to be chance.",
    )  # fmt: skip
    with third:
        tasks, members = (_choose_tasks(bench, before), None) if over == TASKS_OVER else ([], _choose_count(before))
    most = 1 + len(tasks) if members is None else members
    linked: links.Linked[int | None] = links.restore(
        "at-least", None, links.whole_in(1, most), key=f"search-at-least-{most}",
        start=None if (before.at_least or most) >= most else before.at_least,
    )  # fmt: skip
    at_least = linked.draw(
        fourth.number_input, "In at least", min_value=1, max_value=most, value=None, placeholder="any",
        help="How many of the masks must remove a value: 1 for the union. If it is left empty, every number is tried.",
    )  # fmt: skip
    return StrategyOptions(
        base=None if base == usual.base else base,
        members=None if members == usual.resamples else members,
        over=",".join(tasks) or None if over == TASKS_OVER else None if over == usual.over else over,
        at_least=at_least,
    )


def _choose_tasks(bench: Bench, before: StrategyOptions) -> list[str]:
    known = [name for name, spec in TASKS.items() if not spec.needs_data and name != bench.task.name]
    start = [name for name in known if name in before.other_tasks] or known[:1]
    linked = links.restore(
        "over-tasks", known[:1], links.some_of(known), key="search-over-tasks", start=start, text=links.joined_texts
    )
    return linked.draw(st.multiselect, "Tasks", known, help="One search for each, and one for the task of the page.")


def _choose_count(before: StrategyOptions) -> int:
    usual = EnsembleSettings().resamples
    linked = links.restore(
        "members", usual, links.whole_in(2, MOST_MEMBERS), key="search-members", start=before.members
    )
    about = "How many masks it combines; each costs a search."
    return linked.draw(st.number_input, "Searches", min_value=2, max_value=MOST_MEMBERS, help=about)
