"""The cards on top of Prune: predicted and measured change and the random control; and the answers that flipped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

import streamlit as st

from explorer.attribution import Scores
from explorer.masks.belonging import read_for
from explorer.measure.evaluate import Comparison
from explorer.measure.figures import SeenFigures
from explorer.plots import controls as control_plots
from explorer.search.columns import seen_sentences
from explorer.search.controls import DEFAULT, beaten
from explorer.tasks import read_in_search, seen
from explorer.tasks.metric import METRIC_NAMES, Metric
from explorer.ui.bench import live, text_growth
from explorer.ui.bench.measured import Measured, controlled, known, sample_and_split, titled, want_controls
from explorer.ui.components import comparisons, figures, painting, ticker, words
from explorer.ui.jobs import work
from explorer.ui.session import Bench, state
from explorer.ui.shell import pages
from explorer.ui.shell.plain_text import reads
from explorer.ui.streamlit_internals.elements import DeltaGenerator

FIGURES, CONSEQUENCES = "figures", "consequences"  # keys of the fragments that show what has been measured
NONE, WAITING, MEASURING = "-", "…", "measuring  \n "  # of two lines, as all captions are
MOST_GROWTH = 0.10  # of the perplexity on plain text; beyond it the card is marked
_ABOUT: Mapping[Metric, str] = {
    "exact": "Exact match; 95 % Wilson interval.",
    "choice": "How often the answer is the most probable of the choices; 95 % Wilson interval.",
    "choice-mean": "How often the answer is, per token, the most probable of the choices; 95 % Wilson interval.",
}


@dataclass(frozen=True)
class Face:
    """What a card of figures says: a metric with its change, and the caption below it."""

    label: str
    about: str
    value: str = WAITING
    change: str = WAITING
    colour: Literal["normal", "inverse", "off"] = "off"
    arrow: Literal["auto", "off"] = "off"
    caption: str = MEASURING


@dataclass(frozen=True)
class Card:
    """Where a face is drawn: in a container at first, then in the place of the face before, which changes in one go."""

    metric: DeltaGenerator
    caption: DeltaGenerator

    def show(self, face: Face) -> Card:
        """Draw a face; gives the card that draws in its place."""
        metric = self.metric.metric(
            face.label, face.value, face.change, delta_color=face.colour, delta_arrow=face.arrow, help=face.about
        )
        return Card(metric, self.caption.caption(face.caption))


@dataclass(frozen=True)
class Panel:
    """The panel as the page's run has drawn it: what it shows, its progress bars, and the cards of what it measures."""

    found: Measured
    progress: DeltaGenerator
    accuracy: Card
    loss: Card


@dataclass(frozen=True)
class _First:
    """The panel that was drawn before all else, and what of."""

    bench: Bench
    panel: Panel


def panel_first() -> None:
    """Draw the panel before the sidebar and all else, if a callback has changed the mask of the run before.

    Nothing but the mask can be another one then; should the sidebar find otherwise, `panel` starts the run anew.
    """
    state.take(_First)
    before = state.find(Bench)
    if before is None:
        return
    now = live.now(before)
    if now.mask.digest == before.mask.digest or now.mode != before.mode:  # another mode has other scores
        return
    state.put(_First(now, _panel(now)))
    painting.pause(painting.BREATH)


def panel(bench: Bench) -> Panel:
    """The page's title, progress bars and figures: predicted change, measured accuracy and loss, random control.

    Each figure is drawn as soon as it can be: the prediction, then the live sample, then the whole split, which fills
    in. Cards are of one height whatever they hold.
    """
    first = state.take(_First)
    if first is None:
        return _panel(bench)
    if not first.bench.agrees(bench):
        st.rerun()
    return first.panel


def finish(bench: Bench, drawn: Panel) -> None:
    """Wait a little for the whole split, at the end of the page's run, and show it."""
    if drawn.found.whole is not None or controlled(bench):
        return
    if work.comparison(bench, painting.rest()) is not None:
        found = known(bench, drawn.found.scores)
        drawn.progress.empty()
        drawn.accuracy.show(_accuracy(bench, found))
        drawn.loss.show(_loss(bench, found))


def _panel(now: Bench) -> Panel:
    sample_and_split(now, painting.GLANCE)
    status = pages.heading("Prune", now.model)
    boxes = st.columns(4 + reads(now.model), border=True)
    with status:
        scores = work.ranked(now)
    with boxes[0], st.container(key="metric-predicted"):
        _predicted(now, scores)
    sample_and_split(now, replace(painting.SOON, shown=False))
    return _measurements(now, scores, status.empty(), boxes=boxes[1:])


@st.fragment(key=FIGURES)
def _measurements(
    bench: Bench, scores: Scores | None, progress: DeltaGenerator, boxes: Sequence[DeltaGenerator]
) -> Panel:
    """Accuracy, loss and random control, with progress bars for what is still being measured."""
    wait = painting.filling(FIGURES, CONSEQUENCES, rests=not controlled(bench))
    with progress.container():
        found = known(bench, scores, wait)
    with boxes[0]:
        accuracy = _card("metric-accuracy").show(_accuracy(bench, found))
    with boxes[1]:
        loss = _card("metric-loss").show(_loss(bench, found))
    if len(boxes) > 3:
        with boxes[2], st.container(key="metric-text"):
            _text(bench)
    with boxes[-1], st.container(key="metric-control"):
        _control(bench, found)
    return Panel(found, progress, accuracy, loss=loss)


def _card(key: str) -> Card:
    place = st.container(key=key)
    return Card(place, place)


def _predicted(bench: Bench, scores: Scores | None) -> None:
    value = scores.predicted(bench.mask) if scores is not None else None
    problem = work.scores_failure(bench) if scores is None else None
    waiting = WAITING if problem is None else NONE
    soft = bench.mask.gain > 0
    share = f" × {100 * (1 - bench.mask.gain):.4g} %" if soft else ""
    st.metric(
        "Predicted loss change",
        words.nats(value) if value is not None else waiting if scores is None else "not scored",
        help=f"Sum of the {words.past(bench.mask)} values' scores"
        + (", times the share of them that is taken away" if soft else "")
        + ". Effects do not add up: compare it with the measured loss.",
    )
    if scores is None:
        st.caption("no scores yet" if problem is None else words.literal(problem))
    elif value is None:
        st.caption("the mask holds values  \nof matrices that are not scored")
    else:
        st.caption(f"sum of {words.count(len(bench.mask), 'score')}{share},  \nfrom {scores.n:,} train examples")


def _accuracy(bench: Bench, found: Measured) -> Face:
    if found.best is None:
        name = bench.task.accuracy_name(bench.split).capitalize()
        label, about = titled(name, bench, found), _ABOUT[bench.task.metric_of(bench.split)]
        return _unknown(label, about, found)
    now, before, change = found.best.masked, found.best.baseline, found.best.accuracy_change
    label, about = titled(words.accuracy_title(now), bench, found), _ABOUT[now.metric]
    caption = f"{words.interval(now, bench.total)}  \nunpruned {words.percent(before.accuracy)}"
    if now.chosen_among:
        about += f" Always giving the most frequent answer: {words.percent(now.majority or 0.0)}."
        caption += f"  \n{words.beside(now)}"
    face = Face(label, about, words.percent(now.accuracy), change=words.points(change), caption=caption)
    return _coloured(face, change.value, good=1)


def _loss(bench: Bench, found: Measured) -> Face:
    label = titled("Loss", bench, found)
    about = "Mean over examples, summed over answer tokens; the change is paired, with its standard error."
    if found.best is None:
        return _unknown(label, about, found)
    now, before, change = found.best.masked.mean_loss, found.best.baseline.mean_loss, found.best.loss_change
    caption = f"per example {words.spread(now)}  \nunpruned {words.spread(before)}"
    value, spread = words.loss(found.best.masked), words.spread(change, signed=True)
    return _coloured(Face(label, about, value, change=spread, caption=caption), change.value, good=-1)


@st.fragment
def _text(bench: Bench) -> None:
    """How much the perplexity of plain text grows: what the mask costs where no task is asked."""
    about = (
        "Growth of the perplexity on the beginning of the text that comes with the explorer, and its paired 95 % "
        f"interval; marked above {words.growth(MOST_GROWTH)}. Its windows are short, so that it is here after every "
        "change: Elsewhere measures more."
    )
    face, damage = Face("Plain text", about), text_growth.measured(bench)
    problem = text_growth.failure(bench) if damage is None else None
    if damage is not None:
        value, (low, high) = damage.growth
        before = damage.baseline
        caption = f"on {before.tokens:,} tokens  \nunpruned perplexity {before.value:.4g}"
        interval = f"[{words.growth(low)}, {words.growth(high)}]" if len(bench.mask) else words.growth(0.0)
        face = replace(face, value=words.growth(value), change=interval, caption=caption)
        if value > MOST_GROWTH:
            face = replace(face, colour="inverse", arrow="auto")
    elif problem is not None:
        face = replace(face, value=NONE, change=NONE, caption=words.literal(problem))
    else:
        ticker.mount("look-text", lambda: None)
    place = st.container()
    Card(place, place).show(face)


def _unknown(label: str, about: str, found: Measured) -> Face:
    """The face of a figure that is not there: it is being measured, or the sentence that says why it is not."""
    if found.problem is None:
        return Face(label, about)
    return Face(label, about, NONE, change=NONE, caption=words.literal(found.problem))


def _coloured(face: Face, change: float, *, good: int) -> Face:
    """The face with the colour and the arrow of a change of which `good` (1 or -1) is the good direction."""
    if change == 0 or not math.isfinite(change):
        return face
    return replace(face, colour="normal" if good > 0 else "inverse", arrow="auto")


def _control(bench: Bench, found: Measured) -> None:
    label = "Random masks, same size"
    about = (
        f"The control {DEFAULT}: in each matrix as many values, {bench.mask.state} by chance. Median accuracy. "
        "In the percentile, draws that are equal to the mask count half."
    )
    if not len(bench.mask) or found.scores is None:
        st.metric(label, NONE, help=about)
        drawn = "needs scores" if len(bench.mask) else f"{words.verb(bench.mask).lower()} something to compare"
        st.caption(f"{drawn}  \n{'of the matrices' if len(bench.mask) else 'with chance'}")
        return
    if not controlled(bench):
        st.metric(label, "-", help=about)
        st.button("Measure", key="controls", help="Runs on every change from now on.", on_click=want_controls)
        return
    if found.controls is None or found.whole is None:
        st.metric(label, WAITING if found.problem is None else NONE, help=about)
        st.caption(MEASURING if found.problem is None else words.literal(found.problem))
        return
    own, chance = found.whole.masked.accuracy, found.controls
    count = sum(accuracy < own for accuracy in chance)
    st.metric(label, words.percent(median(chance)), help=about)
    st.caption(
        f"{DEFAULT}: {100 * min(chance):.1f} to {100 * max(chance):.1f} %  \n"
        f"this mask beats {count} of {len(chance)}, percentile {beaten(own, chance):.0f}"
    )


def changes(comparison: Comparison, controls: Sequence[float] | None) -> None:
    """The flipped examples, and beside them the random masks' accuracies if they were measured."""
    if controls is None:
        _flips(comparison)
        return
    left, right = st.columns([3, 2])
    with left:
        _flips(comparison)
    figure = control_plots.controls(controls, comparison.masked.accuracy, comparison.baseline.accuracy, name=DEFAULT)
    figures.draw(figure, "controls-figure", box=right)


def seen_in_search(bench: Bench, comparison: Comparison) -> None:
    """How many of the test examples the mask was made on, themselves, by a twin or by the answer; without them."""
    if bench.split != "test" or not len(bench.mask):
        return
    read = read_for(bench.mask, bench.task) or read_in_search(bench.task, bench.score_limit)
    found = SeenFigures.of(seen(read, comparison.masked.examples), comparison)
    for sentence in seen_sentences(found):
        st.caption(words.literal(sentence))


def _flips(comparison: Comparison) -> None:
    now, before = comparison.masked, comparison.baseline
    repaired, broken = comparison.repaired, comparison.broken
    by = f" ({METRIC_NAMES[now.metric]})" if now.chosen_among else ""
    st.markdown(f"**{len(repaired):,} wrong → right, {len(broken):,} right → wrong** of {now.n:,} examples{by}")
    if now.chosen_among:
        st.caption(f"Beside it: {words.beside(now)}; unpruned {words.beside(before)}.")
    if not repaired and not broken:
        st.caption("No answer changed from right to wrong or back.")
        return
    said, says = ("unpruned chose", "now chooses") if now.metric != "exact" else ("unpruned said", "now says")
    columns = {
        said: lambda place: words.said(before, place),
        says: lambda place: words.said(now, place),
        "flip": lambda place: "wrong → right" if now.correct[place] else "right → wrong",
    }
    comparisons.answers(comparison, [*broken, *repaired], columns, key="flips")
    if len(broken) + len(repaired) > comparisons.ANSWERS:
        st.caption(
            f"The first {comparisons.ANSWERS:,} of {len(broken) + len(repaired):,}, right → wrong before wrong → right."
        )
