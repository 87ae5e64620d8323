"""The options of `search` that belong to one strategy."""

from __future__ import annotations

from typing import Annotated

import typer

PerKind = Annotated[
    bool, typer.Option("--per-kind", help="paper: take the same share of every kind, not the lowest of all kinds.")
]
Base = Annotated[str | None, typer.Option("--base", help="ensemble: the strategy whose masks it combines; paper.")]
Members = Annotated[int | None, typer.Option("--members", min=2, help="ensemble: how many searches; 5.")]
Over = Annotated[
    str | None,
    typer.Option(
        "--over",
        help="ensemble: what its searches differ in: splits (halves of the train split), seeds, or other tasks with "
        "commas between, each beside --task; splits.",
    ),
]
AtLeast = Annotated[
    int | None,
    typer.Option(
        "--at-least",
        min=1,
        help="ensemble: how many of the masks must remove a value, 1 for the union; every number is tried.",
    ),
]
