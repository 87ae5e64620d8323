"""The curve along the ranking."""

from __future__ import annotations

import math

from explorer.measure.metrics import Mean
from explorer.plots.prune import CurvePoint, lowest_curve

POINTS = (CurvePoint(1, 0.2, Mean(-0.1, 0.01, 40), -0.2), CurvePoint(8, 0.6, Mean(0.5, math.nan, 1), -9.0))


def test_it_shows_measured_predicted_and_accuracy_over_the_count() -> None:
    figure = lowest_curve(POINTS, 0.1, 8)
    measured, predicted, accuracy = figure.data
    assert list(measured.x) == list(predicted.x) == list(accuracy.x) == [1, 8]
    assert list(measured.y) == [-0.1, 0.5]
    assert list(predicted.y) == [-0.2, -9.0]
    assert list(accuracy.y) == [0.2, 0.6]
    assert figure.layout.xaxis.type == "log"
    low, high = figure.layout.yaxis.range
    assert -1 < low < -0.1  # the measured range, with the prediction of -9 outside it
    assert 0.5 < high < 1
    line, mark = figure.layout.shapes
    assert (line.y0, line.yref) == (0.1, "y2")
    assert mark.x0 == 8


def test_without_a_place_there_is_no_mark() -> None:
    assert len(lowest_curve(POINTS, 0.1, None).layout.shapes) == 1


def test_a_curve_of_scaled_values_says_so() -> None:
    for state in ("removed", "scaled to 50 %"):
        figure = lowest_curve(POINTS, 0.1, None, state)
        assert figure.layout.xaxis.title.text == f"lowest-scored values {state}"
        assert [f"%{{x}} {state}: %{{y" in one.hovertemplate for one in figure.data] == [True] * 3
