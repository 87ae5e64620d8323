"""Predictions beside exact effects on the Scores page: measure some, see where they agree and where they do not."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from explorer.actions import StudyScorers
from explorer.attribution import Scores
from explorer.attribution.exact import Value
from explorer.masks.mask import Mask
from explorer.measure.metrics import Mean
from explorer.plots import scores as score_plots
from explorer.ui.components import figures
from explorer.ui.jobs import work
from explorer.ui.scores import value_rows
from explorer.ui.session import Bench, Setting, guide, requests, state
from explorer.ui.shell import share

START, MOST = 8, 5000
LOWEST, SPREAD, ALL = "the first", "spread out", "all"
_AGREEMENT = {
    "n": st.column_config.NumberColumn("n", width=44),
    "spearman": st.column_config.NumberColumn("Spearman", format="%.3f", help="rank correlation"),
    "pearson": st.column_config.NumberColumn("Pearson", format="%.3f", help="linear correlation"),
    "sign_agreement": st.column_config.NumberColumn(
        "sign right", format="percent", help="share of effects above 1e-5 nats whose sign was predicted"
    ),
}
_LOWEST = {
    "count": st.column_config.NumberColumn("lowest k", width=64),
    "precision": st.column_config.NumberColumn(
        "among the k best", format="percent", help="share of them that are among the k lowest exact effects"
    ),
    "regret": st.column_config.NumberColumn(
        "regret", format="%.3g", help="how much higher their mean exact effect is than that of the k best, nats"
    ),
    "predicted": st.column_config.NumberColumn("predicted", format="%.3g", help="mean prediction, nats"),
    "exact": st.column_config.NumberColumn("exact", format="%.3g", help="mean exact effect, nats"),
    "calibration": st.column_config.NumberColumn(
        "calibration", format="%.2f", help="exact over predicted: 1 where predictions are right on average"
    ),
}


@dataclass(frozen=True)
class _Asked:
    """The values whose exact effects the session asked for, and what they are measured on."""

    place: Hashable
    values: tuple[Value, ...]


def measured(bench: Bench, scores: Scores, mask: Mask) -> Mapping[Value, Mean]:
    """Exact effects at `mask`: those on this machine, and those that this session asked for; draws their progress."""
    asked = state.find(_Asked)
    wanted = asked is not None and asked.place == work.place(bench, mask)
    found = work.effects(bench, asked.values, mask) if asked is not None and wanted else None
    return (work.known(bench, tuple(scores.matrices), mask) or {}) | (found or {})


def ask(bench: Bench, shown: pd.DataFrame, chosen: tuple[Value, ...], mask: Mask, examples: int) -> None:
    """'Measure these N exactly': the selected rows, or N of those shown."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        count_box = st.container(width="content")
        which = st.segmented_control(
            "Which", [LOWEST, SPREAD, ALL], default=LOWEST, required=True, key="measure-which",
            persist_state="session", disabled=bool(chosen),
            help="The first rows of the table, rows from its top to its bottom, or all that pass the filters.",
        )  # fmt: skip
        count = count_box.number_input(
            "How many", min_value=1, max_value=MOST, value=START,
            key="measure-count", persist_state="session", width=110, disabled=bool(chosen) or which == ALL,
            help=f"At most {MOST:,} at a time; more in the shell, with what Copy as code gives.",
        )  # fmt: skip
        if chosen:
            wanted = chosen[:MOST]
        else:
            number = MOST if which == ALL else int(count)
            picked = value_rows.spread(shown, number) if which == SPREAD else shown.head(number)
            wanted = value_rows.values(picked)
        place = work.place(bench, mask)
        st.button(
            f"Measure these {len(wanted):,} exactly",
            key="measure-these",
            type="primary",
            disabled=not wanted,
            on_click=lambda: state.put(_Asked(place, wanted)),
            help="Each by itself; what was measured once is kept. Select rows or points to measure those.",
        )
        share.copy(
            "effects",
            bench,
            lambda setting: [
                requests.effects(setting, wanted, mask),
                requests.all_effects(setting, mask),
                study(setting),
            ],
            disabled=not wanted,
        )
    guide.explain(
        f"Costs at most {len(wanted):,} forward passes over {examples:,} train examples; a value in the last layers "
        "costs less than one in the first, and what examples begin with in common is read once."
    )


def study(setting: Setting) -> StudyScorers:
    """How far the scorer can be trusted: a sample of values, on the examples that were scored."""
    return StudyScorers(**setting.scored | {"scorer": (setting.bench.scorer,), "limit": setting.train})


def compare(shown: pd.DataFrame) -> tuple[Value, ...]:
    """Plot predicted against exact effects, with the agreement per kind; gives the values selected in the plot."""
    found = value_rows.measured(shown)
    if found.empty:
        st.info("None of these values has been measured yet: measure some to see how far their scores can be trusted.")
        return ()
    log = st.toggle(
        "Log axes", value=True, key="pairs-log", persist_state="session", help="Linear below a thousandth of a nat."
    )
    drawn = pairs(found)
    figure = score_plots.predicted_exact(drawn, log=log)
    event = figures.draw(
        figure,
        "pairs",
        on_select="rerun",
        selection_mode=("points", "box", "lasso"),
        alt="Exact effects over predicted ones",
    )
    guide.explain("Click a point, or draw a box around many, to act on them: those far off the line were mispredicted.")
    trusts = value_rows.agreement(shown)
    lowest = [{"kind": name, **vars(low)} for name, one in trusts.items() for low in one.lowest]
    if lowest:
        table = pd.DataFrame(lowest, columns=["kind", *_LOWEST])
        st.dataframe(table, hide_index=True, column_config=_LOWEST, key="of-the-lowest")
        st.caption("Among the values measured here: a mask would take the lowest, and those are where scores err most.")
    rows = [{"kind": name, **vars(one)} for name, one in trusts.items()]
    table = pd.DataFrame(rows, columns=["kind", *_AGREEMENT])
    st.dataframe(table, hide_index=True, column_config=_AGREEMENT, key="agreement")
    if len(found) > score_plots.POINTS:
        st.caption(f"The plot shows {score_plots.POINTS:,} of {len(found):,} measured values, at even distances.")
    chosen = set(figures.selected_ids(event))
    return value_rows.values(found[[name in chosen for name in drawn.names]])


def pairs(found: pd.DataFrame) -> score_plots.Pairs:
    """Measured rows as the plot takes them."""
    return score_plots.Pairs(
        names=[f"{matrix} {index}" for matrix, index in zip(found["matrix"], found["index"], strict=True)],
        kinds=found["kind"].tolist(),
        predicted=found["predicted"].to_numpy(),
        exact=found["exact"].to_numpy(),
        predicted_stderr=found["stderr"].to_numpy(),
        exact_stderr=found["exact_stderr"].to_numpy(),
        called=found["label"].tolist() if "label" in found else (),
    )
