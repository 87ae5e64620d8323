"""`finetune` for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explorer.actions.finetune import Finetune, FinetuneResult
from explorer.cli.console import model_name, say, show_figures


def show(request: Finetune, result: FinetuneResult) -> None:
    """Print both models' figures."""
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for split in result.before:
        rows += [(f"before, {split}", result.before[split]), (f"after, {split}", result.after[split])]
    show_figures(f"{model_name(result.model)} on {result.task}: {result.steps:,} steps of {result.optimizer}", rows)
    for split, change in result.change.items():
        test, (low, high) = change["accuracy_test"], change["loss"]["interval"]
        say(
            f"{split}: wrong to right {test['repaired']:,}, right to wrong {test['broken']:,}, McNemar "
            f"p = {test['p']:.2g}; loss {change['loss']['value']:+.3f} nats, 95 % bootstrap interval "
            f"[{low:+.3f}, {high:+.3f}]"
        )
    say(f"Model: {result.out}")
