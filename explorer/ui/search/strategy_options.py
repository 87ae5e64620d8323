"""The fields that belong to one strategy: what `paper` shares out, and what an `ensemble` combines."""

from __future__ import annotations

import streamlit as st

from explorer.search.ensemble import BASES, EnsembleSettings
from explorer.search.options import USUAL, StrategyOptions
from explorer.tasks import TASKS
from explorer.ui.session import links
from explorer.ui.session.session import Bench

MOST_MEMBERS = 50
TASKS_OVER = "tasks"
_KEYS = ("search-per-kind", "search-base", "search-over", "search-members", "search-at-least")  # begin so
_BEFORE = "search-options-again"
OVER = {"splits": "halves of the train examples", "seeds": "seeds", TASKS_OVER: "other tasks"}


def choose(bench: Bench, strategy: str, before: StrategyOptions) -> StrategyOptions:
    """Draw the strategy's fields, if it has any; they start with the link's, else with what was searched `before`."""
    if strategy == "paper":
        return _choose_shares(before)
    return _choose_members(bench, before) if strategy == "ensemble" else USUAL


def fill(options: StrategyOptions) -> None:
    """Put options into the fields, before they are drawn."""
    for key in [str(key) for key in st.session_state if str(key).startswith(_KEYS)]:
        del st.session_state[key]
    st.session_state[_BEFORE] = options


def _choose_shares(before: StrategyOptions) -> StrategyOptions:
    before = st.session_state.pop(_BEFORE, before)
    links.restore("per-kind", "search-per-kind", before.per_kind, {"1": True}.get)
    per_kind = st.toggle(
        "Same share of every kind", key="search-per-kind", persist_state="session",
        help="Removes the lowest fraction of each kind on its own, not of all values together.",
    )  # fmt: skip
    links.keep("per-kind", per_kind, False, lambda value: "1")
    return StrategyOptions(per_kind=per_kind)


def _choose_members(bench: Bench, before: StrategyOptions) -> StrategyOptions:
    """What an ensemble combines."""
    before, usual = st.session_state.pop(_BEFORE, before), EnsembleSettings()
    first, second, third, fourth = st.columns([2, 2, 1, 1])
    links.restore("base", "search-base", before.base or usual.base, links.one_of(BASES))
    base = first.selectbox(
        "Combines the masks of", list(BASES), key="search-base", persist_state="session",
        help="The strategy that each of its searches uses.",
    )  # fmt: skip
    start = TASKS_OVER if before.other_tasks else before.over or usual.over
    links.restore("over", "search-over", start, links.one_of(OVER))
    over = second.selectbox(
        "Its searches differ in", list(OVER), format_func=OVER.__getitem__, key="search-over", persist_state="session",
        help="Values that are removed whatever the examples, the seed or the task are less likely to be chance.",
    )  # fmt: skip
    links.keep("base", base, usual.base)
    links.keep("over", over, usual.over)
    with third:
        tasks, members = (_choose_tasks(bench, before), None) if over == TASKS_OVER else ([], _choose_count(before))
    most = 1 + len(tasks) if members is None else members
    at_least_key = f"search-at-least-{most}"
    start_at = None if (before.at_least or most) >= most else before.at_least
    links.restore("at-least", at_least_key, start_at, links.whole_in(1, most))
    at_least = fourth.number_input(
        "In at least", 1, most, None, key=at_least_key, persist_state="session", placeholder="any",
        help="How many of the masks must remove a value: 1 for the union. If it is left empty, every number is tried.",
    )  # fmt: skip
    links.keep("at-least", at_least, None)
    return StrategyOptions(
        base=None if base == usual.base else base,
        members=None if members == usual.resamples else members,
        over=",".join(tasks) or None if over == TASKS_OVER else None if over == usual.over else over,
        at_least=at_least,
    )


def _choose_tasks(bench: Bench, before: StrategyOptions) -> list[str]:
    known = [name for name, spec in TASKS.items() if not spec.needs_data and name != bench.task.name]
    start = [name for name in known if name in before.other_tasks] or known[:1]
    links.restore("over-tasks", "search-over-tasks", start, links.some_of(known))
    tasks = st.multiselect(
        "Tasks", known, key="search-over-tasks", persist_state="session",
        help="One search for each, and one for the task of the page.",
    )  # fmt: skip
    links.keep("over-tasks", tasks, known[:1], links.joined_texts)
    return tasks


def _choose_count(before: StrategyOptions) -> int:
    usual = EnsembleSettings().resamples
    links.restore("members", "search-members", before.members or usual, links.whole_in(2, MOST_MEMBERS))
    members = int(
        st.number_input(
            "Searches", 2, MOST_MEMBERS, key="search-members", persist_state="session",
            help="How many masks it combines; each costs a search.",
        )
    )  # fmt: skip
    links.keep("members", members, usual)
    return members
