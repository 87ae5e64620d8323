"""What to search for: strategy, matrices and budget, with what it will cost."""

from __future__ import annotations

from collections.abc import Callable
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
from explorer.ui.search import strategy_options
from explorer.ui.search.cost import cost
from explorer.ui.session import guide, links, searching
from explorer.ui.session.requests import Setting
from explorer.ui.session.session import Bench
from explorer.ui.shell import plain_text

SHARE = 0.02  # of all values that may be removed, until the user says otherwise
MOST_DRAWS, MOST_SEED, MOST_SECONDS, MOST_GROWTH = 200, 2**31 - 1, 7 * 24 * 3600, 1000.0
START = "verified"
OUT = "found.mask.json"
_AGAIN = "search-again"


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
    if (again := st.session_state.pop(_AGAIN, None)) is not None:
        _fill(bench, again)
    strategy, where = _choose_search(bench, before)
    options = strategy_options.choose(bench, strategy, before.options if before else USUAL)
    limits = _choose_limits(bench, where, before)
    asked = SearchRequest(
        strategy=strategy, kinds=where.kinds, layers=where.layers, per_head=bench.per_head, mode=bench.mode,
        scorer=bench.scorer, limit=bench.score_limit, max_removed=limits.most, seconds=limits.seconds, seed=limits.seed,
        controls=limits.controls, test_limit=bench.eval_limit, options=options, growth=limits.growth,
    )  # fmt: skip
    st.caption(cost(bench, asked, where.matrices, where.values))
    return asked


def request(setting: Setting, asked: SearchRequest) -> Search:
    """The search as a command writes it down; its splits are the task's, whatever its own seed."""
    splits = setting.task.seed or 0
    return Search(
        model=setting.model, task=replace(setting.task, seed=asked.seed), out=Path(OUT), strategy=asked.strategy,
        **vars(asked.options), kinds=",".join(asked.kinds or ()) or "all",
        layers=None if asked.layers is None else ",".join(map(str, asked.layers)), max_removed=str(asked.max_removed),
        time=asked.seconds, max_growth=asked.growth, controls=asked.controls, test_limit=asked.test_limit,
        scorer=asked.scorer, mode=asked.mode, stacked=not asked.per_head, limit=asked.limit,
        split_seed=None if asked.seed == splits else splits,
    )  # fmt: skip


def show(asked: SearchRequest) -> None:
    """Let the form hold what was asked in another search; for callbacks."""
    st.session_state[_AGAIN] = asked


def _fill(bench: Bench, asked: SearchRequest) -> None:
    """Put what was asked into the form's fields, before they are drawn."""
    with bench.views.borrow() as view:
        existing, n_layers = kinds(view), int(view.config.n_layers)
    st.session_state.update(
        {
            "search-strategy": asked.strategy,
            _kinds_key(existing): list(asked.kinds or existing),
            f"search-layers-{n_layers}": list(asked.layers or ()),
            _most_key(bench): asked.max_removed,
            "search-seconds": None if asked.seconds is None else int(asked.seconds),
            "search-growth": _in_percent(asked.growth),
            "search-controls": asked.controls,
            "search-seed": asked.seed,
        }
    )
    strategy_options.fill(asked.options)


def _kinds_key(existing: tuple[Kind, ...]) -> str:
    return f"search-kinds-{'-'.join(existing)}"


def _most_key(bench: Bench) -> str:
    return f"search-most-{bench.model.digest[7:15]}"


def _choose_search(bench: Bench, before: SearchRequest | None) -> tuple[str, Where]:
    """The strategy, and where it looks."""
    first, second, third = st.columns([1, 1, 1])
    links.restore("strategy", "search-strategy", before.strategy if before else START, links.one_of(SUMMARIES))
    strategy = str(
        first.selectbox(
            "Strategy", list(SUMMARIES), key="search-strategy", persist_state="session",
            help="  \n".join(f"**{name}**: {literal(text)}" for name, text in SUMMARIES.items()),
        )
    )  # fmt: skip
    links.keep("strategy", strategy, START)
    with bench.views.borrow() as view:
        existing, n_layers = kinds(view), int(view.config.n_layers)
    usual = bench.kinds if before is None else before.kinds or existing
    start = [kind for kind in existing if kind in usual]
    links.restore("search-kinds", _kinds_key(existing), start, links.some_of(existing))
    picked = second.multiselect(
        "Kinds of matrices", existing, key=_kinds_key(existing), persist_state="session",
        help="Starts with those of the settings, and means those if none is chosen.",
    )  # fmt: skip
    layers_key = f"search-layers-{n_layers}"
    links.restore("search-layers", layers_key, list((before.layers if before else None) or ()), _layers(n_layers))
    layers = third.multiselect(
        "Layers", range(n_layers), key=layers_key, persist_state="session", placeholder="all",
        help="Only values of these layers may be removed; all layers if none is chosen.",
    )  # fmt: skip
    guide.explain(literal(SUMMARIES[strategy]))
    chosen, among = tuple(kind for kind in existing if kind in picked) or bench.kinds, tuple(sorted(layers)) or None
    links.keep("search-kinds", chosen, bench.kinds, links.joined_texts)
    links.keep("search-layers", among or (), (), links.joined_texts)
    keys = searching.keys_of(bench, chosen, among)
    with bench.views.borrow() as view:
        values = sum(min(shape(view, key)) for key in keys)
    return strategy, Where(chosen, among, len(keys), values)


def _layers(n_layers: int) -> Callable[[str], list[int] | None]:
    return links.some_of(range(n_layers))


def _choose_limits(bench: Bench, where: Where, before: SearchRequest | None) -> Limits:
    """The budget, and how the result is checked; the perplexity only for a model that reads the text."""
    reads = plain_text.reads(bench.model)
    places = iter(st.columns([1, 1, *([1.35] if reads else []), 1, 1]))
    with next(places):
        most = _choose_most(bench, where.values, before)
    start = None if before is None or before.seconds is None else int(before.seconds)
    links.restore("search-seconds", "search-seconds", start, links.whole_in(1, MOST_SECONDS))
    seconds = next(places).number_input(
        "Time (seconds)", 1, MOST_SECONDS, None, key="search-seconds", persist_state="session",
        placeholder="no limit", help="Then the best mask so far is the result. All runs of one search count together.",
    )  # fmt: skip
    links.keep("search-seconds", seconds, None)
    growth = None
    if reads:
        with next(places):
            growth = _choose_growth(before)
    links.restore(
        "search-controls", "search-controls", before.controls if before else DRAWS, links.whole_in(0, MOST_DRAWS)
    )
    draws = next(places).number_input(
        "Control draws", 0, MOST_DRAWS, key="search-controls", persist_state="session",
        help="Masks of the same size, drawn at random per matrix and by energy; the smallest and the largest once. "
        "What chance does, to compare the result with.",
    )  # fmt: skip
    links.keep("search-controls", draws, DRAWS)
    links.restore(
        "search-seed", "search-seed", before.seed if before else settings().seed, links.whole_in(0, MOST_SEED)
    )
    seed = next(places).number_input(
        "Seed", 0, MOST_SEED, key="search-seed", persist_state="session",
        help="Of everything that the search and its controls draw by lot: equal seeds give equal masks.",
    )  # fmt: skip
    links.keep("search-seed", seed, settings().seed)
    return Limits(most, None if seconds is None else float(seconds), growth, int(draws), int(seed))


def _choose_most(bench: Bench, size: int, before: SearchRequest | None) -> int:
    key, usual = _most_key(bench), max(1, round(SHARE * size))
    links.restore("most", key, min(before.max_removed if before else usual, size), links.whole_in(1, size))
    if st.session_state[key] > size:
        st.session_state[key] = size
    most = int(
        st.number_input(
            "Most removed", 1, size, key=key, persist_state="session",
            help=f"Of {size:,} values of these matrices. The unpruned model counts as a result, if nothing helps.",
        )
    )  # fmt: skip
    links.keep("most", most, usual)
    return most


def _choose_growth(before: SearchRequest | None) -> float | None:
    """The largest growth of the perplexity, asked for in percent."""
    start = None if before is None else _in_percent(before.growth)
    links.restore("search-growth", "search-growth", start, links.number_in(0.0, MOST_GROWTH))
    percent = st.number_input(
        "Perplexity growth (%)", 0.0, MOST_GROWTH, None, step=1.0, format="%g", key="search-growth",
        persist_state="session", placeholder="no limit",
        help="What the mask may cost where no task is asked: 10 lets the perplexity of plain text grow by 10 % at "
        f"most, on {HELD} blocks of it that no strategy trains on. Masks beyond that are no results.",
    )  # fmt: skip
    links.keep("search-growth", percent, None)
    return None if percent is None else round(percent / 100, 6)


def _in_percent(growth: float | None) -> float | None:
    return None if growth is None else round(100 * growth, 4)
