"""What the mask does, in figures: predicted and measured change, random control, and the answers that flipped."""

from __future__ import annotations

from statistics import median
from typing import Literal

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer import plots
from explorer.attribution import Scores
from explorer.evaluate import Comparison
from explorer.ui import words, work
from explorer.ui.session import Bench
from explorer.ui.work import Controls

MANY_FLIPS = 200
WAITING, MEASURING = "…", "measuring  \n "


def metrics(
    bench: Bench, scores: Scores | None, comparison: Comparison | None, status: DeltaGenerator
) -> Controls | None:
    """Predicted change, measured accuracy and loss, and the random control (given back if it is there), side by side.

    Cards are of one height whatever they hold: accuracy and loss always have their line of change. The control's
    progress bar goes to `status`.
    """
    predicted, accuracy, loss, control = st.columns(4, border=True)
    with predicted, st.container(key="metric-predicted"):
        _predicted(bench, scores)
    with accuracy, st.container(key="metric-accuracy"):
        _accuracy(bench, comparison)
    with loss, st.container(key="metric-loss"):
        _loss(bench, comparison)
    with control, st.container(key="metric-control"):
        return _control(bench, scores, comparison, status)


def _predicted(bench: Bench, scores: Scores | None) -> None:
    value = scores.predicted(bench.mask) if scores is not None else None
    st.metric(
        "Predicted loss change",
        words.nats(value) if value is not None else WAITING if scores is None else "not scored",
        help="Sum of the removed values' scores. Effects do not add up: compare it with the measured loss.",
    )
    if scores is None:
        st.caption("no scores yet")
    elif value is None:
        st.caption("the mask holds values  \nof matrices that are not scored")
    else:
        st.caption(f"sum of {len(bench.mask):,} scores,  \nfrom {scores.n:,} train examples")


def _accuracy(bench: Bench, comparison: Comparison | None) -> None:
    label, about = f"Accuracy, {bench.split}", "Exact match; 95 % Wilson interval."
    if comparison is None:
        _measuring(label, about)
        return
    now, before = comparison.masked, comparison.baseline
    low, high = now.accuracy_interval
    colour, arrow = _look(comparison.accuracy_change.value, good=1)
    change = words.points(comparison.accuracy_change)
    st.metric(label, words.percent(now.accuracy), change, delta_color=colour, delta_arrow=arrow, help=about)
    st.caption(f"[{100 * low:.1f}, {100 * high:.1f}], n = {now.n:,}  \nunpruned {words.percent(before.accuracy)}")


def _loss(bench: Bench, comparison: Comparison | None) -> None:
    label = f"Loss, {bench.split}"
    about = "Mean over examples, summed over answer tokens; the change is paired, with its standard error."
    if comparison is None:
        _measuring(label, about)
        return
    now, before, change = comparison.masked.mean_loss, comparison.baseline.mean_loss, comparison.loss_change
    colour, arrow = _look(change.value, good=-1)
    st.metric(
        label,
        f"{now.value:.3f} nats",
        words.spread(change, signed=True),
        delta_color=colour,
        delta_arrow=arrow,
        help=about,
    )
    st.caption(f"per example {words.spread(now)}  \nunpruned {words.spread(before)}")


def _measuring(label: str, about: str) -> None:
    st.metric(label, WAITING, WAITING, delta_color="off", delta_arrow="off", help=about)
    st.caption(MEASURING)


def _look(change: float, *, good: int) -> tuple[Literal["normal", "inverse", "off"], Literal["auto", "off"]]:
    """Colour and arrow of a change of which `good` (1 or -1) is the good direction."""
    if change == 0:
        return "off", "off"
    return ("normal" if good > 0 else "inverse"), "auto"


def _control(
    bench: Bench, scores: Scores | None, comparison: Comparison | None, status: DeltaGenerator
) -> Controls | None:
    label = "Random masks, same size"
    about = "A control: as many values of the scored matrices, removed by chance. Median accuracy."
    if not len(bench.mask) or scores is None:
        st.metric(label, "-", help=about)
        st.caption("remove something to compare  \nwith chance")
        return None
    if not st.session_state.setdefault("controls_wanted", False):
        st.metric(label, "-", help=about)
        st.button(
            "Measure",
            key="controls",
            help="Runs on every change from now on.",
            on_click=lambda: st.session_state.update(controls_wanted=True),
        )
        return None
    with status:
        found = work.controls(bench, scores)
    if found is None or comparison is None:
        st.metric(label, WAITING, help=about)
        st.caption(MEASURING)
        return None
    beaten = sum(accuracy < comparison.masked.accuracy for accuracy in found.accuracy)
    st.metric(label, words.percent(median(found.accuracy)), help=about)
    st.caption(
        f"range {100 * min(found.accuracy):.1f} to {100 * max(found.accuracy):.1f} %  \n"
        f"this mask beats {beaten} of {len(found.accuracy)}"
    )
    return found


def changes(comparison: Comparison, controls: Controls | None) -> None:
    """The flipped examples, and beside them the random masks' accuracies if they were measured."""
    if controls is None:
        _flips(comparison)
        return
    left, right = st.columns([3, 2])
    with left:
        _flips(comparison)
    figure = plots.controls(controls.accuracy, comparison.masked.accuracy, comparison.baseline.accuracy)
    right.plotly_chart(figure, config=plots.CONFIG, key="controls-figure")


def _flips(comparison: Comparison) -> None:
    now, before = comparison.masked, comparison.baseline
    repaired, broken = comparison.repaired, comparison.broken
    st.markdown(f"**{len(repaired):,} wrong → right, {len(broken):,} right → wrong** of {now.n:,} examples")
    if not repaired and not broken:
        st.caption("No answer changed from right to wrong or back.")
        return
    rows = [
        {
            "prompt": now.examples[i].prompt,
            "answer": now.examples[i].answer,
            "unpruned said": before.answers[i],
            "now says": now.answers[i],
            "flip": "wrong → right" if now.correct[i] else "right → wrong",
            "loss change (nats)": now.loss[i] - before.loss[i],
        }
        for i in (*broken, *repaired)
    ]
    st.dataframe(
        pd.DataFrame(rows[:MANY_FLIPS]),
        hide_index=True,
        height=min(38 + 35 * len(rows), 320),
        column_config={"loss change (nats)": st.column_config.NumberColumn(format="%+.3f")},
    )
    if len(rows) > MANY_FLIPS:
        st.caption(f"The first {MANY_FLIPS:,} of {len(rows):,}, right → wrong before wrong → right.")
