"""Figures of interactions hold what was measured, mark what is linked, and say how far the order is worth going."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from explorer.attribution.interactions import Interactions, OrderStep, PairEffect, SingleEffect, links
from explorer.plots import interactions as plots

EFFECTS = [-2.0, -2.0, 0.1, -0.5]
NAMES = ["L0.Q.H1 0", "L0.K.H1 0 <b>", "L0.V.H0 2", "L1.OUT 3"]


def beyond(i: int, j: int) -> float:
    return {(0, 1): 1.9, (2, 3): 0.01}.get((i, j), 0.0)


FOUND = Interactions(
    n=10, loss=3.0,
    values=tuple(SingleEffect("L0.Q.H1", i, one, 0.1, one / 2, 0.01) for i, one in enumerate(EFFECTS)),
    pairs=tuple(
        PairEffect(i, j, EFFECTS[i] + EFFECTS[j] + beyond(i, j), beyond(i, j), 0.001)
        for i, j in combinations(range(4), 2)
    ),
    together=(-2.5, 0.1),
    greedy=tuple(
        OrderStep(value, effect, 0.3) for value, effect in ((1, -2.0), (3, -2.5), (0, -2.7), (2, -2.6))
    ),
    clusters=((0, 1),), orders=8, masks=30,
)  # fmt: skip


def test_links_are_beyond_chance_and_of_a_size() -> None:
    assert [(one.first, one.second) for one in links(FOUND.pairs, EFFECTS)] == [(0, 1)], "0.01 is sure, but too small"
    noisy = [PairEffect(0, 1, -2.0, 1.9, stderr=0.9), PairEffect(0, 2, -2.0, 1.9, stderr=0.6)]
    assert links(noisy, EFFECTS) == [noisy[1]]
    many = [PairEffect(i, j, 1.0, 1.0, stderr=0.4) for i, j in combinations(range(32), 2)]  # 2.5 standard errors
    assert links(many[:1], EFFECTS) == many[:1]
    assert links(many, EFFECTS) == []


@pytest.mark.parametrize("shown", ["beyond the sum", "together", "sum"])
def test_cells_are_the_measured_ones(shown: plots.Shown) -> None:
    (heat,) = plots.pair_effects(FOUND, NAMES, shown).data
    assert list(heat.y) == ["L0.Q.H1 0", "L0.K.H1 0 &lt;b&gt;", "L0.V.H0 2", "L1.OUT 3"]
    wanted = {
        "beyond the sum": 1.9,
        "together": -2.1,
        "sum": -4.0,
    }[shown]
    assert heat.z[0, 1] == heat.z[1, 0] == pytest.approx(wanted)
    assert np.isnan(heat.z[0, 0]) if shown == "beyond the sum" else heat.z[0, 0] == -2.0
    assert [(i, j) for i in range(4) for j in range(4) if heat.text[i, j]] == [(0, 1), (1, 0)]


def test_clusters_lie_side_by_side() -> None:
    found = Interactions(**{**vars(FOUND), "clusters": ((1, 3), (0, 2))})
    assert plots.in_clusters(found) == [1, 3, 0, 2]
    (heat,) = plots.pair_effects(found, NAMES).data
    assert heat.z[0, 2] == heat.z[2, 0] == pytest.approx(1.9)


def test_the_order_stands_beside_sums_and_ends_where_more_is_not_better() -> None:
    figure = plots.orders(FOUND, NAMES)
    measured, added = figure.data
    assert list(measured.y) == [-2.0, -2.5, -2.7, -2.6]
    np.testing.assert_allclose(added.y, np.cumsum([-2.0, -0.5, -2.0, 0.1]))
    assert plots.shortest(FOUND) == 2, "-2.5 is within 0.3 of -2.7"
    (mark,) = figure.layout.shapes
    assert mark.x0 < 1 < mark.x1
