"""Figures of a search: what was measured over the number of removed values, and the mask among its controls.

Colours are those of `explorer.plots.style`. Backgrounds are clear, so that a page decides between light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from explorer.plots.style import AFTER, BEFORE, ORANGE, SKY
from explorer.search.controls import DEFAULT
from explorer.search.report_file import SearchFile

CLEAR = "rgba(0,0,0,0)"
# Behind a clear figure plotly takes the page for black, and puts its buttons onto a grey box.
BUTTONS = {"bgcolor": CLEAR, "color": "rgba(128,128,128,0.6)", "activecolor": "rgb(128,128,128)"}
FORMATS = {"loss": ".3f", "accuracy": ".1%"}
LOSS = "loss, nats per example"


@dataclass(frozen=True)
class TriedMask:
    """One mask on the way: how many values it removes, and one measure on both splits (None if it was not taken).

    Attributes:
        within: whether the budget allows it, so that it could be the result.
    """

    removed: int
    train: float | None
    validation: float | None
    within: bool = True


@dataclass(frozen=True)
class HeldOut:
    """The same measure on the test split, which no search sees; not a number, or None, where it is not finite.

    Attributes:
        masked, unpruned: of the chosen mask, and of the model as loaded.
        random: of masks with as many values in each matrix as the chosen one, drawn at random.
    """

    masked: float | None
    unpruned: float | None
    random: tuple[float | None, ...]


def held_out(report: SearchFile, measure: str) -> HeldOut:
    """What a report says of the test split."""
    drawn = report.controls.get(DEFAULT)
    return HeldOut(
        getattr(report.test, measure), getattr(report.baseline, measure), getattr(drawn, measure) if drawn else ()
    )


def search_curve(
    points: Sequence[TriedMask],
    chosen: TriedMask,
    measure: str,
    on_test: HeldOut | None = None,
    *,
    accuracy: str = "accuracy",
) -> go.Figure:
    """A measure (`loss` or `accuracy`) of every mask that a search has tried, over the number of removed values.

    The lines join, for each number of values, the mask within the budget with the best validation measure. The `id` of
    a marker is its place in `points`. With `on_test` the chosen mask stands among its random controls. `accuracy` is
    what accuracy is called: its name says what it counts where there are choices.
    """
    figure = go.Figure()
    if on_test is not None:
        _draw_test(figure, chosen.removed, on_test, measure=measure)
    best = _frontier(points, measure)
    symbols = ["circle" if point.within else "triangle-up-open" for point in points]
    for name, colour, symbol, size in (("train", SKY, "circle-open", 11), ("validation", ORANGE, symbols, 7)):
        figure.add_scatter(
            x=[point.removed for point in points],
            y=[getattr(point, name) for point in points],
            ids=[str(place) for place in range(len(points))],
            name=name,
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": size},
            hovertemplate=f"%{{x}} removed: %{{y:{FORMATS[measure]}}}<extra>{name}</extra>",
        )
        figure.add_scatter(
            x=[point.removed for point in best],
            y=[getattr(point, name) for point in best],
            mode="lines",
            line={"color": colour, "width": 1, "dash": "dot" if name == "train" else "solid"},
            connectgaps=True,
            hoverinfo="skip",
            showlegend=False,
        )
    figure.add_scatter(
        x=[chosen.removed],
        y=[chosen.validation],
        name="chosen",
        mode="markers",
        marker={"color": AFTER, "symbol": "diamond", "size": 13, "line": {"color": BEFORE, "width": 1}},
        hovertemplate=f"chosen: %{{x}} removed, %{{y:{FORMATS[measure]}}}<extra></extra>",
    )
    figure.update_layout(title=f"{_name(measure, accuracy)} on the way", **_frame(380 if on_test is None else 430))
    figure.update_layout(legend={"orientation": "h", "y": -0.3})
    figure.update_traces(cliponaxis=False)  # the unpruned model is on the axis
    figure.update_xaxes(title="values removed", rangemode="tozero", automargin=True)
    figure.update_yaxes(**_axis(measure, accuracy))
    if measure == "accuracy":  # where all are equal, plotly would go far beyond
        figure.update_yaxes(minallowed=-0.05, maxallowed=1.05)
    return figure


def explain_curve(points: Sequence[TriedMask], on_test: HeldOut | None) -> str:
    """What the markers of `search_curve` mean, as sentences."""
    said = ["The diamond is the mask with the lowest validation loss within the budget."]
    if any(not point.within for point in points):
        said.append("Open triangles are beyond the budget.")
    if on_test is not None:
        drawn = f", and masks with as many values in each matrix, drawn at random ({DEFAULT}, grey dots)"
        random = drawn if on_test.random else ""
        said.append(
            "On the test split, which no search sees: the chosen mask (open diamond), the unpruned model (grey x)"
            f"{random}."
        )
    return " ".join(said)


def _draw_test(figure: go.Figure, removed: int, on_test: HeldOut, measure: str) -> None:
    """The chosen mask among its random controls, and the unpruned model; below the curve, and behind it in the legend.

    Draws are translucent: where many are equal, it is darker.
    """
    marks = [("unpruned, test", 0, [on_test.unpruned], {"color": BEFORE, "symbol": "x", "size": 9})]
    if removed:
        drawn = list(on_test.random)
        marks.insert(0, (f"{DEFAULT}, test", removed, drawn, {"color": BEFORE, "opacity": 0.35, "size": 9}))
        marks.append(
            ("chosen, test", removed, [on_test.masked], {"color": AFTER, "symbol": "diamond-open", "size": 13})
        )
    for name, x, values, marker in marks:
        if values:
            figure.add_scatter(
                x=[x] * len(values),
                y=values,
                name=name,
                mode="markers",
                marker=marker,
                legendrank=2000,
                hovertemplate=f"%{{x}} removed: %{{y:{FORMATS[measure]}}}<extra>{name}</extra>",
            )


def search_controls(
    draws: Mapping[str, Sequence[float | None]],
    masked: float | None,
    baseline: float | None,
    measure: str,
    *,
    accuracy: str = "accuracy",
) -> go.Figure:
    """A measure of every draw of every control, with lines at the mask's and at the unpruned model's."""
    figure = go.Figure(
        [
            go.Scatter(
                x=list(values),
                y=[escape(name)] * len(values),
                mode="markers",
                marker={"color": BEFORE, "opacity": 0.5, "size": 10},
                name=escape(name),
                showlegend=False,
                hovertemplate=f"%{{x:{FORMATS[measure]}}}<extra>{escape(name)}</extra>",
            )
            for name, values in draws.items()
        ]
    )
    lines = (("this mask", masked, AFTER, "solid"), ("unpruned", baseline, BEFORE, "dash"))
    for position, (name, value, colour, dash) in enumerate(lines):
        if _known(value):
            figure.add_vline(
                x=value,
                line={"color": colour, "dash": dash, "width": 2},
                annotation={"text": name, "yshift": 14 * position, "font": {"color": colour}},
            )
    figure.update_layout(title=f"{_name(measure, accuracy)} on test", **_frame(320))
    figure.update_layout(margin={"t": 80, "r": 40})
    figure.update_xaxes(**_axis(measure, accuracy))
    figure.update_yaxes(type="category", automargin=True)
    return figure


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _name(measure: str, accuracy: str) -> str:
    return (accuracy if measure == "accuracy" else measure).capitalize()


def _axis(measure: str, accuracy: str) -> dict[str, object]:
    """The axis on which a measure is drawn."""
    title, form = (LOSS, "") if measure == "loss" else (accuracy, ".0%")
    return {"title": title, "tickformat": form, "automargin": True}


def _frontier(points: Sequence[TriedMask], measure: str) -> list[TriedMask]:
    """The best mask within the budget, on validation, for each number of removed values, in order."""
    found: dict[int, tuple[float, TriedMask]] = {}
    for point in points:
        if point.within and point.validation is not None and _known(point.validation):
            cost = point.validation if measure == "loss" else -point.validation
            if point.removed not in found or cost < found[point.removed][0]:
                found[point.removed] = cost, point
    return [found[removed][1] for removed in sorted(found)]


def _frame(height: int) -> dict[str, object]:
    return {
        "height": height,
        "margin": {"l": 10, "r": 10, "t": 40, "b": 10},
        "paper_bgcolor": CLEAR,
        "modebar": BUTTONS,
        "plot_bgcolor": CLEAR,
        "template": "none",
    }


def plotly_script() -> str:
    """The source of plotly.js, to be put into a page once."""
    source: str = get_plotlyjs()
    return source
