"""Scores: every value of the model ranked and filtered, and the predictions beside exact effects."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from explorer.attribution import Scores
from explorer.attribution.exact import Value
from explorer.masks.apply import empty_mask
from explorer.masks.mask import Mask
from explorer.measure.metrics import Mean
from explorer.ui.bench import labels, opening, score_map
from explorer.ui.bench.measured import Measured, line, sample_and_split
from explorer.ui.jobs import work
from explorer.ui.scores import agreement, ranking, value_rows
from explorer.ui.session import Bench, session
from explorer.ui.shell import pages

OFFENDERS = 50


def draw() -> None:
    """Which scores there are to be, the filters, the ranking, and predictions beside exact effects."""
    opening.follow()
    bench = session.current()
    status = pages.heading("Scores", bench.model)
    with status:
        sample, whole = sample_and_split(bench)
    with st.container(horizontal=True, vertical_alignment="center"):
        every = score_map.choose_every(bench)
        resamples, mask = ranking.choose_scores(bench)
        ranking.code(bench, every=every, resamples=resamples, at_mask=mask is not None)
        state_box = st.container(width="content")
    with status:
        scores = work.ranked(bench, every=every, bootstrap=resamples if mask is None else 0)
    with state_box:
        line(bench, Measured(scores, sample, whole=whole))
    with status:
        at_mask = None if mask is None else work.ranked(bench, every=every, bootstrap=resamples, mask=mask)
    if scores is None or (mask is not None and at_mask is None):
        if work.scores_failure(bench) is None:
            st.info("No scores yet: the ranking appears here as soon as they are there.")
        pages.end()
    # Without the mask's gain: scores are of removal.
    start = empty_mask(bench.model, bench.mode) if mask is None else mask
    with status:
        measured = agreement.measured(bench, scores, start)
    _ranked(bench, scores, at_mask, start=start, measured=measured)


def _ranked(bench: Bench, scores: Scores, at_mask: Scores | None, start: Mask, measured: Mapping[Value, Mean]) -> None:
    """The rows that pass the filters: as a ranking, beside their exact effects, and those furthest off."""
    table = value_rows.rows(scores, bench.mask, measured, at_mask=at_mask)
    table["label"] = value_rows.called(table, labels.texts(bench))
    shown = ranking.choose_filters(table).of(table)
    if shown.empty:
        st.info("No value passes these filters: choose fewer of them.")
        pages.end()
    left, right = st.columns([3, 2])
    with left:
        buttons = st.container()
        chosen = ranking.ranking(shown, len(table))
    with right:
        ask = st.container()
        chosen += agreement.compare(shown)
    offenders = value_rows.offenders(shown, OFFENDERS)
    if len(offenders):
        with left:
            st.subheader("Furthest off", divider="gray", anchor=False)
            chosen += ranking.worst(offenders)
    chosen = tuple(dict.fromkeys(chosen))
    with buttons:
        ranking.actions(bench, scores if at_mask is None else at_mask, chosen)
    with ask:
        agreement.ask(bench, shown, chosen, mask=start, examples=scores.n)
