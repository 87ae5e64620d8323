"""INT-SUM and INT-MULT as published, and a small INT-MULT: every ordered pair of integers below a limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from explorer.tasks.base import Splits
from explorer.tasks.spec import Row, TaskSpec, split_rows

SUM_LIMIT, MULT_LIMIT, SMALL_LIMIT = 100, 20, 12
_PLACEHOLDERS = ("i", "j")


def _pairs(limit: int, result: Callable[[int, int], int]) -> Callable[[int, Path | None], Splits[Row]]:
    def read(seed: int, data: Path | None) -> Splits[Row]:
        pairs = ((i, j) for i in range(limit) for j in range(limit))
        return split_rows([Row({"i": str(i), "j": str(j)}, f" {result(i, j)}") for i, j in pairs], seed)

    return read


INT_SUM = TaskSpec(
    "int-sum",
    f"Sums of two integers below {SUM_LIMIT}",
    "{i} + {j} =",
    placeholders=_PLACEHOLDERS,
    read=_pairs(SUM_LIMIT, int.__add__),
)
INT_MULT = TaskSpec(
    "int-mult",
    f"Products of two integers below {MULT_LIMIT}",
    "{i} x {j} =",
    placeholders=_PLACEHOLDERS,
    read=_pairs(MULT_LIMIT, int.__mul__),
)
INT_MULT_12 = TaskSpec(
    "int-mult-12",
    f"Products of two integers below {SMALL_LIMIT}, with an asterisk",
    "{i} * {j} =",
    placeholders=_PLACEHOLDERS,
    read=_pairs(SMALL_LIMIT, int.__mul__),
)
