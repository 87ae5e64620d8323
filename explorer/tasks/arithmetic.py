"""INT-SUM and INT-MULT as published, and a small INT-MULT: every ordered pair of integers below a limit.

Commuted pairs are twins: they share their answer, so by default they share their split.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from explorer.tasks.cases import Splits
from explorer.tasks.spec import Cut, Row, TaskSpec

SUM_LIMIT, MULT_LIMIT, SMALL_LIMIT = 100, 20, 12
_PLACEHOLDERS = ("i", "j")
_SUM = ("{i} plus {j} is", "{i}+{j}=", "The sum of {i} and {j} is")
_SUM_UNSEEN = ("Q: What is {i} + {j}?\nA:", "If you add {i} and {j}, you get")
_TIMES = ("{i} times {j} is", "The product of {i} and {j} is")
_TIMES_UNSEEN = ("Q: What is {i} times {j}?\nA:", "If you multiply {i} by {j}, you get")


def _pairs(limit: int, sign: str, result: Callable[[int, int], int]) -> Callable[[Cut, Path | None], Splits[Row]]:
    def row(i: int, j: int) -> Row:
        low, high = sorted((i, j))
        return Row(
            {"i": str(i), "j": str(j)}, f" {result(i, j)}", item=f"{i} {sign} {j}", twins=f"{low} {sign} {high}",
            operands=(str(i), str(j)),
        )  # fmt: skip

    def read(cut: Cut, data: Path | None) -> Splits[Row]:
        return cut.rows([row(i, j) for i in range(limit) for j in range(limit)])

    return read


INT_SUM = TaskSpec(
    "int-sum",
    f"Sums of two integers below {SUM_LIMIT}",
    "{i} + {j} =",
    placeholders=_PLACEHOLDERS,
    read=_pairs(SUM_LIMIT, "+", int.__add__),
    wordings=_SUM,
    unseen=_SUM_UNSEEN,
    symmetric=True,
)
INT_MULT = TaskSpec(
    "int-mult",
    f"Products of two integers below {MULT_LIMIT}",
    "{i} x {j} =",
    placeholders=_PLACEHOLDERS,
    read=_pairs(MULT_LIMIT, "*", int.__mul__),
    wordings=("{i} * {j} =", *_TIMES),
    unseen=_TIMES_UNSEEN,
    symmetric=True,
)
INT_MULT_12 = TaskSpec(
    "int-mult-12",
    f"Products of two integers below {SMALL_LIMIT}, with an asterisk",
    "{i} * {j} =",
    placeholders=_PLACEHOLDERS,
    read=_pairs(SMALL_LIMIT, "*", int.__mul__),
    wordings=("{i} x {j} =", *_TIMES),
    unseen=_TIMES_UNSEEN,
    symmetric=True,
)
