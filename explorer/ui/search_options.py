"""The fields that belong to one strategy: what `paper` shares out, and what an `ensemble` combines."""

from __future__ import annotations

import streamlit as st

from explorer.search.ensemble import BASES, EnsembleSettings
from explorer.search.options import USUAL, StrategyOptions
from explorer.tasks import TASKS
from explorer.ui.session import Bench

MOST_MEMBERS = 50
TASKS_OVER = "tasks"
OVER = {"splits": "halves of the train examples", "seeds": "seeds", TASKS_OVER: "other tasks"}


def choose(bench: Bench, strategy: str, before: StrategyOptions) -> StrategyOptions:
    """Draw the strategy's fields, if it has any; they start with what was searched for `before`."""
    if strategy == "paper":
        return _choose_shares(before)
    return _choose_members(bench, before) if strategy == "ensemble" else USUAL


def _choose_shares(before: StrategyOptions) -> StrategyOptions:
    return StrategyOptions(
        per_kind=st.toggle(
            "Same share of every kind", before.per_kind, key="search-per-kind", persist_state="session",
            help="Removes the lowest fraction of each kind on its own, not of all values together.",
        )
    )  # fmt: skip


def _choose_members(bench: Bench, before: StrategyOptions) -> StrategyOptions:
    """What an ensemble combines."""
    usual = EnsembleSettings()
    first, second, third, fourth = st.columns([2, 2, 1, 1])
    base = first.selectbox(
        "Combines the masks of", list(BASES), list(BASES).index(before.base or usual.base), key="search-base",
        persist_state="session", help="The strategy that each of its searches uses.",
    )  # fmt: skip
    start = TASKS_OVER if before.other_tasks else before.over or usual.over
    over = second.selectbox(
        "Its searches differ in", list(OVER), list(OVER).index(start), format_func=OVER.__getitem__,
        key="search-over", persist_state="session",
        help="Values that are removed whatever the examples, the seed or the task are less likely to be chance.",
    )  # fmt: skip
    tasks: list[str] = []
    if over == TASKS_OVER:
        known = [name for name, spec in TASKS.items() if not spec.needs_data and name != bench.task.name]
        tasks = third.multiselect(
            "Tasks", known, [name for name in known if name in before.other_tasks] or known[:1],
            key="search-over-tasks", persist_state="session",
            help="One search for each, and one for the task of the page.",
        )  # fmt: skip
        members, most = None, 1 + len(tasks)
    else:
        members = most = int(
            third.number_input(
                "Searches", 2, MOST_MEMBERS, before.members or usual.resamples, key="search-members",
                persist_state="session", help="How many masks it combines; each costs a search.",
            )
        )  # fmt: skip
    at_least = fourth.number_input(
        "In at least", 1, most, None if (before.at_least or most) >= most else before.at_least,
        key=f"search-at-least-{most}", persist_state="session", placeholder="any",
        help="How many of the masks must remove a value: 1 for the union. If it is left empty, every number is tried.",
    )  # fmt: skip
    return StrategyOptions(
        base=None if base == usual.base else base,
        members=None if members == usual.resamples else members,
        over=",".join(tasks) or None if over == TASKS_OVER else None if over == usual.over else over,
        at_least=at_least,
    )
