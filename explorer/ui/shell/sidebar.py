"""The sidebar of every page: model, task, settings, and the state of the mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import get_args

import streamlit as st

from explorer.attribution import SCORERS
from explorer.core.keys import Kind
from explorer.masks.mask import Mode
from explorer.models import NAMED, Basis, Model
from explorer.models.adapters import ADAPTED
from explorer.models.matrices import kinds
from explorer.ui.components import keyboard
from explorer.ui.components.words import literal
from explorer.ui.jobs import cached, work
from explorer.ui.session import Bench, Widget, guide, links, session, state
from explorer.ui.session.notices import notices
from explorer.ui.shell import mask_panel, plain_text, task_choice
from explorer.ui.shell.model_choice import agree, here

ALL = "all"
PER_HEAD = "per head"
GRANULARITIES = (PER_HEAD, "stacked")
USUAL_KINDS = (Kind.Q, Kind.K)
LIMITS = (16, 32, 64, 128, 256, 512, ALL)
SPLITS = ("validation", "test")  # to measure on
MOST_LETTERS = 1000  # of a model's name or path
SMALL_MODEL = 10_000_000  # parameters up to which whole splits run within a click
MODES: dict[str, str] = {"freeze": "frozen at their mean", "zero": "set to zero"}


def bench() -> Bench | None:
    """Draw the sidebar; everything the page needs, or None while it cannot be had (the reason is on the page)."""
    with st.sidebar:
        guide.draw()
        name = _choose_model()
        task, hint = task_choice.choose()
        words_box = st.container()
        settings_box = st.expander("Settings", icon=":material/tune:")
    with settings_box:
        basis = _choose_basis()
        name = _with_adapter(name)
        against = _choose_base() if basis == "delta" else ""
    show_notices()
    model = _loaded(name, basis, against)
    if model is None:
        return None
    views = cached.views(model, model.as_loaded)
    with views.borrow() as view:
        existing = kinds(view)
    links.take(model)
    mask_panel.take_upload(model, views)
    links.follow(model)
    with settings_box:
        bench_with = _choose_settings(model, existing)
    bench = None
    if task is not None:
        mask = session.history(model).mask
        bench = bench_with(model=model, views=views, svds=cached.svds(), task=task, mask=mask)
        if (sentence := plain_text.notice(model, task, bench.split)) is not None:
            words_box.warning(literal(sentence), icon=":material/help:")
    with st.sidebar:
        mask_panel.draw(model, bench)
        keyboard.draw(session.steps_taken())
    if task is None:
        st.info(hint, icon=":material/upload_file:")
    return bench


def _choose_model() -> str:
    def choose() -> None:
        agree(Widget[str](linked.key).text)

    usual = next(iter(NAMED))
    linked = links.restore("model", usual, links.text_up_to(MOST_LETTERS))
    chosen = st.selectbox(
        "Model",
        list(NAMED),
        key=linked.key,
        accept_new_options=True,
        persist_state="session",
        on_change=choose,
        help="Pick one, or type a Hugging Face hub id, the path of a model folder, or the path of a .gguf file.",
    )
    name = str(chosen or usual)
    linked.keep(name)
    if name in NAMED:
        st.caption(NAMED[name].summary)
    return name


def _with_adapter(name: str) -> str:
    """The model with the adapter that is merged into it, if one is given."""

    def choose() -> None:
        if folder := Widget[str](linked.key).text:
            agree(f"{name}{ADAPTED}{folder}")

    linked = links.restore("adapter", "", links.text_up_to(MOST_LETTERS))
    typed = linked.draw(
        st.text_input, "Adapter", placeholder="none", on_change=choose,
        help="The folder of a LoRA adapter of PEFT on this machine: it is merged into the model, its base.",
    )  # fmt: skip
    folder = (typed or "").strip()
    return f"{name}{ADAPTED}{folder}" if folder and ADAPTED not in name else name


def _choose_basis() -> str:
    """What is decomposed."""
    offered: tuple[str, ...] = get_args(Basis)
    linked = links.restore("basis", offered[0], links.one_of(offered))
    return linked.draw(
        st.segmented_control, "Basis", offered, required=True,
        help="Raw: weights as in the checkpoint. Folded: layer norms folded into them. Delta: what a fine-tune or an "
        "adapter changed, beside its base model. Outputs are the same, singular values differ, and a mask belongs to "
        "one basis.",
    )  # fmt: skip


def _choose_base() -> str:
    """The model that is subtracted in the basis `delta`; an empty text for none."""

    def choose() -> None:
        agree(Widget[str](linked.key).text.strip())

    linked = links.restore("base", "", links.text_up_to(MOST_LETTERS))
    typed = linked.draw(
        st.text_input, "Base model", placeholder="the model that was fine-tuned", on_change=choose,
        help="A name, a hub id, a model folder or a .gguf file: the model that the one above was made of. Its weights "
        "are subtracted, so that removing a value undoes one direction of the fine-tuning.",
    )  # fmt: skip
    return (typed or "").strip()


def _loaded(name: str, basis: str, against: str) -> Model | None:
    """The model in its basis; None while it, or the base that the basis needs, cannot be had."""
    if basis == "delta" and not against:
        st.info(
            "The basis delta needs the base model: name it in the sidebar's settings.", icon=":material/difference:"
        )
        return None
    if not here(name) or (against and not here(against, "-base")):
        return None
    return work.loaded(name, basis, against or None)


def _choose_settings(model: Model, existing: tuple[Kind, ...]) -> Callable[..., Bench]:
    """A bench with the settings, to be given the rest: they are drawn whether or not there is a task."""
    chosen, per_head = _choose_matrices(existing)
    _choose_mode(model)
    scorer = _choose_scorer()
    about = "The first ones. Scores and frozen means come from them."
    score_limit = _choose_limit("Train examples to score on", "score_limit", model, about=about)
    of_split = links.restore("split", SPLITS[0], links.one_of(SPLITS))
    split = of_split.draw(
        st.segmented_control, "Measure on", SPLITS, required=True,
        help="Choose on validation examples, look at test ones at the end: clicking while you watch is a search too.",
    )  # fmt: skip
    about = "The first ones of the split: a random sample, as it is shuffled."
    eval_limit = _choose_limit("Examples to measure on", "eval_limit", model, about=about)
    return partial(
        Bench, kinds=chosen, per_head=per_head, scorer=scorer, score_limit=score_limit, split=split,
        eval_limit=eval_limit,
    )  # fmt: skip


def _choose_matrices(existing: tuple[Kind, ...]) -> tuple[tuple[Kind, ...], bool]:
    """The kinds to score, and whether attention matrices are taken per head."""
    of_kinds = links.restore(
        "kinds", list(USUAL_KINDS), links.some_of(existing), key=f"kinds-{'-'.join(existing)}", text=links.joined_texts
    )
    picked = st.multiselect(
        "Matrices to score", existing, key=of_kinds.key, persist_state="session",
        help="The set M whose values are scored; Q and K if none is chosen.",
    )  # fmt: skip
    chosen = tuple(kind for kind in existing if kind in picked) or USUAL_KINDS
    of_kinds.keep(list(chosen))
    of_heads = links.restore("granularity", PER_HEAD, links.one_of(GRANULARITIES))
    granularity = of_heads.draw(
        st.segmented_control, "Attention matrices", GRANULARITIES, required=True,
        help="Decompose each head's part of Q, K, V and O on its own, or the matrices of all heads stacked.",
    )  # fmt: skip
    return chosen, granularity == PER_HEAD


def _choose_scorer() -> str:
    """A scorer whose scores predict a change of the loss, without the slow reference."""
    offered = [name for name, spec in SCORERS.items() if spec.in_nats and name != "exact"]
    linked = links.restore("scorer", offered[0], links.one_of(offered))
    about = "  \n".join(f"**{name}**: {SCORERS[name].summary}" for name in offered)
    chosen = linked.draw(st.selectbox, "Scorer", offered, help=about)
    st.caption(SCORERS[chosen].cost.capitalize() + ".")
    return chosen


def _choose_limit(label: str, name: str, model: Model, about: str) -> int | None:
    """How many examples of a split, None for all; by default as many as take about a click."""
    usual: int | str = ALL if model.parameters_count <= SMALL_MODEL else 64
    linked: links.Linked[object] = links.restore(name, usual, links.one_of(LIMITS), key=f"{name}-{usual}")
    chosen = linked.draw(st.select_slider, label, LIMITS, help=about)
    return chosen if isinstance(chosen, int) else None


def _choose_mode(model: Model) -> None:
    mode = session.history(model).mask.mode
    Widget[Mode]("mode").put(mode)

    def change(mode: Mode) -> None:
        session.change_mask(model, lambda mask: session.in_mode(mask, mode))

    soft = session.history(model).mask.gain
    st.segmented_control(
        "Parts taken away are" if soft else "Removed values are",
        ["freeze", "zero"],
        format_func=lambda mode: MODES[mode],
        required=True,
        key="mode",
        on_change=session.moved("mode", mode, change),
        help="Freeze puts the mean over the train tokens of what is taken away into the bias (the paper); zero drops "
        "it.",
    )


@dataclass(frozen=True)
class _Told:
    """The number of the last notice that the session was told."""

    notices: int = 0


def show_notices() -> None:
    """Tell this session what it has not been told yet."""
    seen, sentences = notices().since(state.of(_Told).notices)
    state.put(_Told(seen))
    for sentence in sentences:
        st.toast(literal(sentence), icon=":material/info:", duration="long")
