"""What to search for: strategy, matrices and budget, with what it will cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import streamlit as st

from explorer.actions import Search
from explorer.core.config import settings
from explorer.core.keys import Kind
from explorer.models.matrices import kinds, shape
from explorer.search import SUMMARIES
from explorer.search.anchor import HELD
from explorer.search.controls import DRAWS
from explorer.search.options import USUAL
from explorer.search.request import SearchRequest
from explorer.ui.components.words import literal
from explorer.ui.jobs import searching
from explorer.ui.search import strategy_options
from explorer.ui.search.cost import cost
from explorer.ui.session import guide, links, state
from explorer.ui.session.requests import Setting
from explorer.ui.session.session import Bench
from explorer.ui.session.state import Widget
from explorer.ui.shell import plain_text

SHARE = 0.02  # of all values that may be removed, until the user says otherwise
MOST_DRAWS, MOST_SEED, MOST_SECONDS, MOST_GROWTH = 200, 2**31 - 1, 7 * 24 * 3600, 1000.0
START = "verified"
OUT = "found.mask.json"


@dataclass(frozen=True)
class Where:
    """The matrices that a search looks at.

    Attributes:
        layers: None for all.
        matrices, values: how many there are.
    """

    kinds: tuple[Kind, ...]
    layers: tuple[int, ...] | None
    matrices: int
    values: int


@dataclass(frozen=True)
class Limits:
    """What it may use up, and what follows it, as `SearchRequest` has it."""

    most: int
    seconds: float | None
    growth: float | None
    controls: int
    seed: int


def choose(bench: Bench, before: SearchRequest | None) -> SearchRequest:
    """Draw the form; it starts with the link's values, else with what this session searched for last."""
    if (again := state.take(SearchRequest)) is not None:
        _fill(bench, again)
    strategy, where = _choose_search(bench, before)
    options = strategy_options.choose(bench, strategy, before.options if before else USUAL)
    limits = _choose_limits(bench, where, before)
    asked = SearchRequest(
        strategy=strategy, kinds=where.kinds, layers=where.layers, per_head=bench.per_head, mode=bench.mode,
        scorer=bench.scorer, limit=bench.score_limit, max_removed=limits.most, seconds=limits.seconds, seed=limits.seed,
        controls=limits.controls, test_limit=bench.eval_limit, options=options, growth=limits.growth,
    )  # fmt: skip
    st.caption(cost(bench, asked, where.matrices, size=where.values))
    return asked


def request(setting: Setting, asked: SearchRequest) -> Search:
    """The search as a command writes it down; its splits are the task's, whatever its own seed."""
    splits = setting.task.seed or 0
    return Search(
        model=setting.model, task=replace(setting.task, seed=asked.seed), out=Path(OUT), strategy=asked.strategy,
        **vars(asked.options), kinds=",".join(asked.kinds or ()) or "all",
        layers=None if asked.layers is None else ",".join(map(str, asked.layers)), max_removed=str(asked.max_removed),
        time=asked.seconds, max_growth=asked.growth, compute=asked.compute, controls=asked.controls,
        test_limit=asked.test_limit,
        scorer=asked.scorer, mode=asked.mode, stacked=not asked.per_head, limit=asked.limit,
        split_seed=None if asked.seed == splits else splits,
    )  # fmt: skip


def show(asked: SearchRequest) -> None:
    """Let the form hold what was asked in another search; for callbacks."""
    state.put(asked)


def _fill(bench: Bench, asked: SearchRequest) -> None:
    """Put what was asked into the form's fields, before they are drawn."""
    with bench.views.borrow() as view:
        existing, n_layers = kinds(view), int(view.config.n_layers)
    values = {
        "search-strategy": asked.strategy,
        _kinds_key(existing): list(asked.kinds or existing),
        f"search-layers-{n_layers}": list(asked.layers or ()),
        _most_key(bench): asked.max_removed,
        "search-seconds": None if asked.seconds is None else int(asked.seconds),
        "search-growth": _in_percent(asked.growth),
        "search-controls": asked.controls,
        "search-seed": asked.seed,
    }
    for key, value in values.items():
        Widget[object](key).put(value)
    strategy_options.fill(asked.options)


def _kinds_key(existing: tuple[Kind, ...]) -> str:
    return f"search-kinds-{'-'.join(existing)}"


def _most_key(bench: Bench) -> str:
    return f"search-most-{bench.model.digest[7:15]}"


def _choose_search(bench: Bench, before: SearchRequest | None) -> tuple[str, Where]:
    """The strategy, and where it looks."""
    first, second, third = st.columns([1, 1, 1])
    linked = links.restore(
        "strategy", START, links.one_of(SUMMARIES), key="search-strategy", start=before.strategy if before else None
    )
    strategy = str(
        first.selectbox(
            "Strategy", list(SUMMARIES), key=linked.key, persist_state="session",
            help="  \n".join(f"**{name}**: {literal(text)}" for name, text in SUMMARIES.items()),
        )
    )  # fmt: skip
    linked.keep(strategy)
    with bench.views.borrow() as view:
        existing, n_layers = kinds(view), int(view.config.n_layers)
    usual = bench.kinds if before is None else before.kinds or existing
    of_kinds = links.restore(
        "search-kinds", list(bench.kinds), links.some_of(existing), key=_kinds_key(existing),
        start=[kind for kind in existing if kind in usual], text=links.joined_texts,
    )  # fmt: skip
    picked = second.multiselect(
        "Kinds of matrices", existing, key=of_kinds.key, persist_state="session",
        help="Starts with those of the settings, and means those if none is chosen.",
    )  # fmt: skip
    of_layers = links.restore(
        "search-layers", [], links.some_of(range(n_layers)), key=f"search-layers-{n_layers}",
        start=list((before.layers if before else None) or ()), text=links.joined_texts,
    )  # fmt: skip
    layers = third.multiselect(
        "Layers", range(n_layers), key=of_layers.key, persist_state="session", placeholder="all",
        help="Only values of these layers may be removed; all layers if none is chosen.",
    )  # fmt: skip
    guide.explain(literal(SUMMARIES[strategy]))
    chosen, among = tuple(kind for kind in existing if kind in picked) or bench.kinds, tuple(sorted(layers)) or None
    of_kinds.keep(list(chosen))
    of_layers.keep(list(among or ()))
    keys = searching.keys_of(bench, chosen, among)
    with bench.views.borrow() as view:
        values = sum(min(shape(view, key)) for key in keys)
    return strategy, Where(chosen, among, len(keys), values=values)


def _choose_limits(bench: Bench, where: Where, before: SearchRequest | None) -> Limits:
    """The budget, and how the result is checked; the perplexity only for a model that reads the text."""
    reads = plain_text.reads(bench.model)
    places = iter(st.columns([1, 1, *([1.35] if reads else []), 1, 1]))
    with next(places):
        most = _choose_most(bench, where.values, before)
    start = None if before is None or before.seconds is None else int(before.seconds)
    time: links.Linked[int | None] = links.restore("search-seconds", None, links.whole_in(1, MOST_SECONDS), start=start)
    seconds = next(places).number_input(
        "Time (seconds)", min_value=1, max_value=MOST_SECONDS, value=None, key=time.key, persist_state="session",
        placeholder="no limit", help="Then the best mask so far is the result. All runs of one search count together.",
    )  # fmt: skip
    time.keep(seconds)
    growth = None
    if reads:
        with next(places):
            growth = _choose_growth(before)
    of_draws = links.restore(
        "search-controls", DRAWS, links.whole_in(0, MOST_DRAWS), start=before.controls if before else None
    )
    draws = next(places).number_input(
        "Control draws", 0, MOST_DRAWS, key=of_draws.key, persist_state="session",
        help="Masks of the same size, drawn at random per matrix and by energy; the smallest and the largest once. "
        "What chance does, to compare the result with.",
    )  # fmt: skip
    of_draws.keep(int(draws))
    of_seed = links.restore(
        "search-seed", settings().seed, links.whole_in(0, MOST_SEED), start=before.seed if before else None
    )
    seed = next(places).number_input(
        "Seed", 0, MOST_SEED, key=of_seed.key, persist_state="session",
        help="Of everything that the search and its controls draw by lot: equal seeds give equal masks.",
    )  # fmt: skip
    of_seed.keep(int(seed))
    return Limits(most, None if seconds is None else float(seconds), growth, controls=int(draws), seed=int(seed))


def _choose_most(bench: Bench, size: int, before: SearchRequest | None) -> int:
    usual = max(1, round(SHARE * size))
    start = min(before.max_removed if before else usual, size)
    linked = links.restore("most", usual, links.whole_in(1, size), key=_most_key(bench), start=start)
    widget = Widget[int](linked.key)
    if (widget.value or 0) > size:
        widget.put(size)
    most = int(
        st.number_input(
            "Most removed", 1, size, key=linked.key, persist_state="session",
            help=f"Of {size:,} values of these matrices. The unpruned model counts as a result, if nothing helps.",
        )
    )  # fmt: skip
    linked.keep(most)
    return most


def _choose_growth(before: SearchRequest | None) -> float | None:
    """The largest growth of the perplexity, asked for in percent."""
    start = None if before is None else _in_percent(before.growth)
    linked: links.Linked[float | None] = links.restore(
        "search-growth", None, links.number_in(0.0, MOST_GROWTH), start=start
    )
    percent = st.number_input(
        "Perplexity growth (%)", min_value=0.0, max_value=MOST_GROWTH, value=None, step=1.0, format="%g",
        key=linked.key,
        persist_state="session", placeholder="no limit",
        help="What the mask may cost where no task is asked: 10 lets the perplexity of plain text grow by 10 % at "
        f"most, on {HELD} blocks of it that no strategy trains on. Masks beyond that are no results.",
    )  # fmt: skip
    linked.keep(percent)
    return None if percent is None else round(percent / 100, 6)


def _in_percent(growth: float | None) -> float | None:
    return None if growth is None else round(100 * growth, 4)
