"""Examples as points: which are drawn, in which colour, and what of them can be downloaded."""

from __future__ import annotations

import math

from explorer.plots.data import csv
from explorer.plots.examples import PALETTE, ExamplePoint, losses

POINTS = [
    ExamplePoint("0", "<b>3 x 4", 1.0, 2.0, "broken"),
    ExamplePoint("1", "5 x 5", 4.0, 0.5, "repaired"),
    ExamplePoint("2", "no loss", math.inf, 0.5, "repaired"),
]
GROUPS = ["same", "repaired", "broken"]


def test_every_example_with_a_loss_is_a_point_that_says_which_it_is() -> None:
    figure = losses(POINTS, GROUPS)
    drawn = {one.name: one for one in figure.data}
    assert list(drawn) == ["repaired", "broken"]
    assert [drawn[name].marker.color for name in drawn] == list(PALETTE[1:3]), "each group keeps its colour"
    assert (list(drawn["repaired"].ids), list(drawn["broken"].ids)) == (["1"], ["0"])
    assert (list(drawn["broken"].x), list(drawn["broken"].y)) == ([1.0], [2.0])
    assert drawn["broken"].customdata[0][0] == "&lt;b&gt;3 x 4"
    (line,) = figure.layout.shapes
    assert (line.x0, line.y0) == (0, 0)
    assert line.x1 == line.y1 == 4.0


def test_the_points_can_be_downloaded_and_none_is_no_error() -> None:
    table = csv(losses(POINTS, GROUPS))
    assert "repaired" in table
    assert "4.0" in table
    assert not losses([], GROUPS).data
