"""`interactions` for people."""

from __future__ import annotations

from explorer.actions.interactions import InteractionsResult, MeasureInteractions
from explorer.cli.console import say, show_table
from explorer.core.texts import loss_text


def show(request: MeasureInteractions, result: InteractionsResult) -> None:
    """Print single effects and shares, the pairs that add up least, the best order, and what is linked."""
    names = [f"{one.matrix} {one.index}" for one in result.values]
    rows = [
        (
            name,
            loss_text(one.effect, one.stderr, signed=True),
            f"{one.share:+.3f} nats"
            if one.share_stderr is None
            else loss_text(one.share, one.share_stderr, signed=True),
        )
        for name, one in zip(names, result.values, strict=True)
    ]
    show_table(f"Removed alone, and its share ({result.mode})", ("value", "alone", "Shapley value"), rows)
    value, stderr = result.together
    total = sum(one.effect for one in result.values)
    say(
        f"All {len(names)} together: {loss_text(value, stderr, signed=True)}; their single effects add up to "
        f"{total:+.3f} nats ({result.n:,} {result.split} examples of {result.task}, {result.masks:,} masks measured)."
    )
    far = sorted(result.pairs, key=lambda one: -abs(one.interaction))[: request.top]
    rows = [
        (
            f"{names[one.first]}, {names[one.second]}",
            f"{one.effect:+.3f} nats",
            loss_text(one.interaction, one.stderr, signed=True),
        )
        for one in far
    ]
    if rows:
        show_table("Pairs, furthest from the sum first", ("pair", "together", "beyond the sum"), rows)
    rows = [
        (f"{place}", names[one.value], loss_text(one.effect, one.stderr, signed=True))
        for place, one in enumerate(result.greedy, start=1)
    ]
    show_table("The order in which removing helps most", ("step", "value", "effect so far"), rows)
    for cluster in result.clusters:
        say(f"These go together: {', '.join(names[i] for i in cluster)}.")
