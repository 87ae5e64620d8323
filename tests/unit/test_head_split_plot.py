"""The heat map of a split holds its pairs, adds up to all of them, and keeps names text."""

from __future__ import annotations

import numpy as np
import torch

from explorer.masks.head_split import Split, TermSide
from explorer.plots.data import table
from explorer.plots.head_split import OTHERS, pair_map

HERE = torch.tensor(np.random.default_rng(0).normal(size=(9, 7)))
SPLIT = Split(
    TermSide("L0.Q.H1", 8, ("bias",)), TermSide("L0.K.H1", 7), HERE, elsewhere=HERE.flip(0), further=(), own=0.0,
    own_elsewhere=0.0,
)  # fmt: skip


def test_cells_add_up_and_the_largest_are_shown() -> None:
    for apart, wanted in ((False, SPLIT.here), (True, SPLIT.here - SPLIT.elsewhere)):
        (heat,) = pair_map(SPLIT, "Score", apart=apart, most=4).data
        assert heat.z.shape == (5, 5)
        assert heat.y[-1] == OTHERS == heat.x[-1]
        np.testing.assert_allclose(heat.z.sum(), float(wanted.sum()), atol=1e-9)
        at = divmod(int(wanted.abs().argmax()), 7)
        assert np.abs(heat.z[:-1, :-1]).max() == float(wanted.abs().max())
        assert SPLIT.first.terms[at[0]] in heat.y
        assert heat.zmax == -heat.zmin


def test_all_are_shown_where_they_fit_and_labels_are_text() -> None:
    figure = pair_map(SPLIT, "<b>", apart=False, called=({2: "<i>digits"}, {}))
    (heat,) = figure.data
    np.testing.assert_array_equal(heat.z, SPLIT.here.numpy())
    assert heat.y[2] == "2 &lt;i&gt;digits"
    assert heat.y[-1] == "bias"
    assert figure.layout.title.text == "&lt;b&gt;"
    assert len(table(figure)) == 63
