"""INT-SUM and INT-MULT as published: every ordered pair of integers below a limit, one operation."""

from __future__ import annotations

from collections.abc import Callable

from explorer.tasks.base import Example, Task, split_examples

SUM_LIMIT, MULT_LIMIT = 100, 20


def int_sum(seed: int) -> Task:
    """INT-SUM: `{i} + {j} =` with i, j < 100; 10,000 pairs."""
    return _pairs("int-sum", f"Sums of two integers below {SUM_LIMIT}", SUM_LIMIT, "+", int.__add__, seed)


def int_mult(seed: int) -> Task:
    """INT-MULT: `{i} x {j} =` with i, j < 20; 400 pairs."""
    return _pairs("int-mult", f"Products of two integers below {MULT_LIMIT}", MULT_LIMIT, "x", int.__mul__, seed)


def _pairs(name: str, description: str, limit: int, sign: str, result: Callable[[int, int], int], seed: int) -> Task:
    examples = [Example(f"{i} {sign} {j} =", f" {result(i, j)}") for i in range(limit) for j in range(limit)]
    train, validation, test = split_examples(examples, seed)
    return Task(name, description, train, validation, test, seed)
