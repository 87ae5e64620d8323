"""Many values at once: along the ranking with its curve, whole matrices or layers, and how much stays of them all."""

from __future__ import annotations

import math

import streamlit as st

from explorer.actions import Curve
from explorer.attribution import Scores
from explorer.core.progress import Progress
from explorer.measure.sampling import Sample
from explorer.models import View
from explorer.plots import prune as prune_plots
from explorer.plots.prune import CurvePoint
from explorer.search.curve import Stop, curve, stops
from explorer.search.mask_cells import masks_by
from explorer.tasks.metric import METRIC_NAMES
from explorer.ui.bench import live, workbench
from explorer.ui.components import figures, words
from explorer.ui.jobs import cluster
from explorer.ui.jobs.work import on_view
from explorer.ui.session import Bench, Setting, Widget, requests, session, state
from explorer.ui.shell import share

GAINS = tuple(round(0.05 * step, 2) for step in range(20))


def along(bench: Bench, scores: Scores) -> None:
    """The slider, and on demand the curve that it moves along, on the live sample."""
    counts = stops(scores.size)
    now = max(1, int(state.COUNT.value or 1))
    shown = min(counts, key=lambda one: abs(math.log(one / now)))
    slider: Widget[int] = Widget("k-slider")
    slider.put(shown)

    def move(wanted: int) -> None:
        if wanted in counts:
            state.COUNT.put(wanted)
            workbench.remove_lowest(bench, scores, wanted)

    left, right = st.columns([5, 2], vertical_alignment="bottom")
    left.select_slider(
        "Lowest-scored, along the ranking", counts, key=slider.key,
        on_change=session.moved(slider.key, shown, move),
        help="Replaces the current mask by so many values with the most negative scores.",
    )  # fmt: skip
    wanted = right.toggle(
        "Curve", key="curve", persist_state="session", help="Measures the live sample at every stop of the slider."
    )
    drawn = live.sample(bench) if wanted else None
    points = None if drawn is None else _curve(bench, scores, drawn, counts=counts)
    if drawn is None or points is None:
        return
    figure = prune_plots.lowest_curve(points, drawn.baseline.accuracy, slider.value or shown, state=bench.mask.state)
    figures.draw(figure, "curve-figure")
    what, n = "all" if drawn.whole else "the live sample:", len(drawn.examples)
    by = f" Right is {METRIC_NAMES[drawn.baseline.metric]}." if drawn.baseline.chosen_among else ""
    st.caption(f"On {what} {n:,} {bench.split} examples; bars are standard errors.{by}")
    share.copy("curve", bench, lambda setting: [request(setting, counts, n)])


def _curve(bench: Bench, scores: Scores, drawn: Sample, counts: list[int]) -> tuple[CurvePoint, ...] | None:
    def work(view: View, progress: Progress) -> tuple[CurvePoint, ...]:
        workers = cluster.executor(bench, view)
        apart = None if workers is None else masks_by(workers, bench.task, bench.split, limit=len(drawn.examples))
        found = curve(
            view, bench.svds, scores, sample=drawn, counts=counts, gain=bench.mask.gain, apart=apart, progress=progress
        )
        return tuple(_point(one) for one in found)

    key = ("curve", request(requests.by_contents(bench), counts, len(drawn.examples)))
    return on_view(bench, key, work, label="Measuring along the ranking")


def request(setting: Setting, counts: list[int], n: int) -> Curve:
    """The curve on the first `n` examples of the bench's split."""
    stops = ",".join(map(str, counts))
    return Curve(**setting.scored, counts=stops, gain=setting.bench.mask.gain, split=setting.bench.split, eval_limit=n)


def _point(one: Stop) -> CurvePoint:
    assert one.predicted is not None  # the bench's scorers predict nats
    return CurvePoint(one.count, one.comparison.masked.accuracy, one.comparison.loss_change, predicted=one.predicted)


def gain(bench: Bench) -> None:
    """The slider for a softer removal: the share of the chosen values that stays."""
    now = bench.mask.gain
    Widget[float]("gain").put(now)

    def change(wanted: float) -> None:
        session.change_mask(bench.model, lambda mask: mask.scaled(wanted))

    st.select_slider(
        "Gain of the chosen values",
        sorted({*GAINS, now}),
        format_func=lambda share: f"{100 * share:.4g} %",
        key="gain",
        on_change=session.moved("gain", now, change),
        help="Share of every chosen value that stays. 0 % removes them. Above that they are scaled, not removed: what "
        "is taken away, and frozen at its mean, is the rest.",
    )


def whole(bench: Bench, scores: Scores) -> None:
    """All values of one matrix, or of a layer's scored matrices, off and on."""
    layers = sorted({key.layer for key in scores.matrices})
    places = {f"layer {layer}": tuple(key for key in scores.matrices if key.layer == layer) for layer in layers}
    places |= {str(key): (key,) for key in scores.matrices}
    about = "Remove or restore all values of a matrix, or of a layer."
    with st.popover("Whole matrices", icon=":material/select_all:", key="whole-popover", help=about):
        chosen = st.selectbox(
            "Matrix or layer", list(places), key="whole", persist_state="session",
            help="All values of one scored matrix, or of all of a layer's, at once.",
        )  # fmt: skip
        keys = places[chosen]
        size = sum(len(scores.matrices[key].present_indices) for key in keys)
        gone = sum(len(bench.mask.indices(key)) for key in keys)

        def switch(remove: bool) -> None:
            values = ((key, index) for key in keys for index in scores.matrices[key].present_indices)
            workbench.switch(bench, scores, dict.fromkeys(values, remove))

        st.caption(f"{gone:,} of {size:,} values {bench.mask.state}")
        with st.container(horizontal=True):
            for label, name, remove, possible in (
                (f"{words.verb(bench.mask)} all", "whole-off", True, gone < size),
                ("Restore all", "whole-on", False, gone > 0),
            ):
                st.button(label, key=name, disabled=not possible, on_click=switch, args=(remove,))
