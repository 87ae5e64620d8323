"""A session as one HTML page: what the mask does, which answers flip, where its values lie, how it came to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import plotly.graph_objects as go

from explorer.core.columns import Column
from explorer.core.keys import MatrixKey
from explorer.masks.mask import Mask
from explorer.measure.evaluate import Comparison
from explorer.measure.figures import ComparisonFigures, Figures
from explorer.plots.html import code_html, figures_html, links_html, page_html, table_html
from explorer.plots.search import BUTTONS, CLEAR
from explorer.search.columns import change_text, control_columns, measured_columns
from explorer.search.control_runs import ControlFigures

FLIPS, MATRICES = 200, 24  # that are shown
_VALUE_NAMES = ("matrix", "index", "singular value", "score (nats)", "frozen mean")
Rows = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class SharedSession:
    """What a page says of a session.

    Attributes:
        model: its name and its digest.
        task: its name and its digest.
        split: where figures are from.
        mask: what is removed.
        comparison: the figures.
        controls: masks of the same size, by name.
        spectra: singular values of the mask's matrices.
        scores: what removing each of the mask's values was predicted to do, nats per example, by matrix and index.
        history: what led to each mask, and how many values it removes.
        commands: what each does, and its line for a shell.
        versions: of the programs.
        files: names of those beside the page.
    """

    model: tuple[str, str]
    task: tuple[str, str]
    split: str
    mask: Mask
    comparison: Comparison
    controls: Mapping[str, ControlFigures]
    spectra: Mapping[MatrixKey, Sequence[float]]
    scores: Mapping[tuple[str, int], float]
    history: Sequence[tuple[str, int]]
    commands: Sequence[tuple[str, str]]
    versions: Mapping[str, str]
    files: Sequence[str] = field(default=())


def session_page(session: SharedSession) -> str:
    """The whole page; the same session gives the same page."""
    mask, comparison = session.mask, session.comparison
    title = f"{session.task[0]}: {len(mask):,} singular values {mask.state}"
    about = (
        f"{session.model[0]}, {mask.model.basis} basis, {mask.mode} removal; {session.split} split, "
        f"{comparison.masked.n:,} examples. Losses are in nats per example; accuracies come with 95 % Wilson intervals."
    )
    return page_html(title, about, "\n".join(_sections(session)))


def _sections(session: SharedSession) -> Iterator[str]:
    comparison = session.comparison
    rows = [("unpruned", Figures.of(comparison.baseline)), (session.mask.state, Figures.of(comparison.masked))]
    yield "<h2>Figures</h2>"
    yield table_html(measured_columns(rows[0][1]), rows)
    yield f"<p>{escape(change_text(ComparisonFigures.of(comparison)))}</p>"
    yield "<h2>Controls: masks of the same size, chosen without the score</h2>"
    yield (
        table_html(control_columns(rows[0][1].accuracy_name), session.controls.items())
        if session.controls
        else "<p>None were drawn.</p>"
    )
    yield from _flips(comparison)
    yield "<h2>Where the values lie</h2>"
    shown = list(session.spectra.items())[:MATRICES]
    yield figures_html(_spectrum(key, s, session.mask.indices(key)) for key, s in shown)
    yield table_html(_named(*_VALUE_NAMES), _values(session))
    yield "<h2>History</h2>"
    steps = [(str(place), label, f"{count:,}") for place, (label, count) in enumerate(session.history)]
    yield table_html(_named("step", "what was done", "values"), steps)
    yield "<h2>The same again</h2>"
    for heading, line in session.commands:
        yield f"<h3>{escape(heading)}</h3>{code_html([line])}"
    yield "<h2>Of what, with what</h2>"
    yield table_html(_named("", ""), _facts(session))
    if session.files:
        yield f"<h2>Files</h2>{links_html(session.files)}"


def _flips(comparison: Comparison) -> Iterator[str]:
    now, before = comparison.masked, comparison.baseline
    places = (*comparison.broken, *comparison.repaired)
    yield "<h2>Answers that flipped</h2>"
    yield f"<p>{len(comparison.repaired):,} wrong to right, {len(comparison.broken):,} right to wrong."
    yield f" The first {FLIPS:,} are shown.</p>" if len(places) > FLIPS else "</p>"
    rows = [
        (
            now.examples[place].prompt, now.examples[place].answer, _said(before, place), _said(now, place),
            "wrong to right" if now.correct[place] else "right to wrong",
            f"{now.loss[place] - before.loss[place]:+.3f}",
        )
        for place in places[:FLIPS]
    ]  # fmt: skip
    if rows:
        names = ("prompt", "answer", "unpruned", "with the mask", "flip", "change of the loss (nats)")
        yield table_html(_named(*names), rows)


def _said(evaluation: object, place: int) -> str:
    """What a model answers: its choice where the metric is about choices, else its own words."""
    picked = {"choice": "picked", "choice-mean": "picked_mean"}.get(getattr(evaluation, "metric", ""), "answers")
    return str(getattr(evaluation, picked)[place])


def _values(session: SharedSession) -> Rows:
    return [
        (
            one.matrix, str(one.index), f"{one.sigma:.5g}",
            "" if (score := session.scores.get((one.matrix, one.index))) is None else f"{score:+.4f}",
            f"{one.c:.4g}" if session.mask.mode == "freeze" else "",
        )
        for one in session.mask.removed
    ]  # fmt: skip


def _facts(session: SharedSession) -> Rows:
    mask = session.mask
    return [
        ("model", " ".join(session.model)),
        ("task", " ".join(session.task)),
        ("mask", mask.digest),
        ("scored by", mask.provenance.scorer or "not known"),
        ("chosen by", mask.provenance.strategy or "hand"),
        ("versions", ", ".join(f"{name} {number}" for name, number in session.versions.items())),
    ]


def _named(*names: str) -> tuple[Column[tuple[str, ...]], ...]:
    """Columns of rows of text, in their order."""

    def column(place: int, name: str) -> Column[tuple[str, ...]]:
        return Column(name, lambda row: row[place])

    return tuple(column(place, name) for place, name in enumerate(names))


def _spectrum(key: MatrixKey, s: Sequence[float], removed: frozenset[int]) -> go.Figure:
    """Singular values of a matrix: filled are kept, hollow are removed."""
    figure = go.Figure()
    for name, chosen, symbol in (("kept", False, "circle"), ("removed", True, "circle-open")):
        places = [place for place in range(len(s)) if (place in removed) is chosen]
        figure.add_scatter(
            x=places, y=[s[place] for place in places], name=name, mode="markers",
            marker={"symbol": symbol, "size": 9 if chosen else 6, "color": "#d95f02" if chosen else "#7f8a93",
                    "line": {"width": 2}},
        )  # fmt: skip
    figure.update_layout(
        title={"text": f"{key}: {len(removed):,} of {len(s):,} removed"}, height=300,
        margin={"l": 10, "r": 10, "t": 40, "b": 10}, paper_bgcolor=CLEAR, plot_bgcolor=CLEAR, template="none",
        modebar=BUTTONS, yaxis={"type": "log", "title": {"text": "singular value"}, "automargin": True},
        xaxis={"title": {"text": "index"}, "automargin": True},
        legend={"orientation": "h", "y": 1.02, "x": 1, "xanchor": "right", "yanchor": "bottom"},
    )  # fmt: skip
    return figure
