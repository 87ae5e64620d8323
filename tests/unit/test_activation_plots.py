"""Figures of what happens inside hold the numbers they were given, and tokens stay text."""

from __future__ import annotations

import numpy as np

from explorer.plots import activations as activation_plots
from explorer.plots import style

TOKENS = ["<b>", "a b", "&lt;"]
PATTERNS = np.tril(np.arange(6 * 9.0).reshape(6, 3, 3) / 54)


def test_every_head_has_a_panel_on_one_scale() -> None:
    figure = activation_plots.every_head(PATTERNS, TOKENS, "L0")
    assert len(figure.data) == 6
    for heat, pattern in zip(figure.data, PATTERNS, strict=True):
        np.testing.assert_array_equal(heat.z, pattern)
        assert list(heat.x) == ["0 &lt;b&gt;", "1 a␣b", "2 &amp;lt;"]
        assert heat.coloraxis == "coloraxis"
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0.0, 1.0)
    assert [note.text for note in figure.layout.annotations] == [f"head {head}" for head in range(6)]
    difference = activation_plots.every_head(PATTERNS - 0.5, TOKENS, "L0", difference=True)
    bound = np.abs(PATTERNS - 0.5).max()
    assert (difference.layout.coloraxis.cmin, difference.layout.coloraxis.cmax) == (-bound, bound)
    assert len(activation_plots.every_head(PATTERNS[:1], TOKENS, "one head").data) == 1


def test_the_head_that_moved_most_is_in_the_frame() -> None:
    change = np.array([[0.0, 0.1, 0.0], [0.2, 0.0, 0.0]])
    figure = activation_plots.head_changes(change)
    np.testing.assert_array_equal(figure.data[0].z, change)
    (frame,) = figure.layout.shapes
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (-0.5, 0.5, 0.5, 1.5)
    assert not activation_plots.head_changes(np.zeros((2, 3))).layout.shapes


def test_what_was_written_stands_beside_what_stands_there_now() -> None:
    figure = activation_plots.written(np.array([1.0, -2.0, 0.5]), np.array([0.25, -0.5, 0.1]), TOKENS, "L0.K <i>")
    bars, line = figure.data
    assert list(bars.y) == [1.0, -2.0, 0.5]
    assert list(line.y) == [0.25, -0.5, 0.1]
    assert list(bars.x) == list(line.x)
    assert figure.layout.title.text == "L0.K &lt;i&gt;"


def test_the_first_layer_that_diverges_is_in_the_frame() -> None:
    change = np.array([[0.0, 0.0], [0.0, 0.0], [0.1, 0.2]])
    figure = activation_plots.residual_change(change, ["a", "b"], 1)
    (frame,) = figure.layout.shapes
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (-0.5, 1.5, 1.5, 2.5)
    assert list(figure.layout.yaxis.ticktext) == ["embed", "L0", "<b>▶ L1</b>"]
    assert list(figure.layout.yaxis.tickvals) == ["embed", "L0", "L1"]
    assert not activation_plots.residual_change(change, ["a", "b"]).layout.shapes
    many = list(activation_plots.residual_change(np.ones((31, 2)), ["a", "b"], 16).layout.yaxis.ticktext)
    assert len(many) <= style.LABELLED_LAYERS
    assert many[-1] == "<b>▶ L16</b>"
