"""What the mask does, in figures: predicted and measured change, random control, and the answers that flipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal, cast

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer import plots
from explorer.attribution import Scores
from explorer.evaluate import Comparison
from explorer.search.controls import beaten
from explorer.ui import figures, live, pages, painting, words, work
from explorer.ui.cached import Wait
from explorer.ui.session import Bench
from explorer.ui.work import Controls

_FIRST = "panel-first"
FIGURES, CONSEQUENCES = "figures", "consequences"  # keys of the fragments that show what has been measured
GLANCE = Wait(0.15, urgent=True, shown=False)  # a browser draws one batch of figures faster than two
UNSEEN = Wait(0.0, urgent=True, shown=False)
FILLING = replace(UNSEEN, shown=True, takers=(FIGURES, CONSEQUENCES))
BREATH = 0.15  # seconds in which the browser paints the figures before the rest of the page keeps it busy
MANY_FLIPS = 200
WAITING, MEASURING = "…", "measuring  \n "


@dataclass(frozen=True)
class Measured:
    """What is known of the mask so far.

    Attributes:
        scores: of the bench's matrices.
        sample: the mask on the live sample; None too where the sample is the whole split.
        part: the mask on the first examples of the split, as many as have been measured by now.
        whole: the mask on the whole split.
        controls: random masks of its size on the whole split, if they are wanted, and once the mask is measured on it.
    """

    scores: Scores | None
    sample: Comparison | None = None
    part: Comparison | None = None
    whole: Comparison | None = None
    controls: Controls | None = None

    @property
    def best(self) -> Comparison | None:
        """The split if it is measured, otherwise as much of it as there is beyond the sample, otherwise the sample."""
        known = [one for one in (self.whole, self.part, self.sample) if one is not None]
        return max(known, key=lambda one: one.masked.n, default=None)


def panel_first() -> None:
    """Draw the panel before the sidebar and all else, if a callback has changed the mask of the run before.

    Nothing but the mask can be another one then; should the sidebar find otherwise, `panel` starts the run anew.
    """
    st.session_state[_FIRST] = None
    before = cast("Bench | None", st.session_state.get("bench"))
    if before is None:
        return
    now = live.now(before)
    if now.mask.digest == before.mask.digest or now.mode != before.mode:  # another mode has other scores
        return
    st.session_state[_FIRST] = (now, _panel(now))
    painting.pause(BREATH)


def panel(bench: Bench) -> Measured:
    """The page's title, progress bars and figures: predicted change, measured accuracy and loss, random control.

    Each figure is drawn as soon as it can be: the prediction, then the live sample, then the whole split, which fills
    in. Cards are of one height whatever they hold.
    """
    first = cast("tuple[Bench, Measured] | None", st.session_state.pop(_FIRST, None))
    if first is None:
        return _panel(bench)
    if not first[0].agrees(bench):
        st.rerun()
    return first[1]


def _panel(now: Bench) -> Measured:
    measured(now, GLANCE)
    status = pages.heading("Prune")
    boxes = st.columns(4, border=True)
    with status:
        scores = work.scores(now)
    with boxes[0], st.container(key="metric-predicted"):
        _predicted(now, scores)
    measured(now, replace(live.SOON, shown=False))
    return _figures(now, scores, status, boxes[1:])


@st.fragment(key=FIGURES)
def _figures(bench: Bench, scores: Scores | None, status: DeltaGenerator, boxes: Sequence[DeltaGenerator]) -> Measured:
    """Accuracy, loss and random control, with progress bars for what is still being measured."""
    with status, st.container():  # of this fragment, so that it goes with its next run
        found = known(bench, scores, FILLING)
    for box, name, draw in zip(boxes, ("accuracy", "loss", "control"), (_accuracy, _loss, _control), strict=True):
        with box, st.container(key=f"metric-{name}"):
            draw(bench, found)
    return found


def known(bench: Bench, scores: Scores | None, wait: Wait = UNSEEN) -> Measured:
    """What has been measured by now; what has not been is started."""
    sample, whole = measured(bench, wait)
    part = work.so_far(bench) if whole is None else None
    controls = work.controls(bench, scores, wait) if scores is not None and _controlled(bench) else None
    return Measured(scores, sample, part, whole, None if whole is None else controls)


def measured(bench: Bench, wait: Wait = live.SOON) -> tuple[Comparison | None, Comparison | None]:
    """The mask on the live sample, unless it is the whole split, and on the whole split."""
    drawn = live.sample(bench, wait)
    if drawn is not None and drawn.whole:
        return None, work.comparison(bench, wait)
    sample = None if drawn is None else live.comparison(bench, drawn, wait)
    return sample, work.comparison(bench, replace(wait, seconds=0.0, urgent=False))


def line(bench: Bench, found: Measured) -> None:
    """What the mask does in one line, for pages about something else: predicted change and measured accuracy."""
    predicted = None if found.scores is None or not len(bench.mask) else found.scores.predicted(bench.mask)
    text = f"{len(bench.mask):,} {bench.mask.state}" + (
        "" if predicted is None else f", predicted {words.nats(predicted)}"
    )
    if found.best is None:
        text += f". Accuracy, {bench.split}: measuring"
    else:
        now, before = found.best.masked, found.best.baseline
        text += f". {_label('Accuracy', bench, found)}: **{words.accuracy(now, bench.total)}**"
        text += f"; unpruned {words.percent(before.accuracy)}" if len(bench.mask) else ""
    with st.container(key="mask-line", width="content"):
        st.markdown(text.replace(" %", "\u00a0%"))  # a line does not end between them


def _predicted(bench: Bench, scores: Scores | None) -> None:
    value = scores.predicted(bench.mask) if scores is not None else None
    soft = bench.mask.gain > 0
    share = f" × {100 * (1 - bench.mask.gain):.4g} %" if soft else ""
    st.metric(
        "Predicted loss change",
        words.nats(value) if value is not None else WAITING if scores is None else "not scored",
        help=f"Sum of the {words.past(bench.mask)} values' scores"
        + (", times the share of them that is taken away" if soft else "")
        + ". Effects do not add up: compare it with the measured loss.",
    )
    if scores is None:
        st.caption("no scores yet")
    elif value is None:
        st.caption("the mask holds values  \nof matrices that are not scored")
    else:
        st.caption(f"sum of {len(bench.mask):,} scores{share},  \nfrom {scores.n:,} train examples")


def _accuracy(bench: Bench, found: Measured) -> None:
    label, about = _label("Accuracy", bench, found), "Exact match; 95 % Wilson interval."
    if found.best is None:
        _measuring(label, about)
        return
    now, before = found.best.masked, found.best.baseline
    colour, arrow = _look(found.best.accuracy_change.value, good=1)
    change = words.points(found.best.accuracy_change)
    st.metric(label, words.percent(now.accuracy), change, delta_color=colour, delta_arrow=arrow, help=about)
    st.caption(f"{words.interval(now, bench.total)}  \nunpruned {words.percent(before.accuracy)}")


def _loss(bench: Bench, found: Measured) -> None:
    label = _label("Loss", bench, found)
    about = "Mean over examples, summed over answer tokens; the change is paired, with its standard error."
    if found.best is None:
        _measuring(label, about)
        return
    now, before, change = found.best.masked.mean_loss, found.best.baseline.mean_loss, found.best.loss_change
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


def _label(what: str, bench: Bench, found: Measured) -> str:
    """What is shown, and on which examples."""
    if found.best is not None and found.best is found.sample:
        return f"{what}, live sample"
    return f"{what}, {bench.split}" + (" so far" if found.best is not None and found.best is found.part else "")


def _measuring(label: str, about: str) -> None:
    st.metric(label, WAITING, WAITING, delta_color="off", delta_arrow="off", help=about)
    st.caption(MEASURING)


def _look(change: float, *, good: int) -> tuple[Literal["normal", "inverse", "off"], Literal["auto", "off"]]:
    """Colour and arrow of a change of which `good` (1 or -1) is the good direction."""
    if change == 0:
        return "off", "off"
    return ("normal" if good > 0 else "inverse"), "auto"


def _controlled(bench: Bench) -> bool:
    """Whether random masks are to be measured, and there is a mask to compare with."""
    return bool(len(bench.mask)) and bool(st.session_state.setdefault("controls_wanted", False))


def _control(bench: Bench, found: Measured) -> None:
    label = "Random masks, same size"
    about = f"A control: as many values of the scored matrices, {bench.mask.state} by chance. Median accuracy."
    if not len(bench.mask) or found.scores is None:
        st.metric(label, "-", help=about)
        st.caption(f"{words.verb(bench.mask).lower()} something to compare  \nwith chance")
        return
    if not _controlled(bench):
        st.metric(label, "-", help=about)
        st.button(
            "Measure",
            key="controls",
            help="Runs on every change from now on.",
            on_click=lambda: st.session_state.update(controls_wanted=True),
        )
        return
    if found.controls is None or found.whole is None:
        st.metric(label, WAITING, help=about)
        st.caption(MEASURING)
        return
    own, chance = found.whole.masked.accuracy, found.controls.accuracy
    count = sum(accuracy < own for accuracy in chance)
    st.metric(label, words.percent(median(chance)), help=about)
    st.caption(
        f"range {100 * min(chance):.1f} to {100 * max(chance):.1f} %  \n"
        f"this mask beats {count} of {len(chance)}, percentile {beaten(own, chance):.0f}"
    )


def changes(comparison: Comparison, controls: Controls | None) -> None:
    """The flipped examples, and beside them the random masks' accuracies if they were measured."""
    if controls is None:
        _flips(comparison)
        return
    left, right = st.columns([3, 2])
    with left:
        _flips(comparison)
    figure = plots.controls(controls.accuracy, comparison.masked.accuracy, comparison.baseline.accuracy)
    figures.draw(figure, "controls-figure", box=right)


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
        column_config={"loss change (nats)": st.column_config.NumberColumn(format="%+.3f")},
    )
    if len(rows) > MANY_FLIPS:
        st.caption(f"The first {MANY_FLIPS:,} of {len(rows):,}, right → wrong before wrong → right.")
