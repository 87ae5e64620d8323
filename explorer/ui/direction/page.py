"""Direction: one singular value from all sides, on one page with one link."""

from __future__ import annotations

import streamlit as st

from explorer.attribution import Scores
from explorer.experiments.direction import DirectionEffects, DirectionFlips, DirectionScore, SpectrumPlace
from explorer.plots import direction as direction_plots
from explorer.ui.bench import chart_data, labels, opening, workbench
from explorer.ui.components import figures, words
from explorer.ui.direction import choice, contexts, naming, tables
from explorer.ui.direction.parts import Looked
from explorer.ui.jobs import work
from explorer.ui.session import Bench, guide, session
from explorer.ui.shell import pages, share, tasks_at_hand
from explorer.ui.streamlit_internals.elements import DeltaGenerator


def draw() -> None:
    """The choice of a direction, its figures, its curve, its tokens, its contexts, its flips and its likes."""
    bench = session.current()
    keys = chart_data.every_key(bench)
    choice.take_asked(bench, keys)
    opening.follow()
    status = pages.heading("Direction", bench.model)
    if not choice.chosen(keys):
        _begin(bench, status)
    with st.container(horizontal=True, vertical_alignment="bottom", key="direction-choice"):
        key, index = choice.draw(bench, keys)
        buttons = st.container(horizontal=True, vertical_alignment="bottom", width="content")
    looked = Looked(bench, key, index)
    with status:
        scores = work.scores(bench, (key,))
    text, others = contexts.own_text(), tables.chosen_others(bench)
    with buttons:
        _actions(looked, scores)
        names = [one.name for one in others]
        share.copy(
            "direction",
            bench,
            lambda setting: [looked.request(setting, names, text)],
            files=tasks_at_hand.files(others),
        )
    naming.draw(looked)
    figures_box = st.container()
    plots = st.columns(3)
    with status:
        place, score = looked.place(), looked.score()
    if place is None:
        pages.end()
    with plots[0]:
        _spectrum(looked, place)
    with status:
        tasks = [task for one in others if (task := one.task()) is not None]
        effects = looked.effects(tasks) if len(tasks) == len(others) else None
        flips = None if score is None else looked.flips(score.c)
    with figures_box:
        _figures(looked, place, score, effects=effects, flips=flips)
    if effects is not None:
        with plots[1]:
            _gains(effects)
    contexts.draw(looked, text, plots[2], status=status)
    tables.draw(looked, effects, flips, status=status)


def _begin(bench: Bench, status: DeltaGenerator) -> None:
    """Begin with the lowest-scored value; ends the page while the scores are under way."""
    with status:
        ranked = work.ranked(bench)
    if ranked is not None:
        _, key, index = ranked.ranking()[0]
        choice.show(key, index)
    elif work.scores_failure(bench) is None:
        st.info("Scoring: the page begins with the most harmful value.")
        pages.end()


def _actions(looked: Looked, scores: Scores | None) -> None:
    """Remove or restore the value, and see it in its spectrum."""
    bench, key, index = looked.bench, looked.key, looked.index
    gone = index in bench.mask.indices(key)

    def switch() -> None:
        if scores is not None:
            workbench.switch(bench, scores, {(key, index): not gone})

    label = "Restore this value" if gone else f"{words.verb(bench.mask)} this value"
    st.button(
        label, key="switch-direction", type="primary", disabled=scores is None, on_click=switch,
        help="A step of the mask's history: Undo takes it back.",
    )  # fmt: skip
    st.button(
        "Spectra", key="direction-spectra", icon=":material/bar_chart:", on_click=opening.want, args=(key, index),
        help="Open its matrix.",
    )  # fmt: skip


def _figures(
    looked: Looked,
    place: SpectrumPlace,
    score: DirectionScore | None,
    *,
    effects: DirectionEffects | None,
    flips: DirectionFlips | None,
) -> None:
    """The figures in a row, each with what it is of."""
    boxes = st.columns(4)
    block = f"in the block {place.block[0]} to {place.block[-1]}" if place.block else "in no block"
    kind = "numerically zero" if place.null else block
    boxes[0].metric("Singular value", f"{place.sigma:.4g}")
    boxes[0].caption(f"{looked.index} of 0 to {place.rank - 1:,}; {words.percent(place.energy)} of the norm²; {kind}.")
    if score is not None:
        boxes[1].metric("Score (predicted)", words.nats(score.score))
        doubt = " Its sign is in doubt." if score.uncertain else ""
        boxes[1].caption(f"± {score.stderr:.3g} over {score.n:,} train examples; c = {score.c:.4g}.{doubt}")
    if effects is not None:
        own = effects.tasks[0]
        boxes[2].metric("Exact effect", words.nats(own.exact))
        meaning = "removing it helps" if own.exact < 0 else "the task needs it"
        boxes[2].caption(f"± {own.stderr:.3g}, n = {own.n:,} ({looked.bench.mode}): {meaning}.")
    if flips is not None:
        boxes[3].metric("Accuracy without it", words.percent(flips.accuracy_after))
        boxes[3].caption(
            f"from {words.percent(flips.accuracy_before)} on {flips.n:,} {flips.split} examples, "
            f"{words.count(len(flips.examples), 'flip')}."
        )


def _spectrum(looked: Looked, place: SpectrumPlace) -> None:
    found = work.decomposition(looked.bench, looked.key)
    if found is None:
        return
    figure = direction_plots.spectrum(
        found.s.double().numpy(), str(looked.key), looked.index, edge=place.bulk_edge,
        labels=labels.texts(looked.bench).get(str(looked.key)),
    )  # fmt: skip
    event = figures.draw(
        figure, f"place-{looked.key}-{looked.index}", on_select="rerun", selection_mode="points",
        alt="Singular values of the matrix, this one marked",
    )  # fmt: skip
    chosen = choice.parsed(figures.selected_id(event) or "")
    if chosen is not None and chosen[0] == looked.key and chosen[1] != looked.index and chosen[1] < found.rank:
        opening.want_card(*chosen)
        st.rerun()


def _gains(effects: DirectionEffects) -> None:
    gains = effects.gains
    figure = direction_plots.gain_curve(
        [one.gain for one in gains], [one.change for one in gains], [one.stderr for one in gains]
    )
    figures.draw(figure, "gain-curve", alt="Change of the loss along the gain of this value")
    guide.explain("About its frozen mean; bars are two standard errors.")
