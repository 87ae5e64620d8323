"""What to search for: strategy, matrices and budget, with what it will cost."""

from __future__ import annotations

import streamlit as st

from explorer.config import settings
from explorer.keys import Kind, MatrixKey
from explorer.registry import kinds, shape
from explorer.search import SUMMARIES
from explorer.search.controls import CONTROLS, DRAWS, RANDOM
from explorer.search.ensemble import BASES, EnsembleSettings
from explorer.search.laser import KEPT
from explorer.search.learned import EVERY, LearnedSettings
from explorer.search.options import USUAL, StrategyOptions
from explorer.search.paper import counts
from explorer.tasks import TASKS
from explorer.ui import searching
from explorer.ui.searching import Asked
from explorer.ui.session import Bench
from explorer.ui.words import literal

SHARE = 0.02  # of all values that may be removed, until the user says otherwise
MOST_DRAWS, MOST_SEED, MOST_SECONDS = 200, 2**31 - 1, 7 * 24 * 3600
MOST_MEMBERS = 50
START = "verified"
TASKS_OVER = "tasks"


def choose(bench: Bench, before: Asked | None) -> Asked:
    """Draw the form; it starts with what this session searched for last, which a reloaded page would forget."""
    first, second, third, fourth, fifth = st.columns([2, 1, 1, 1, 1])
    with first:
        strategy = str(
            st.selectbox(
                "Strategy",
                list(SUMMARIES),
                index=list(SUMMARIES).index(before.strategy if before else START),
                key="search-strategy",
                persist_state="session",
                help="  \n".join(f"**{name}**: {literal(text)}" for name, text in SUMMARIES.items()),
            )
        )
    chosen, layers, keys, size = _choose_matrices(bench, before)
    with second:
        most = _choose_most(bench, size, before)
    seconds = third.number_input(
        "Time (seconds)", 1, MOST_SECONDS, before.seconds and int(before.seconds) if before else None,
        key="search-seconds", persist_state="session", placeholder="no limit",
        help="Then the best mask so far is the result. All runs of one search count together.",
    )  # fmt: skip
    seed = fourth.number_input(
        "Seed", 0, MOST_SEED, before.seed if before else settings().seed, key="search-seed", persist_state="session"
    )
    draws = fifth.number_input(
        "Control draws", 0, MOST_DRAWS, before.controls if before else DRAWS, key="search-controls",
        persist_state="session",
        help="Masks of the same size, drawn at random by count and by energy; the smallest and the largest once each.",
    )  # fmt: skip
    options = _choose_options(bench, strategy, before.options if before else USUAL)
    asked = Asked(
        strategy=strategy, kinds=chosen, layers=layers, per_head=bench.per_head, mode=bench.mode, scorer=bench.scorer,
        limit=bench.score_limit, most=most, seconds=None if seconds is None else float(seconds), seed=int(seed),
        controls=int(draws), test_limit=bench.eval_limit, options=options,
    )  # fmt: skip
    st.caption(f"{literal(SUMMARIES[strategy])}  \n{cost(bench, asked, keys, size)}")
    return asked


def _choose_matrices(
    bench: Bench, before: Asked | None
) -> tuple[tuple[Kind, ...], tuple[int, ...] | None, tuple[MatrixKey, ...], int]:
    """Kinds, layers (None for all), the matrices they name, and how many values these have."""
    with bench.views.borrow() as view:
        existing, n_layers = kinds(view), int(view.config.n_layers)
    start = before.kinds if before else bench.kinds
    left, right = st.columns(2)
    picked = left.multiselect(
        "Kinds", existing, default=[kind for kind in existing if kind in start],
        key=f"search-kinds-{'-'.join(existing)}", persist_state="session",
        help="Starts with those of the settings, and means those if none is chosen.",
    )  # fmt: skip
    layers = right.multiselect(
        "Layers", range(n_layers), default=(before.layers if before else None) or [],
        key=f"search-layers-{n_layers}", persist_state="session", placeholder="all",
    )  # fmt: skip
    chosen = tuple(kind for kind in existing if kind in picked) or bench.kinds
    where = tuple(sorted(layers)) or None
    keys = searching.keys_of(bench, chosen, where)
    with bench.views.borrow() as view:
        size = sum(min(shape(view, key)) for key in keys)
    return chosen, where, keys, size


def _choose_options(bench: Bench, strategy: str, before: StrategyOptions) -> StrategyOptions:
    if strategy == "paper":
        return StrategyOptions(
            per_kind=st.toggle(
                "Same share of every kind", before.per_kind, key="search-per-kind", persist_state="session",
                help="Removes the lowest fraction of each kind on its own, not of all values together.",
            )
        )  # fmt: skip
    return _choose_members(bench, before) if strategy == "ensemble" else USUAL


def _choose_members(bench: Bench, before: StrategyOptions) -> StrategyOptions:
    """What an ensemble combines."""
    usual = EnsembleSettings()
    first, second, third, fourth = st.columns([2, 2, 1, 1])
    base = first.selectbox(
        "Combines the masks of", list(BASES), list(BASES).index(before.base or usual.base), key="search-base",
        persist_state="session",
    )  # fmt: skip
    offered = {"splits": "halves of the train examples", "seeds": "seeds", TASKS_OVER: "other tasks"}
    start = TASKS_OVER if before.other_tasks else before.over
    over = second.selectbox(
        "Its searches differ in", list(offered), list(offered).index(start or usual.over),
        format_func=offered.__getitem__, key="search-over", persist_state="session",
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
                persist_state="session",
            )
        )  # fmt: skip
    at_least = fourth.number_input(
        "In at least", 1, most, None if (before.at_least or most) >= most else before.at_least,
        key=f"search-at-least-{most}", persist_state="session", placeholder="every number",
        help="How many of the masks must remove a value: 1 for the union. If it is left empty, every number is tried.",
    )  # fmt: skip
    return StrategyOptions(
        base=None if base == usual.base else base,
        members=None if members == usual.resamples else members,
        over=",".join(tasks) or None if over == TASKS_OVER else None if over == usual.over else over,
        at_least=at_least,
    )


def _choose_most(bench: Bench, size: int, before: Asked | None) -> int:
    key = f"search-most-{bench.model.digest[7:15]}"
    if st.session_state.get(key, 0) > size:
        st.session_state[key] = size
    start = min(before.most if before else max(1, round(SHARE * size)), size)
    return int(
        st.number_input(
            "Most removed", 1, size, start, key=key, persist_state="session",
            help=f"Of {size:,} values of these matrices. The unpruned model counts as a result, if nothing helps.",
        )
    )  # fmt: skip


def cost(bench: Bench, asked: Asked, keys: tuple[MatrixKey, ...], size: int) -> str:
    """What a search takes, in the words of the page: measurements, examples, controls."""
    train = len(bench.task.split("train", asked.limit))
    validation = len(bench.task.split("validation"))
    test = len(bench.task.split("test", asked.test_limit))
    draws = 2 * asked.controls + 2 if asked.controls else 0
    masks = f", {draws:,} control masks" if draws else ""
    return (
        f"{len(keys):,} matrices, {size:,} values. {_steps(asked, len(keys), size)} A measurement runs {train:,} train "
        f"and {validation:,} validation examples. At the end the mask{masks} and the unpruned model run {test:,} test "
        "examples, which no search sees."
    )


def _steps(asked: Asked, matrices: int, size: int) -> str:
    grid = len(tuple(counts(min(asked.most, size))))
    if asked.strategy == "paper":
        return f"One scoring, {grid + 1} measurements."
    if asked.strategy == "adaptive":
        return f"One scoring, up to {matrices * grid + 1:,} measurements on validation examples only."
    if asked.strategy == "verified":
        return "A scoring and a few measurements per round, until nothing helps any more."
    if asked.strategy == "learned":
        steps = LearnedSettings().steps
        return f"Up to {steps} training steps of 3 passes over the train examples, {steps // EVERY + 1} measurements."
    if asked.strategy == "laser":
        return f"Up to {matrices * len(KEPT) + 1:,} measurements on validation examples only."
    if asked.strategy in CONTROLS:
        return f"One scoring, up to {grid * (DRAWS if asked.strategy in RANDOM else 1) + 1} measurements."
    usual, given = EnsembleSettings(), asked.options
    tasks = given.other_tasks
    searches = 1 + len(tasks) if tasks else given.members or usual.resamples
    where = "with seeds of their own" if given.over == "seeds" else "on halves of the train examples"
    return (
        f"{searches} searches {'on a task each' if tasks else where} ({given.base or usual.base}), then up to "
        f"{searches} measurements."
    )
