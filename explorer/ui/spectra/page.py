"""Spectra: the singular values of one or several matrices, coloured by score, and the tokens they read and write."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from explorer.core.keys import AnyKey, MatrixKey, parse_key
from explorer.plots import spectra as spectrum_plots
from explorer.spectra.measures import QUANTILES, cumulative_energy
from explorer.spectra.svd import Decomposition
from explorer.ui.bench import chart_data, opening, second_model
from explorer.ui.components import figures, matrix_steps
from explorer.ui.components.spectrum_chart import Axis, Series, spectrum_chart
from explorer.ui.jobs import work
from explorer.ui.session import Bench, links, requests, session, state
from explorer.ui.shell import pages, share
from explorer.ui.spectra import choice, measure_tables, model_changes, over_training, readouts
from explorer.ui.streamlit_internals.elements import DeltaGenerator


def draw() -> None:
    """The chosen spectra, plotted and measured; a second model, training, and the tokens of one value."""
    bench = session.current()
    status = pages.heading("Spectra", bench.model)
    if (wanted := state.take(opening.Wanted)) is not None:
        choice.show_matrix(wanted.key)
        readouts.choose_value(wanted.key, wanted.index)
    opening.follow()
    keys, selected = _choose_matrices(bench, status)
    scorable = tuple(key for key in selected if isinstance(key, MatrixKey))
    with status:
        scores = work.scores(bench, scorable) if scorable else None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        matrix_steps.buttons(
            keys, lambda: choice.chosen_matrix(keys), choice.show_matrix, what="of the model, layer by layer"
        )
        axis = chart_data.choose_axis(("spectra-y", "spectra-log"), scored=scores is not None)
        share.copy("spectra", bench, lambda setting: [requests.spectra(setting, selected)])
        choice.choose_layers(bench, keys, selected[0])
        checkpoints = over_training.choose()
        against = second_model.choose()
    other = second_model.bench_of(bench, against) if against else None
    common = second_model.common(bench, other, selected) if other is not None else None
    with status:
        shown = chart_data.series(bench, selected, scores, edges=True)
    if shown is None:
        pages.end()
    found = [one for key in selected if (one := work.decomposition(bench, key)) is not None]
    first = selected[0]
    if other is not None and common is not None and first in common.shared:
        _insert_second(other, first, status, shown=shown, found=found)
    _plots(bench, shown, found, y=axis)
    measure_tables.draw(shown, found)
    if isinstance(first, MatrixKey) and (note := readouts.product_note(selected)):
        st.caption(note)
    if other is not None and common is not None:
        model_changes.draw(bench, other, common)
    if checkpoints:
        over_training.draw(bench, selected, checkpoints)
    readouts.draw(bench, first, found[0], scores=scores)


def _choose_matrices(bench: Bench, status: DeltaGenerator) -> tuple[tuple[AnyKey, ...], tuple[AnyKey, ...]]:
    """All matrices and products of the model, and those chosen."""
    matrices = chart_data.every_key(bench)
    keys: tuple[AnyKey, ...] = (*matrices, *chart_data.every_product(bench))
    with status:
        ranked = work.ranked(bench)
    start = ranked.ranking()[0][1] if ranked is not None and ranked.size else matrices[0]
    *boxes, compare = st.columns([0.9, 4, 1.1, 2.2])
    choice.show_asked(bench, keys, start, scored=ranked is not None)
    first = choice.choose_matrix(keys, start, boxes)
    others = compare.multiselect(
        "Compare with",
        [str(key) for key in keys],
        persist_state="session",
        key=choice.compared(bench).key,
        max_selections=choice.MOST_OTHERS,
        placeholder="Type to search, such as L3.K.H1",
        help="Further matrices, stacked or per head, and products QK and OV: drawn together, and measured side by "
        "side.",
    )
    selected = tuple(dict.fromkeys((first, *map(parse_key, others))))
    if ranked is not None:
        links.follow_matrices("matrix", selected, [start])
    return keys, selected


def _insert_second(
    other: Bench, key: AnyKey, status: DeltaGenerator, shown: list[Series], found: list[Decomposition]
) -> None:
    """Put the second model's values of the first matrix in the second place; ends the page while they are not there."""
    with status:
        second = second_model.series(other, key)
        decomposition = work.decomposition(other, key)
    if second is None or decomposition is None:
        pages.end()
    shown.insert(1, second)
    found.insert(1, decomposition)


def _plots(bench: Bench, shown: Sequence[Series], found: Sequence[Decomposition], *, y: Axis) -> None:
    left, right = st.columns([3, 2])
    with left:
        spectrum_chart(
            shown, key="spectra-chart", state=bench.mask.state, y=y, interactive="cards", on_pick=opening.take_card
        )
    with right:
        curves = {one.matrix: cumulative_energy(svd.s).numpy() for one, svd in zip(shown, found, strict=True)}
        figures.draw(spectrum_plots.energy(curves, QUANTILES), "energy")
