"""A search on its page: the curve as it grows, and afterwards what was found, to look at, take along and go on with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

import pandas as pd
import streamlit as st

from explorer.core.columns import cells, names
from explorer.measure.evaluate import Evaluation
from explorer.measure.metrics import wilson_interval
from explorer.plots.search import HeldOut, TriedMask, explain_curve, held_out, search_controls, search_curve
from explorer.plots.search_latex import search_latex
from explorer.plots.search_page import search_page
from explorer.search.columns import beyond_sentence, control_columns, seen_sentences
from explorer.search.conductor import Earlier
from explorer.search.controls import DEFAULT
from explorer.search.outcome import Point
from explorer.search.report import Report
from explorer.search.report_file import SearchFile
from explorer.search.request import SearchRequest
from explorer.ui.components import figures, painting, words
from explorer.ui.jobs import cached, searching
from explorer.ui.jobs.runner import JobState
from explorer.ui.jobs.searching import Seen, Started
from explorer.ui.search import evidence, form
from explorer.ui.session import Bench, Widget, guide, session, state
from explorer.ui.session.tabs import tabs
from explorer.ui.shell import mask_panel, pages, share

MOST_EARLIER = 20
MEASURES = ("loss", "accuracy")
_STOPPED = {"": "It ran to its end.", "time": "Time was up.", "stopped": "It was stopped; Go on takes it up there."}


@dataclass(frozen=True)
class _Opened:
    """A mask was just made the session's, to be looked at."""


def start_or_go_on(bench: Bench, asked: SearchRequest, started: Started | None) -> None:
    """The button, and what it starts as code; one search of a session at a time."""
    job = None if started is None else started.job
    active = job is not None and job.active
    early = started is not None and started.asked == asked and searching.ended_early(started)
    done = started is not None and started.asked == asked and not active and not early

    def start() -> None:
        searching.searches().start(bench, asked)

    about = "Runs in the background: other pages can be used meanwhile, and a reload of the page finds it again."
    if active:
        about = "One search at a time: stop the one that runs first."
    elif done:
        about = "This search is done: see below. Change something to search anew."
    row = st.container(horizontal=True, vertical_alignment="center")
    row.button(
        "Go on" if early and started is not None and started.seen is not None else "Start",
        key="search-start",
        type="primary",
        icon=":material/play_arrow:",
        disabled=active or done,
        on_click=start,
        help=about,
    )
    with row:
        share.copy("search", bench, lambda setting: [form.request(setting, asked)])


def earlier(bench: Bench, started: Started | None) -> bool:
    """Searches of this model and task that the journal holds, besides the session's own; each goes on in a click.

    Gives whether there are any.
    """
    own = None if started is None else started.asked
    listed = [one for one in searching.earlier(bench) if one.asked != own]
    if not listed:
        return False
    active = started is not None and started.job is not None and started.job.active
    with st.expander(f"Earlier searches of this model and task ({len(listed)})", icon=":material/history:"):
        for place, search in enumerate(listed[:MOST_EARLIER]):
            _row(bench, search, place, active=active)
        if len(listed) > MOST_EARLIER:
            st.caption(f"And {len(listed) - MOST_EARLIER:,} older ones.")
    return True


def _row(bench: Bench, search: Earlier, place: int, *, active: bool) -> None:
    done = search.result is not None

    def go_on() -> None:
        form.renew()
        searching.searches().start(bench, search.asked)

    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{words.literal(search.asked.title)}  \n:small[{_came_to(search)}]")
        st.button(
            "Open" if done else "Go on",
            key=f"search-earlier-{place}",
            icon=":material/folder_open:" if done else ":material/play_arrow:",
            disabled=active,
            on_click=go_on,
            help="One search at a time: stop the one that runs first."
            if active
            else "Reads what was measured from the journal, and goes on from there.",
        )


def _came_to(search: Earlier) -> str:
    when = datetime.fromtimestamp(search.used).strftime("%d %b %Y, %H:%M")
    if search.result is None:
        return f"{when}: not finished, {words.count(search.answers, 'answer')} in {search.seconds:,.0f} s"
    low, high = wilson_interval(round(search.result.accuracy * search.result.n), search.result.n)
    figures = f"{words.percent(search.result.accuracy)} [{100 * low:.1f}, {100 * high:.1f}], n = {search.result.n:,}"
    return f"{when}: {figures} on test with {search.result.removed:,} removed, {search.seconds:,.0f} s"


def draw(bench: Bench, started: Started | None, *, others: bool = False) -> None:
    """The session's search, whatever has become of it; `others`: whether earlier ones are listed above."""
    if state.take(_Opened) is not None:
        pages.go_to("mask")
    job = None if started is None else started.job
    if started is None or job is None:
        if others:
            st.info("Choose a strategy and a budget, and start; or take up an earlier search above.")
        else:
            st.info("No search has run on this model and task yet: choose a strategy and a budget, and start.")
        return
    st.subheader(words.literal(started.asked.title), divider="gray", anchor=False)
    if not job.wait(painting.FOUND.seconds):
        cached.shown_here(job.key)
        _watch(started)
        return
    report, seen = started.report, started.seen
    if job.state is JobState.FAILED:
        st.error(words.literal(job.error or ""), icon=":material/error:")
    if report is None and job.state is JobState.STOPPED:
        what = "before anything was measured." if seen is None else "before its mask was measured on the test split."
        st.info(f"Stopped {what}", icon=":material/stop_circle:")
    if report is None:
        if seen is not None:
            _take(bench, started, seen, file=None)
        return
    assert seen is not None, "a report has its curve"
    found, proof = tabs("search-tab", {"found": "Found", "evidence": "Evidence"})
    if found.open:
        with found:
            _figures(report)
            _take(bench, started, seen, file=report.file)
            _controls(report.file)
    if proof.open:
        with proof:
            evidence.draw(report.file)


@st.fragment(run_every=painting.LIST)
def _watch(started: Started) -> None:
    """Progress, and everything measured so far; draws itself again while the search runs."""
    job, seen, live = started.job, started.seen, started.live
    if job is None or not job.active:
        st.rerun()
    if live.measuring:
        doing = "measuring the mask and its controls on the test split"
    elif seen is None:
        doing = "waiting for its turn" if job.state is JobState.WAITING else "decomposing, measuring the unpruned model"
    elif live.stopping:
        doing = "stopping after the step under way"
    else:
        doing = f"{words.count(len(seen.curve), 'mask')} measured"
    seconds = job.seconds_left
    left = "" if seconds is None or seconds < 1 or live.stopping else f", about {seconds:.0f} s left"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(job.share, text=words.literal(f"{doing.capitalize()}{left}"))
        again = live.stopping or live.measuring  # a button does what it said when it was pressed
        st.button(
            "Stop now, without test figures" if again else "Stop",
            key="search-stop",
            icon=":material/stop:",
            on_click=started.give_up if again else started.stop,
            help="The masks measured so far stay." if again else "The best mask so far is kept, and measured.",
        )
    if seen is not None:
        st.markdown(f"Best so far, on validation: **{_told(seen.best)}**")
        for box, measure in zip(st.columns(2), MEASURES, strict=True):
            figures.draw(_curve(started.asked, seen, measure), f"search-growing-{measure}", box=box)


def _figures(report: Report) -> None:
    """Test figures of the best mask beside the unpruned model's, the controls and the cost; what was seen in search."""
    if (beyond := beyond_sentence(report.file)) is not None:
        st.warning(words.literal(beyond))
    found = report.comparison
    limited = "" if report.test_limit is None else f"first {report.test_limit:,} examples  \n"
    accuracy, loss, chance, cost = st.columns(4, border=True)
    with accuracy, st.container(key="search-accuracy"):
        change, same = words.points(found.accuracy_change), not found.accuracy_change.value
        st.metric(
            f"{words.accuracy_title(found.masked)}, test", words.percent(found.masked.accuracy), change,
            delta_color="off" if same else "normal",
            help="Of the mask with the lowest validation loss. Tried once; 95 % Wilson interval.",
        )  # fmt: skip
        st.caption(
            f"{limited}{words.interval(found.masked)}  \nunpruned {words.percent(found.baseline.accuracy)}"
            + (f"  \n{words.beside(found.masked)}" if found.masked.chosen_among else "")
        )
    with loss, st.container(key="search-loss"):
        change, same = words.spread(found.loss_change, signed=True), not found.loss_change.value
        st.metric(
            "Loss, test", words.loss(found.masked), change, delta_color="off" if same else "inverse",
            help="Mean over examples; the change is paired, with its standard error.",
        )  # fmt: skip
        test = found.accuracy_test
        st.caption(f"{test.repaired:,} wrong → right, {test.broken:,} right → wrong  \nMcNemar p = {test.p:.2g}")
    with chance, st.container(key="search-chance"):
        _chance(report.file)
    with cost, st.container(key="search-cost"):
        st.metric("Removed", f"{len(report.mask):,}", help="By the best mask; the rest is its cost.")
        st.caption(
            f"{report.forwards:,} forward passes of one example, {report.seconds:.0f} s  \n"
            + _STOPPED[report.found.stopped]
        )
    for sentence in seen_sentences(report.seen):
        st.caption(words.literal(sentence))


def _chance(file: SearchFile) -> None:
    control = file.controls.get(DEFAULT)
    about = (
        f"The control {DEFAULT}: masks with as many values in each matrix, drawn at random. How many of them the mask "
        "beats in accuracy."
    )
    if control is None:
        st.metric("Random masks beaten", "-", help=about)
        st.caption("nothing is removed" if not file.removed else "no controls were drawn")
        return
    st.metric("Random masks beaten", f"{control.percentile.accuracy:.0f} %", help=about)
    low, high = min(control.accuracy), max(control.accuracy)
    st.caption(
        f"{control.draws} draws of {DEFAULT}: median {words.percent(median(control.accuracy))}  \n"
        f"range {100 * low:.1f} to {100 * high:.1f} %"
    )


def _take(bench: Bench, started: Started, seen: Seen, file: SearchFile | None) -> None:
    """The whole curve; any of its points, to be opened in the workbench, and what to download."""
    name = f"{abs(hash(started.key)) % 10**8}-{len(seen.curve)}"
    chosen: Widget[int] = Widget(f"search-point-{name}")
    best = next(i for i, point in enumerate(seen.curve) if point is seen.best)
    for box, measure in zip(st.columns(2), MEASURES, strict=True):
        chart = f"search-curve-{name}-{measure}"
        on_test = None if file is None else held_out(file, measure)
        figures.draw(
            _curve(started.asked, seen, measure, on_test=on_test), chart, box=box, selection_mode="points",
            on_select=_pick(chart, chosen, len(seen.curve)),
        )  # fmt: skip
    guide.explain(explain_curve(_points(started.asked, seen, "loss"), on_test))
    chosen.start(best)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = st.selectbox(
            "Point of the curve: click a marker, or choose",
            range(len(seen.curve)),
            format_func=lambda i: f"{i + 1}: {_told(seen.curve[i])}" + (" (best)" if i == best else ""),
            key=chosen.key,
            persist_state="session",
            width=330 if started.asked.growth is None else 520,
            help="In the order in which they were measured: accuracy and loss on the validation split, and the growth "
            "of the perplexity, if that is limited.",
        )
        mask = searching.mask_of(bench, started.asked, seen.curve[place])

        def open_it() -> None:
            label = f"{started.asked.strategy}: {len(mask):,}"
            if session.change_mask(bench.model, lambda _: mask, label):
                state.put(_Opened())

        st.button(
            "Open in the workbench",
            key="search-open",
            type="primary",
            icon=":material/content_cut:",
            on_click=open_it,
            help="Makes it the current mask; undo brings the other one back.",
        )
        st.download_button(
            "Mask", data=mask.to_json, file_name=mask_panel.file_name(bench.model.source.name, mask, ".mask.json"),
            mime="application/json", icon=":material/download:", on_click="ignore", key="search-mask",
        )  # fmt: skip
        if file is not None:
            _downloads(file)


def _downloads(file: SearchFile) -> None:
    """The report as data and as a page; both are made when they are asked for."""
    makers: dict[str, tuple[Callable[[], str], str]] = {
        "report.json": (file.to_json, "application/json"),
        "report.html": (lambda: search_page(file), "text/html"),
        "table.tex": (lambda: search_latex(file), "application/x-tex"),
    }
    for name, (make, mime) in makers.items():
        st.download_button(
            name, data=make, file_name=name, mime=mime, icon=":material/download:", on_click="ignore",
            key=f"search-{name.replace('.', '-')}",
        )  # fmt: skip


def _pick(chart: str, chosen: Widget[int], count: int) -> Callable[[], None]:
    """A click on a marker chooses its point; what the browser sends is checked, and a click beside all is no choice."""

    def picked() -> None:
        if (place := clicked(Widget[Any](chart).value, count)) is not None:
            chosen.put(place)

    return picked


def clicked(event: Any, count: int) -> int | None:
    """Which of `count` points a chart's selection holds; None if none of them."""
    name = figures.selected_id(event)
    return int(name) if name is not None and name.isdecimal() and int(name) < count else None


def _controls(file: SearchFile) -> None:
    st.subheader("Beside its controls", divider="gray", anchor=False)
    if not file.controls:
        st.caption("Nothing is removed, or no controls were asked for.")
        return
    for box, measure in zip(st.columns(2), ("accuracy", "loss"), strict=True):
        draws = {name: getattr(one, measure) for name, one in file.controls.items()}
        own, unpruned = getattr(file.test, measure), getattr(file.baseline, measure)
        figure = search_controls(draws, own, unpruned, measure=measure, accuracy=file.test.accuracy_name)
        figures.draw(_themed(figure), f"search-controls-{measure}", box=box)
    columns = control_columns(file.test.accuracy_name)
    table = pd.DataFrame(cells(columns, file.controls.items()), columns=list(names(columns)))
    st.dataframe(table, hide_index=True, key="search-controls-table")
    st.caption("Beaten: draws that the mask beats, ties counted half.")


def _told(point: Point) -> str:
    found = point.validation
    text = "" if point.growth is None else f", perplexity {100 * point.growth:+.1f} %"
    return f"{point.removed:,} removed, {words.percent(found.accuracy)}, {words.loss(found)}{text}"


def _curve(asked: SearchRequest, seen: Seen, measure: str, on_test: HeldOut | None = None) -> Any:
    points = _points(asked, seen, measure)
    chosen = next(one for one, point in zip(points, seen.curve, strict=True) if point is seen.best)
    return _themed(search_curve(points, chosen, measure, on_test=on_test, accuracy=seen.best.validation.accuracy_name))


def _points(asked: SearchRequest, seen: Seen, measure: str) -> list[TriedMask]:
    def of(evaluation: Evaluation | None) -> float | None:
        if evaluation is None:
            return None
        return float(evaluation.mean_loss.value if measure == "loss" else evaluation.accuracy)

    return [
        TriedMask(
            point.removed,
            of(point.train),
            of(point.validation),
            within=asked.budget.allows(point.removed, point.growth),
        )
        for point in seen.curve
    ]


def _themed(figure: Any) -> Any:
    """The figure in the page's own theme."""
    return figure.update_layout(template="plotly", margin={"t": 48})
