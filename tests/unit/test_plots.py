"""Figures hold the data they were given, and text from users stays text."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from explorer.plots import activations as activation_plots
from explorer.plots import controls as control_plots
from explorer.plots import spectra as spectrum_plots
from explorer.plots import style

HOSTILE = ["<b>", "a b", "\n", "<img src=x onerror=alert(1)>", "&lt;"]
PATTERN = np.tril(np.arange(25.0).reshape(5, 5) / 25)


def texts(value: Any) -> list[str]:
    """Every string anywhere in a figure's JSON."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for part in value.values() for text in texts(part)]
    return [text for part in value for text in texts(part)] if isinstance(value, list) else []


def test_energy_holds_each_curve_over_the_number_of_values() -> None:
    curves = {"L0.Q.H0": np.array([0.5, 0.9, 1.0]), "L0.K": np.array([0.7, 1.0])}
    figure = spectrum_plots.energy(curves)
    assert [trace.name for trace in figure.data] == list(curves)
    for trace, values in zip(figure.data, curves.values(), strict=True):
        np.testing.assert_array_equal(trace.y, values)
        np.testing.assert_array_equal(trace.x, np.arange(1, len(values) + 1))
    assert len({trace.line.dash for trace in figure.data}) == 2  # told apart without colour
    assert figure.layout.showlegend
    assert not spectrum_plots.energy({"L0.K": np.array([1.0])}).layout.showlegend


@pytest.mark.parametrize(("count", "kind"), [(20, "scatter"), (3_000, "scattergl")])
def test_webgl_draws_many_points(count: int, kind: str) -> None:
    assert {one.type for one in spectrum_plots.energy({"L0.Q": np.linspace(0.1, 1.0, count)}).data} == {kind}


def test_energy_marks_where_each_curve_reaches_a_share() -> None:
    curves = {"L0.Q.H0": np.array([0.5, 0.9, 1.0]), "L0.K": np.array([0.7, 1.0])}
    figure = spectrum_plots.energy(curves, (0.5, 0.9, 0.99))
    marks = figure.data[2:]
    assert [list(trace.x) for trace in marks] == [[1, 2, 3], [1, 2, 2]]
    assert [list(trace.text) for trace in marks] == [["1", "2", "3"], ["1", "2", "2"]]
    for trace, values in zip(marks, curves.values(), strict=True):
        np.testing.assert_array_equal(trace.y, values[np.array(trace.x) - 1])
        assert not trace.showlegend
    assert [shape.y0 for shape in figure.layout.shapes] == [0.5, 0.9, 0.99]
    assert not spectrum_plots.energy(curves).layout.shapes


def test_attention_holds_the_pattern_on_a_scale_from_0_to_1() -> None:
    figure = activation_plots.attention(PATTERN, ["a", "b", "a", "b", "a"], "L0 head 1")
    (heat,) = figure.data
    np.testing.assert_array_equal(heat.z, PATTERN)
    assert (heat.zmin, heat.zmax) == (0.0, 1.0)
    assert list(heat.x) == list(heat.y) == ["0 a", "1 b", "2 a", "3 b", "4 a"]
    assert figure.layout.yaxis.autorange == "reversed"  # the first query is on top


@pytest.mark.parametrize("scale", [0.0, 0.3, 2.0])
def test_an_attention_difference_is_centred_on_zero(scale: float) -> None:
    difference = scale * (PATTERN - PATTERN.T)
    (heat,) = activation_plots.attention(difference, list("abcde"), "difference", difference=True).data
    assert heat.zmin == -heat.zmax
    assert heat.zmax == (pytest.approx(np.abs(difference).max()) if scale else 1.0)
    assert heat.colorscale[1][0] == 0.5


def test_residual_change_names_the_layers() -> None:
    change = np.arange(12.0).reshape(3, 4)
    (heat,) = activation_plots.residual_change(change, list("abcd")).data
    np.testing.assert_array_equal(heat.z, change)
    assert list(heat.y) == ["embed", "L0", "L1"]
    assert (heat.zmin, heat.zmax) == (0.0, 11.0)
    (nothing,) = activation_plots.residual_change(np.zeros((3, 4)), list("abcd")).data
    assert nothing.zmax == 1.0


def test_lens_shows_probabilities_before_and_after() -> None:
    before, after = [math.log(0.5), math.log(0.25)], [math.log(0.1), 0.0]
    figure = activation_plots.lens(before, after, " 7")
    first, second = figure.data
    assert (first.name, second.name) == ("unpruned", "with the mask")
    np.testing.assert_allclose(first.y, [0.5, 0.25])
    np.testing.assert_allclose(second.y, [0.1, 1.0])
    assert list(first.x) == ["embed", "L0"]
    assert "' 7'" in go.Figure(figure).layout.title.text.replace("&#x27;", "'")
    assert first.line.dash != second.line.dash


def test_controls_show_every_draw_beside_the_mask_and_the_unpruned_model() -> None:
    figure = control_plots.controls([0.1, 0.1, 0.3], masked=0.9, baseline=0.05)
    assert [list(trace.x) for trace in figure.data] == [[0.1, 0.1, 0.3], [0.9], [0.05]]
    assert len({trace.marker.symbol for trace in figure.data}) == 3


@pytest.mark.parametrize(
    "figure",
    [
        lambda: activation_plots.attention(PATTERN, HOSTILE, HOSTILE[3]),
        lambda: activation_plots.residual_change(PATTERN, HOSTILE),
        lambda: activation_plots.lens([-1.0], [-2.0], HOSTILE[3]),
        lambda: spectrum_plots.energy({HOSTILE[3]: np.array([1.0]), "<b>": np.array([1.0])}),
    ],
    ids=["attention", "residual", "lens", "energy"],
)
def test_tokens_are_escaped_everywhere(figure: Callable[[], go.Figure]) -> None:
    described = json.loads(figure().to_json())
    ours = {"<br>", "<extra>", "</extra>"}
    for text in texts({"data": described["data"], "layout": {**described["layout"], "template": None}}):
        for tag in ours:
            text = text.replace(tag, "")
        assert "<" not in text, text


def test_positions_are_distinct_and_spaces_are_visible() -> None:
    labels = style.position_labels([" a", " a", "\n", "<b>"])
    assert labels == ["0 ␣a", "1 ␣a", "2 ⏎", "3 &lt;b&gt;"]


def test_no_chart_offers_to_send_data_anywhere() -> None:
    assert style.CONFIG["showSendToCloud"] is False
    assert style.CONFIG["displaylogo"] is False
