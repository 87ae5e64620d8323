"""What to search for: strategy, matrices and budget, with what it will cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import streamlit as st

from explorer.actions import Search
from explorer.core.config import settings
from explorer.core.keys import Kind
from explorer.models.matrices import kinds, shape
from explorer.search import SUMMARIES
from explorer.search.anchor import HELD
from explorer.search.controls import DRAWS
from explorer.search.request import USUAL_GROWTH, SearchRequest
from explorer.ui.components.words import literal
from explorer.ui.jobs import searching
from explorer.ui.search import evidence, strategy_options
from explorer.ui.search.cost import cost
from explorer.ui.session import Bench, Setting, Widget, guide, links, state
from explorer.ui.shell import plain_text

SHARE = 0.02  # of all values that may be removed, until the user says otherwise
MOST_DRAWS, MOST_SEED, MOST_SECONDS, MOST_GROWTH = 200, 2**31 - 1, 7 * 24 * 3600, 1000.0
START = "thorough"
OUT = "found.mask.json"
_FIELDS = (  # what the keys of the form's widgets begin with, behind `search-`
    "strategy", "kinds", "layers", "most", "seconds", "growth", "controls", "seed", *strategy_options.FIELDS,
    *evidence.FIELDS,
)  # fmt: skip


def choose(bench: Bench, before: SearchRequest | None) -> SearchRequest:
    """Draw the form; it starts with the link's values, else with what this session searched for last."""
    usual = SearchRequest(
        strategy=START, kinds=bench.kinds, layers=None, per_head=bench.per_head, mode=bench.mode, scorer=bench.scorer,
        limit=bench.score_limit, max_removed=0, seconds=None, seed=settings().seed, controls=DRAWS,
        test_limit=bench.eval_limit, growth=USUAL_GROWTH if plain_text.reads(bench.model) else None,
    )  # fmt: skip
    before = before or usual
    strategy, kinds, layers = _choose_search(bench, before)
    keys = searching.keys_of(bench, kinds, layers)
    with bench.views.borrow() as view:
        size = sum(min(shape(view, key)) for key in keys)
    options = strategy_options.choose(bench, strategy, before.options)
    where = replace(usual, strategy=strategy, kinds=kinds, layers=layers, options=options)
    asked = _choose_limits(bench, where, before, size=size)
    asked = replace(asked, evidence=evidence.choose(bench.mode, before.evidence))
    st.caption(cost(bench, asked, len(keys), size=size))
    return asked


def request(setting: Setting, asked: SearchRequest) -> Search:
    """The search as a command writes it down; its splits are the task's, whatever its own seed."""
    splits, proof = setting.task.seed or 0, asked.evidence
    return Search(
        model=setting.model, task=replace(setting.task, seed=asked.seed), out=Path(OUT), strategy=asked.strategy,
        **vars(asked.options), kinds=",".join(asked.kinds or ()) or "all",
        layers=None if asked.layers is None else ",".join(map(str, asked.layers)), max_removed=str(asked.max_removed),
        time=asked.seconds, max_growth="none" if asked.growth is None else str(asked.growth),
        compute=asked.compute, controls=asked.controls, test_limit=asked.test_limit,
        nulls=",".join(proof.nulls) or None, baselines=",".join(proof.baselines) or None, repeats=proof.repeats,
        evidence=proof.parts, scorer=asked.scorer, mode=asked.mode, stacked=not asked.per_head, limit=asked.limit,
        split_seed=None if asked.seed == splits else splits,
    )  # fmt: skip


def renew() -> None:
    """Let the form start anew, with what is searched for next; for callbacks."""
    for widget in state.widgets_named(*(f"search-{name}" for name in _FIELDS)):
        widget.drop()


def _choose_search(bench: Bench, before: SearchRequest) -> tuple[str, tuple[Kind, ...], tuple[int, ...] | None]:
    """The strategy, and the kinds and layers where it looks; None for all layers."""
    first, second, third = st.columns([1, 1, 1])
    linked = links.restore("strategy", START, links.one_of(SUMMARIES), key="search-strategy", start=before.strategy)
    strategy = linked.draw(
        first.selectbox, "Strategy", list(SUMMARIES),
        help="  \n".join(f"**{name}**: {literal(text)}" for name, text in SUMMARIES.items()),
    )  # fmt: skip
    with bench.views.borrow() as view:
        existing, n_layers = kinds(view), int(view.config.n_layers)
    of_kinds = links.restore(
        "search-kinds", list(bench.kinds), links.some_of(existing), key=f"search-kinds-{'-'.join(existing)}",
        start=[kind for kind in existing if kind in (before.kinds or existing)], text=links.joined_texts,
    )  # fmt: skip
    picked = second.multiselect(
        "Kinds of matrices", existing, key=of_kinds.key, persist_state="session",
        help="Starts with those of the settings, and means those if none is chosen.",
    )  # fmt: skip
    of_layers = links.restore(
        "search-layers", [], links.some_of(range(n_layers)), key=f"search-layers-{n_layers}",
        start=list(before.layers or ()), text=links.joined_texts,
    )  # fmt: skip
    layers = third.multiselect(
        "Layers", range(n_layers), key=of_layers.key, persist_state="session", placeholder="all",
        help="Only values of these layers may be removed; all layers if none is chosen.",
    )  # fmt: skip
    guide.explain(literal(SUMMARIES[strategy]))
    chosen, among = tuple(kind for kind in existing if kind in picked) or bench.kinds, tuple(sorted(layers)) or None
    of_kinds.keep(list(chosen))
    of_layers.keep(list(among or ()))
    return strategy, chosen, among


def _choose_limits(bench: Bench, asked: SearchRequest, before: SearchRequest, size: int) -> SearchRequest:
    """`asked` with its budget among `size` values, and with how the result is checked.

    The perplexity is asked for only where the model reads the text.
    """
    reads = plain_text.reads(bench.model)
    places = iter(st.columns([1, 1, *([1.35] if reads else []), 1, 1]))
    with next(places):
        most = _choose_most(bench, size, before.max_removed)
    start = None if before.seconds is None else int(before.seconds)
    time: links.Linked[int | None] = links.restore("search-seconds", None, links.whole_in(1, MOST_SECONDS), start=start)
    seconds = time.draw(
        next(places).number_input, "Time (seconds)", min_value=1, max_value=MOST_SECONDS, value=None,
        placeholder="no limit", help="Then the best mask so far is the result. All runs of one search count together.",
    )  # fmt: skip
    growth = None
    if reads:
        with next(places):
            growth = _choose_growth(before)
    of_draws = links.restore("search-controls", DRAWS, links.whole_in(0, MOST_DRAWS), start=before.controls)
    draws = of_draws.draw(
        next(places).number_input, "Control draws", min_value=0, max_value=MOST_DRAWS,
        help="Masks of the same size, drawn at random per matrix and by energy; the smallest and the largest once. "
        "What chance does, to compare the result with.",
    )  # fmt: skip
    of_seed = links.restore("search-seed", settings().seed, links.whole_in(0, MOST_SEED), start=before.seed)
    seed = of_seed.draw(
        next(places).number_input, "Seed", min_value=0, max_value=MOST_SEED,
        help="Of everything that the search and its controls draw by lot: equal seeds give equal masks.",
    )  # fmt: skip
    limit = None if seconds is None else float(seconds)
    return replace(asked, max_removed=most, seconds=limit, growth=growth, controls=draws, seed=seed)


def _choose_most(bench: Bench, size: int, before: int) -> int:
    """The largest number of removed values; starts with that of `before`, or with a share of all if that is 0."""
    usual = max(1, round(SHARE * size))
    linked = links.restore(
        "most", usual, links.whole_in(1, size), key=f"search-most-{bench.model.digest[7:15]}",
        start=min(before or usual, size),
    )  # fmt: skip
    widget = Widget[int](linked.key)
    if (widget.value or 0) > size:
        widget.put(size)
    return linked.draw(
        st.number_input, "Most removed", min_value=1, max_value=size,
        help=f"Of {size:,} values of these matrices. The unpruned model counts as a result, if nothing helps.",
    )  # fmt: skip


def _choose_growth(before: SearchRequest) -> float | None:
    """The largest growth of the perplexity, asked for in percent."""
    start = None if before.growth is None else round(100 * before.growth, 4)
    linked: links.Linked[float | None] = links.restore(
        "search-growth", 100 * USUAL_GROWTH, links.number_in(0.0, MOST_GROWTH), start=start, optional=True,
        text=lambda one: links.NOTHING if one is None else str(one),
    )  # fmt: skip
    percent = linked.draw(
        st.number_input, "Perplexity growth (%)", min_value=0.0, max_value=MOST_GROWTH, value=None, step=1.0,
        format="%g", placeholder="no limit",
        help="What the mask may cost where no task is asked: 10 lets the perplexity grow by 10 % at most, on "
        f"{HELD} blocks of prose and program text that no strategy trains on. Masks beyond that are no results.",
    )  # fmt: skip
    return None if percent is None else round(percent / 100, 6)
