"""The CSV of a figure holds the data that the figure was made from, for every figure of the pages."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from explorer.masks.sets import MaskOverlap
from explorer.measure.metrics import Mean
from explorer.plots import activations as activation_plots
from explorer.plots import comparison as diff_plots
from explorer.plots import controls as control_plots
from explorer.plots import masks as mask_plots
from explorer.plots import prune as prune_plots
from explorer.plots import scores as score_plots
from explorer.plots import search as search_plots
from explorer.plots import spectra as spectrum_plots
from explorer.plots.data import csv, table
from tests.unit.test_spectrum_diff import diff, pair

TOKENS = ["<b>", " x", "\n"]


def read_back(figure: go.Figure) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(csv(figure)), keep_default_na=False, na_values=[""])


def test_curves_are_told_apart_and_named_by_the_axes() -> None:
    curves = {"L0.K <b>": np.array([0.5, 1.0]), "L1.K": np.array([0.75, 0.9, 1.0])}
    found = read_back(spectrum_plots.energy(curves))
    assert found.columns.tolist() == ["series", "singular values kept (largest first)", "share of squared norm"]
    for name, values in curves.items():
        rows = found[found["series"] == name]
        assert rows.iloc[:, 1].tolist() == list(range(1, len(values) + 1))
        np.testing.assert_array_equal(rows.iloc[:, 2], values)
    assert len(found) == 5
    marked = read_back(spectrum_plots.energy(curves, (0.9,)))
    assert marked["label"].dropna().tolist() == [2, 2]  # the marks' counts


@pytest.mark.parametrize("difference", [True, False])
def test_heatmaps_are_one_row_per_cell_with_their_tokens(difference: bool) -> None:
    pattern = np.arange(9.0).reshape(3, 3)
    found = read_back(activation_plots.attention(pattern, TOKENS, "L0", difference=difference))
    np.testing.assert_array_equal(found["value"].to_numpy().reshape(3, 3), pattern)
    assert found["x"].tolist() == ["0 <b>", "1 ␣x", "2 ⏎"] * 3
    assert found["y"].tolist() == [label for label in found["x"][:3] for _ in range(3)]
    every = read_back(activation_plots.every_head(np.stack([pattern, -pattern]), TOKENS, "L0"))
    np.testing.assert_array_equal(every.loc[every["series"] == "head 1", "value"].to_numpy().reshape(3, 3), -pattern)


def test_stretched_axes_and_mere_places_give_the_true_numbers() -> None:
    pairs = score_plots.Pairs(
        ["L0.K 1", "L0.Q 2"], ["K", "Q"], np.array([-0.5, 3.0]), np.array([-0.25, 2.0]), np.array([0.1, np.nan]),
        np.array([0.2, 0.3]),
    )  # fmt: skip
    found = read_back(score_plots.predicted_exact(pairs, log=True)).set_index("value").loc[["L0.K 1", "L0.Q 2"]]
    np.testing.assert_array_equal(found["predicted (nats)"], pairs.predicted)
    np.testing.assert_array_equal(found["exact (nats)"], pairs.exact)
    np.testing.assert_array_equal(found["predicted ±"], pairs.predicted_stderr)
    cells = [
        score_plots.Cell("L0.K.H1", 0, "K", 1, -0.5, 3, 8, 2),
        score_plots.Cell("L0.OUT", 0, "OUT", None, 0.1, 0, 9, 0),
    ]
    mapped = read_back(score_plots.score_map(cells))
    assert mapped["matrix"].tolist() == ["L0.K.H1", "L0.OUT"]
    assert mapped["most harmful score (nats)"].tolist() == [-0.5, 0.1]
    assert mapped[["harmful", "values"]].to_numpy().tolist() == [[3, 8], [0, 9]]


def test_error_bars_labels_and_gaps() -> None:
    figure = go.Figure(
        [
            go.Scatter(
                x=[1, None, 2], y=[3.0, None, 4.0], error_y={"array": [0.1, 0, 0.2]}, ids=["a", "b", "c"], name="n"
            ),
            go.Scatter(x=[0], y=[0], name="decoration", hoverinfo="skip"),
            go.Scatter(x=[None], y=[None], name="legend only"),
        ]
    )
    figure.update_yaxes(title="loss &lt;nats&gt;<br>more")
    found = table(figure)
    assert found.to_dict("list") == {
        "series": ["n", "n"], "x": [1, 2], "loss <nats> more": [3.0, 4.0], "loss <nats> more ±": [0.1, 0.2],
        "label": ["a", "c"],
    }  # fmt: skip
    assert table(go.Figure()).empty
    assert csv(go.Figure()).strip() in ("", '""')


def figures() -> dict[str, tuple[go.Figure, int]]:
    """Every other figure of the pages, with the number of points that it was given."""
    found = diff(*pair(9, 7, 0.1))
    mean = Mean(0.5, 0.1, 4)
    points = [prune_plots.CurvePoint(1, 0.5, mean, -0.2), prune_plots.CurvePoint(2, 0.6, mean, -0.3)]
    measured = [search_plots.TriedMask(1, 0.5, 0.6), search_plots.TriedMask(2, 0.4, 0.7)]
    on_test = search_plots.HeldOut(0.5, 0.9, (0.8, 0.7))
    return {
        "lens": (activation_plots.lens([-1.0, -2.0], [-0.5, -0.1], "x"), 4),
        "residual": (activation_plots.residual_change(np.ones((3, 2)), TOKENS[:2]), 6),
        "controls": (control_plots.controls([0.1, 0.2, 0.2], 0.5, 0.0), 5),
        "heads": (activation_plots.head_changes(np.ones((2, 3))), 6),
        "wrote": (activation_plots.written(np.ones(3), np.full(3, 0.5), TOKENS, "t"), 6),
        "shared": (mask_plots.shared_values({"L0.K": MaskOverlap(1, 2, 3)}, "a", "b"), 3),
        "curve": (prune_plots.lowest_curve(points, 0.1, 1), 6),
        "search": (search_plots.search_curve(measured, measured[0], "loss"), 5),
        "search, on test": (search_plots.search_curve(measured, measured[0], "loss", on_test), 9),
        "search controls": (search_plots.search_controls({"random": [0.1, 0.3]}, 0.5, 0.2, "accuracy"), 2),
        "difference": (diff_plots.difference(found), 14),
        "changes": (diff_plots.changes(found), 7),
        "overlap": (diff_plots.overlaps(found.overlap(3)), 12),
    }


@pytest.mark.parametrize(("name", "made"), figures().items())
def test_every_figure_has_a_table_of_its_points(name: str, made: tuple[go.Figure, int]) -> None:
    figure, points = made
    found: Any = read_back(figure)
    assert len(found) >= points, name
    assert found.notna().any().all()
    assert not found.astype(str).apply(lambda column: column.str.contains("<br>|&lt;")).any().any()


def test_what_changed_is_what_the_engine_found() -> None:
    found = diff(*pair(9, 7, 0.1))
    np.testing.assert_allclose(read_back(diff_plots.changes(found)).iloc[:, 1], found.relative_change)
    drawn = read_back(diff_plots.difference(found))
    np.testing.assert_allclose(drawn.loc[drawn["series"] == "W' - W", "singular value"], found.difference)
    np.testing.assert_allclose(drawn.loc[drawn["series"] == "W of the base", "singular value"], found.base.s)
    overlap = found.overlap(3)
    drawn = read_back(diff_plots.overlaps(overlap))
    for name, values in (("inputs, u", overlap.left.cosines), ("chance, v", overlap.right.chance)):
        np.testing.assert_allclose(drawn.loc[drawn["series"] == name, "cosine"], values)
    same = np.eye(4)
    assert len(read_back(diff_plots.difference(diff(same, same)))) == 4  # nothing of the difference is above rounding
