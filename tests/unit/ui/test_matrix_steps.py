"""Previous and next along an order of matrices."""

from __future__ import annotations

import pytest

from explorer.core.keys import MatrixKey
from explorer.ui.components.matrix_steps import step
from explorer.ui.spectra.choice import same_elsewhere

ORDER = ("a", "b", "c")


@pytest.mark.parametrize(
    ("now", "way", "expected"),
    [("a", 1, "b"), ("b", -1, "a"), ("a", -1, None), ("c", 1, None), (None, 1, "a"), ("gone", -1, "a")],
)
def test_a_step_stays_in_the_order(now: str | None, way: int, expected: str | None) -> None:
    assert step(ORDER, now, way) == expected


def test_nothing_has_no_neighbours() -> None:
    assert step((), None, 1) is None


def test_the_same_matrix_elsewhere_keeps_kind_and_head() -> None:
    keys = [MatrixKey.parse(f"L{layer}.{rest}") for layer in range(7) for rest in ("Q", "Q.H0", "K.H0", "OUT")]
    first = MatrixKey.parse("L2.K.H0")
    assert [str(key) for key in same_elsewhere(keys, first, 1)] == [f"L{n}.K.H0" for n in (0, 1, 3, 4, 5, 6)]
    assert [str(key) for key in same_elsewhere(keys, first, 2)] == [f"L{n}.K.H0" for n in (0, 4, 6)]
    assert same_elsewhere(keys, first, 9) == ()
