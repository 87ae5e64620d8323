"""The map and the scatter hold the data they were given."""

from __future__ import annotations

import numpy as np
import pytest

from explorer.plots import scores as score_plots
from explorer.plots.scores import Cell, Pairs, predicted_exact, score_map


def cell(matrix: str, layer: int, kind: str, head: int | None, worst: float, harmful: int, removed: int = 0) -> Cell:
    return Cell(matrix, layer, kind, head, worst, harmful, 64, removed)


CELLS = (
    cell("L0.Q.H0", 0, "Q", 0, -0.5, 16),
    cell("L0.Q.H1", 0, "Q", 1, -0.1, 4, removed=2),
    cell("L0.OUT", 0, "OUT", None, 0.02, 0),
    cell("L1.Q.H0", 1, "Q", 0, -0.25, 1),
)


def test_every_cell_has_its_place_its_colour_and_the_matrix_it_opens() -> None:
    figure = score_map(CELLS)
    (trace,) = figure.data
    assert list(trace.ids) == [one.matrix for one in CELLS]
    assert list(trace.y) == [one.layer for one in CELLS]
    assert list(trace.marker.color) == [one.worst for one in CELLS]
    assert trace.marker.cmin == -trace.marker.cmax < 0
    places = dict(zip(trace.ids, trace.x, strict=True))
    assert places["L0.Q.H0"] == places["L1.Q.H0"] < places["L0.Q.H1"]
    assert places["L0.OUT"] - places["L0.Q.H1"] > places["L0.Q.H1"] - places["L0.Q.H0"]  # a gap between kinds
    assert [one.text for one in figure.layout.annotations] == ["<b>Q</b>", "<b>OUT</b>"]
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # layer 0 on top


def test_area_grows_with_the_harmful_values_and_a_ring_marks_removed_ones() -> None:
    (trace,) = score_map(CELLS).data
    sizes = dict(zip(trace.ids, trace.marker.size, strict=True))
    smallest, largest = sizes["L0.OUT"], sizes["L0.Q.H0"]
    assert sizes["L0.Q.H1"] == pytest.approx(smallest + (largest - smallest) / 2)  # a quarter of them
    assert [width > 0 for width in trace.marker.line.width] == [False, True, False, False]
    assert "2 in the mask" in trace.customdata[1][4]


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (12, 12), (30, 9), (120, 2)])
def test_cells_never_overlap(layers: int, heads: int) -> None:
    cells = [
        cell(f"L{layer}.Q.H{head}", layer, "Q", head, -1.0, 64) for layer in range(layers) for head in range(heads)
    ]
    figure = score_map(cells)
    (trace,) = figure.data
    plot = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    low, high = figure.layout.yaxis.range
    assert max(trace.marker.size) <= plot / (low - high) + 1e-9


def test_one_outlier_does_not_grey_the_rest() -> None:
    cells = [cell(f"L{i}.Q.H0", i, "Q", 0, -0.1 if i else -50.0, 1) for i in range(101)]
    assert score_map(cells).data[0].marker.cmax == pytest.approx(0.1)
    assert score_map([cell("L0.Q.H0", 0, "Q", 0, 0.0, 0)]).data[0].marker.cmax == 1.0


def pairs(n: int = 6) -> Pairs:
    draw = np.random.default_rng(0)
    predicted = draw.normal(size=n)
    kinds = [("Q", "K")[i % 2] for i in range(n)]
    names = [f"L0.{kind}.H0 {i}" for i, kind in enumerate(kinds)]
    return Pairs(names, kinds, predicted, 2 * predicted, np.abs(predicted) / 10, np.full(n, np.nan))


def test_the_scatter_holds_every_pair_with_its_error_on_both_kinds_of_axis() -> None:
    given = pairs()
    for log in (False, True):
        line, *traces = predicted_exact(given, log=log).data
        assert list(line.x) == list(line.y)  # where both are equal
        assert [trace.name for trace in traces] == ["Q", "K"]
        assert len({trace.marker.symbol for trace in traces}) == 2
        seen = {}
        for trace in traces:
            for i, name in enumerate(trace.ids):
                ends = (trace.x[i] - trace.error_x.arrayminus[i], trace.x[i], trace.x[i] + trace.error_x.array[i])
                undone = [np.sinh(one) / 1000 if log else one for one in (*ends, trace.y[i])]
                seen[name] = undone
            assert not trace.error_y.visible
        for i, name in enumerate(given.names):
            at, error = given.predicted[i], given.predicted_stderr[i]
            np.testing.assert_allclose(seen[name], [at - error, at, at + error, given.exact[i]], rtol=1e-6)


def test_ticks_stand_at_their_nats() -> None:
    axis = predicted_exact(pairs()).layout.xaxis
    np.testing.assert_allclose(np.sinh(axis.tickvals) / 1000, [float(text) for text in axis.ticktext], atol=1e-12)
    assert "0" in axis.ticktext


def test_more_points_than_a_browser_draws_well_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_plots, "POINTS", 10)
    monkeypatch.setattr(score_plots, "WEBGL_FROM", 5)
    _, *traces = predicted_exact(pairs(100)).data
    assert sum(len(trace.x) for trace in traces) == 10
    assert {trace.type for trace in traces} == {"scattergl"}
