"""`attention` for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explorer.actions.attention import AttentionResult, SplitAttention
from explorer.cli.console import say, show_table
from explorer.core.texts import percent
from explorer.masks.gain import state_of


def show(request: SplitAttention, result: AttentionResult) -> None:
    """Print who looks where, the pairs behind it, and the pairs behind what is moved."""
    tokens = [repr(text) for text in result.tokens]
    say(f"{result.model}, {len(tokens)} tokens: {' · '.join(tokens)}")
    if result.gain is not None:
        say(f"Mask: {result.removed:,} {state_of(result.gain)} ({result.mode})")
    at = {one["position"]: one for one in result.seen}[result.key]
    say(
        f"{result.head} looks from {tokens[result.query]} ({result.query}) to {tokens[result.key]} ({result.key}): "
        f"score {at['score']:+.4f}, attention {percent(at['attention'])}"
    )
    rows = [
        (one["position"], tokens[one["position"]], f"{one['score']:+.4f}", percent(one["attention"]))
        for one in sorted(result.seen, key=lambda one: -one["attention"])[: request.top]
    ]
    if rows:
        show_table("What it sees from there, most attention first", ("position", "token", "score", "attention"), rows)
    _show_split("Score", result.score, request.top)
    say(f"What it moves from there has length {result.length:.4g}; below, along {result.toward}.")
    _show_split("Moved", result.moved, request.top)


def _show_split(name: str, split: Mapping[str, Any], top: int) -> None:
    pairs = [
        (first, second, here, elsewhere)
        for first, cells, others in zip(split["first_terms"], split["here"], split["elsewhere"], strict=True)
        for second, here, elsewhere in zip(split["second_terms"], cells, others, strict=True)
    ]
    pairs.sort(key=lambda one: -abs(one[2] - one[3]))
    shown, rest = pairs[:top], pairs[top:]
    rows = [(first, second, *_cells(here, elsewhere)) for first, second, here, elsewhere in shown]
    if rest:
        rows.append((f"{len(rest):,} others", "", *_cells(sum(one[2] for one in rest), sum(one[3] for one in rest))))
    rows += [(one["name"], "", *_cells(one["here"], one["elsewhere"])) for one in split["further"]]
    rows.append(("the model's own", "", *_cells(split["own"], split["own_elsewhere"])))
    columns = (split["first"], split["second"], "adds", "at other keys", "apart")
    show_table(f"{name}, by pairs of directions, furthest apart from other keys first", columns, rows)


def _cells(here: float, elsewhere: float) -> tuple[str, str, str]:
    return f"{here:+.4f}", f"{elsewhere:+.4f}", f"{here - elsewhere:+.4f}"
