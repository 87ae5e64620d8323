"""`activations` for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from explorer.actions.activations import ActivationsResult, ReadActivations
from explorer.cli.console import say, show_table
from explorer.core.texts import percent
from explorer.masks.gain import state_of

ACROSS = 8  # columns of numbers that fit into a terminal


def show(request: ReadActivations, result: ActivationsResult) -> None:
    """Print a result."""
    report, values = result.as_dict(), request.values
    state = None if result.gain is None else state_of(result.gain)
    tokens = [repr(one["text"]) for one in report["tokens"]]
    say(f"{report['model']}, {len(tokens)} tokens: {' · '.join(tokens)}")
    if state is not None:
        say(f"Mask: {report['removed']:,} {state} ({report['mode']})")
    _show_next(report, masked=state is not None)
    _show_lens(report["lens"][0], masked=state is not None)
    for one in report["attention"]:
        _show_pattern(one, tokens, masked=state is not None)
    if state is None:
        return
    _show_residual(report, tokens)
    moved = [[percent(share) for share in layer] for layer in report["head_changes"]]
    _show_grid(
        "Attention moved to other tokens",
        "layer",
        [f"L{layer}" for layer in range(len(moved))],
        columns=[f"head {head}" for head in range(len(moved[0]))],
        cells=moved,
    )
    _show_written(report["written"][:values], tokens)
    if (more := len(report["written"]) - values) > 0:
        say(f"{more:,} more of the mask's values not shown; see --values.")


def _show_next(report: Mapping[str, Any], *, masked: bool) -> None:
    sides = [report["next"]["baseline"], *([report["next"]["masked"]] if masked else [])]
    cells = [[(repr(one["text"]), percent(one["probability"])) for one in side] for side in sides]
    columns = ("unpruned", "probability", *(("with the mask", "probability") if masked else ()))
    show_table("Most likely next tokens", columns, [sum(row, ()) for row in zip(*cells, strict=True)])


def _show_lens(one: Mapping[str, Any], *, masked: bool) -> None:
    sides = [one["baseline"], *([one["masked"]] if masked else [])]
    rows = [
        (name, *(percent(math.exp(value)) for value in row))
        for name, row in zip(_entries(len(sides[0])), zip(*sides, strict=True), strict=True)
    ]
    columns = ("after", "unpruned", *(("with the mask",) if masked else ()))
    show_table(f"Logit lens: probability of {one['text']!r}", columns, rows)


def _entries(count: int) -> list[str]:
    """Names of the residual stream's entries."""
    return ["embedding", *(f"L{layer}" for layer in range(count - 1))]


def _show_residual(report: Mapping[str, Any], tokens: Sequence[str]) -> None:
    first = report["first_changed_layer"]
    if first is None:
        say("The residual stream is unchanged.")
        return
    changes = [[percent(share) for share in entry] for entry in report["residual_change"]]
    rows = _entries(len(changes))
    _show_grid("Change of the residual stream, of its norm before", "after", rows, columns=tokens, cells=changes)
    say(f"The first block whose output differs is layer {first}.")


def _show_pattern(one: Mapping[str, Any], tokens: Sequence[str], *, masked: bool) -> None:
    """For every query the key that it attends to most."""
    sides = [one["baseline"], *([one["masked"]] if masked else [])]
    rows = []
    for query, token in enumerate(tokens):
        row = [token]
        for side in sides:
            share = max(side[query])
            row += [tokens[side[query].index(share)], percent(share)]
        rows.append(row)
    columns = ("query", "unpruned, most to", "share", *(("with the mask, most to", "share") if masked else ()))
    show_table(f"Attention of L{one['layer']} head {one['head']}", columns, rows)


def _show_written(values: Sequence[Mapping[str, Any]], tokens: Sequence[str]) -> None:
    for one in values:
        rows = list(zip(tokens, one["baseline"], one["masked"], strict=True))
        title = f"Written by {one['matrix']} value {one['index']}"
        show_table(title, ("token", "(x · u) s, unpruned", "with the mask"), rows)


def _show_grid(
    title: str, corner: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[str]]
) -> None:
    """A table of many columns, in as many pieces as a terminal needs."""
    for start in range(0, len(columns), ACROSS):
        piece = slice(start, start + ACROSS)
        body = [(name, *row[piece]) for name, row in zip(rows, cells, strict=True)]
        show_table(title if start == 0 else f"{title}, continued", (corner, *columns[piece]), body)
