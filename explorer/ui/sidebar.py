"""The sidebar of every page: model, task, settings, and the state of the mask."""

from __future__ import annotations

from typing import get_args

import streamlit as st

from explorer.attribution import SCORERS
from explorer.keys import Kind
from explorer.models import NAMED, Basis, Model, ViewPool, available
from explorer.registry import kinds
from explorer.tasks import Task
from explorer.ui import cached, guide, keyboard, links, mask_panel, session, task_choice, tasks_at_hand, work
from explorer.ui.model_choice import agree, agreed, fetch
from explorer.ui.session import Bench
from explorer.ui.words import literal

ALL = "all"
PER_HEAD = "per head"
GRANULARITIES = (PER_HEAD, "stacked")
USUAL_KINDS = (Kind.Q, Kind.K)
LIMITS = (16, 32, 64, 128, 256, 512, ALL)
SMALL_MODEL = 10_000_000  # parameters up to which whole splits run within a click
MODES: dict[str, str] = {"freeze": "frozen at their mean", "zero": "set to zero"}


def bench() -> Bench | None:
    """Draw the sidebar; everything the page needs, or None while it cannot be had (the reason is on the page)."""
    with st.sidebar:
        guide.draw()
        name = _choose_model()
        task, hint = task_choice.choose()
        tasks_at_hand.note_upload()
        settings_box = st.expander("Settings", icon=":material/tune:")
    with settings_box:
        basis = _choose_basis()
    show_notices()
    if not agreed(name, "load-linked") or (name in NAMED and not available(name) and not fetch(name, "fetch")):
        return None
    model = work.loaded(name, basis)
    if model is None:
        return None
    views = cached.views(model, model.as_loaded)
    with views.borrow() as view:
        existing = kinds(view)
    links.take(model)
    mask_panel.take_upload(model, views)
    links.follow(model)
    with settings_box:
        bench = _choose_settings(model, views, task, existing) if task is not None else None
    with st.sidebar:
        mask_panel.draw(model, bench)
        keyboard.draw()
    if task is None:
        st.info(hint, icon=":material/upload_file:")
    return bench


def _choose_model() -> str:
    def choose() -> None:
        agree(str(st.session_state["model"] or ""))

    chosen = st.selectbox(
        "Model",
        list(NAMED),
        key="model",
        accept_new_options=True,
        bind="query-params",
        on_change=choose,
        help="Pick one, or type a Hugging Face hub id, the path of a model folder, or the path of a .gguf file.",
    )
    name = str(chosen or next(iter(NAMED)))
    if name in NAMED:
        st.caption(NAMED[name].summary)
    return name


def _choose_basis() -> str:
    """What is decomposed."""
    chosen = st.segmented_control(
        "Basis",
        get_args(Basis),
        default="raw",
        required=True,
        key="basis",
        bind="query-params",
        help="Raw: weights as in the checkpoint. Folded: layer norms folded into them. Outputs are the same, singular "
        "values differ, and a mask belongs to one basis.",
    )
    return str(chosen)


def _choose_settings(model: Model, views: ViewPool, task: Task, existing: tuple[Kind, ...]) -> Bench:
    chosen, per_head = _choose_matrices(existing)
    _choose_mode(model)
    scorer = _choose_scorer()
    score_limit = _choose_limit(
        "Train examples to score on", "score_limit", model, "The first ones. Scores and frozen means come from them."
    )
    split = st.segmented_control(
        "Measure on",
        ["validation", "test"],
        default="validation",
        required=True,
        key="split",
        bind="query-params",
        help="Choose on validation examples, look at test ones at the end: clicking while you watch is a search too.",
    )
    eval_limit = _choose_limit(
        "Examples to measure on",
        "eval_limit",
        model,
        "The first ones of the split: a random sample, as it is shuffled.",
    )
    return Bench(
        model=model,
        views=views,
        svds=cached.svds(),
        task=task,
        mask=session.history(model).mask,
        kinds=chosen,
        per_head=per_head,
        scorer=scorer,
        score_limit=score_limit,
        split=str(split),
        eval_limit=eval_limit,
    )


def _choose_matrices(existing: tuple[Kind, ...]) -> tuple[tuple[Kind, ...], bool]:
    """The kinds to score, and whether attention matrices are taken per head."""
    key = f"kinds-{'-'.join(existing)}"
    links.restore("kinds", key, list(USUAL_KINDS), links.some_of(existing))
    picked = st.multiselect(
        "Matrices to score",
        existing,
        key=key,
        persist_state="session",
        help="The set M whose values are scored; Q and K if none is chosen.",
    )
    links.restore("granularity", "granularity", PER_HEAD, links.one_of(GRANULARITIES))
    granularity = st.segmented_control(
        "Attention matrices", GRANULARITIES, required=True, key="granularity", persist_state="session",
        help="Decompose each head's part of Q, K, V and O on its own, or the matrices of all heads stacked.",
    )  # fmt: skip
    chosen = tuple(kind for kind in existing if kind in picked) or USUAL_KINDS
    links.keep("kinds", chosen, USUAL_KINDS, links.joined_texts)
    links.keep("granularity", granularity, PER_HEAD)
    return chosen, granularity == PER_HEAD


def _choose_scorer() -> str:
    """A scorer whose scores predict a change of the loss, without the slow reference."""
    offered = [name for name, spec in SCORERS.items() if spec.in_nats and name != "exact"]
    links.restore("scorer", "scorer", offered[0], links.one_of(offered))
    chosen = st.selectbox("Scorer", offered, key="scorer", persist_state="session", help=_scorers_help(offered))
    links.keep("scorer", chosen, offered[0])
    st.caption(SCORERS[chosen].cost.capitalize() + ".")
    return chosen


def _scorers_help(names: list[str]) -> str:
    return "  \n".join(f"**{name}**: {SCORERS[name].summary}" for name in names)


def _choose_limit(label: str, name: str, model: Model, about: str) -> int | None:
    """How many examples of a split, None for all; by default as many as take about a click."""
    usual: int | str = ALL if model.parameters_count <= SMALL_MODEL else 64
    key = f"{name}-{usual}"
    links.restore(name, key, usual, links.one_of(LIMITS))
    chosen = st.select_slider(label, LIMITS, key=key, persist_state="session", help=about)
    links.keep(name, chosen, usual)
    return chosen if isinstance(chosen, int) else None


def _choose_mode(model: Model) -> None:
    st.session_state["mode"] = session.history(model).mask.mode

    def change() -> None:
        mode = st.session_state["mode"]
        session.change_mask(model, lambda mask: session.in_mode(mask, mode))

    soft = session.history(model).mask.gain
    st.segmented_control(
        "Parts taken away are" if soft else "Removed values are",
        ["freeze", "zero"],
        format_func=lambda mode: MODES[mode],
        required=True,
        key="mode",
        on_change=change,
        help="Freeze puts the mean over the train tokens of what is taken away into the bias (the paper); zero drops "
        "it.",
    )


def show_notices() -> None:
    """Tell this session what it has not been told yet."""
    seen, sentences = cached.notices().since(st.session_state.get("notices_seen", 0))
    st.session_state["notices_seen"] = seen
    for sentence in sentences:
        st.toast(literal(sentence), icon=":material/info:", duration="long")
