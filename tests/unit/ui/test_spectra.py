"""From picks and checkboxes back to a mask."""

from __future__ import annotations

import pytest
import torch

from explorer.attribution import MatrixScores, Scores
from explorer.core.errors import MaskError
from explorer.core.keys import MatrixKey
from explorer.masks.mask import Mask, ModelIdentity, Removed
from explorer.ui.bench.chart_data import with_removed

IDENTITY = ModelIdentity(source="m", digest="sha256:" + "0" * 64)
Q, K = MatrixKey.parse("L0.Q.H0"), MatrixKey.parse("L0.K.H1")


def scores(*keys: MatrixKey) -> Scores:
    """Four values per matrix, with frozen means 10, 11, 12, 13."""
    s = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    matrices = {key: MatrixScores(s, torch.tensor([-1.0, 2.0, -3.0, 4.0]), torch.arange(10.0, 14.0)) for key in keys}
    return Scores("gradient", "freeze", "t", "train", 5, 0, 1.0, matrices)


def removed(key: MatrixKey, index: int, c: float) -> Removed:
    return Removed(matrix=str(key), index=index, sigma=4.0 - index, c=c)


def places(mask: Mask) -> list[tuple[str, int, float]]:
    return [(one.matrix, one.index, one.c) for one in mask.removed]


EMPTY = Mask(model=IDENTITY)


def test_new_values_take_sigma_and_frozen_mean_from_the_scores() -> None:
    mask = with_removed(EMPTY, scores(Q, K), {str(Q): {2, 0}})
    assert mask.removed == (removed(Q, 0, 10.0), removed(Q, 2, 12.0))


def test_values_that_stay_removed_keep_their_frozen_means() -> None:
    mask = EMPTY.with_removed([removed(Q, 0, -7.0), removed(Q, 1, -8.0), removed(K, 3, -9.0)])
    changed = with_removed(mask, scores(Q, K), {str(Q): frozenset({0, 3})})
    assert places(changed) == [("L0.Q.H0", 0, -7.0), ("L0.Q.H0", 3, 13.0), ("L0.K.H1", 3, -9.0)]
    assert with_removed(mask, scores(Q, K), {}).digest == mask.digest
    assert with_removed(mask, scores(Q, K), {str(Q): {0, 1}}).digest == mask.digest


def test_an_empty_set_restores_the_matrix_and_leaves_the_others() -> None:
    mask = EMPTY.with_removed([removed(Q, 0, 1.0), removed(K, 3, 2.0)])
    assert places(with_removed(mask, scores(Q), {str(Q): ()})) == [("L0.K.H1", 3, 2.0)]


def test_the_order_is_canonical_whatever_comes_first() -> None:
    one = with_removed(with_removed(EMPTY, scores(Q, K), {str(K): {3, 1}}), scores(Q, K), {str(Q): {2}})
    other = with_removed(EMPTY, scores(Q, K), {str(Q): {2}, str(K): {1, 3}})
    assert one.removed == other.removed
    assert one.digest == other.digest


def test_a_matrix_per_head_and_stacked_is_refused() -> None:
    mask = EMPTY.with_removed([removed(Q, 0, 1.0)])
    with pytest.raises(MaskError, match=r"L0\.Q\.H0 and L0\.Q overlap"):
        with_removed(mask, scores(Q.stacked), {str(Q.stacked): {1}})
