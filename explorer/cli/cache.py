"""The `cache` commands for people."""

from __future__ import annotations

from explorer.actions.cache import CacheResult
from explorer.actions.request import Request
from explorer.cli.console import say


def show(request: Request, result: CacheResult) -> None:
    """Print what is kept, and what was removed."""
    say(f"{result.entries:,} decompositions, {_room(result.bytes, result.limit)}, in {result.folder}")
    room = _room(result.effects_bytes, result.effects_limit)
    say(f"{result.effects:,} exact effects, {room}, in {result.effects_path}")
    room = _room(result.searches_bytes, result.searches_limit)
    say(f"{result.searches:,} searches, {room}, in {result.searches_path}")
    room = _room(result.merged_bytes, result.merged_limit)
    say(f"{result.merged:,} models with a merged adapter, {room}, in {result.merged_path}")
    if result.removed or result.effects_removed or result.searches_removed or result.merged_removed:
        say(
            f"{result.removed:,} decompositions, {result.effects_removed:,} effects, "
            f"{result.searches_removed:,} searches and {result.merged_removed:,} merged models removed"
        )


def _room(taken: int, limit: int) -> str:
    return f"{taken / 1e6:,.1f} MB of at most {limit / 1e9:g} GB"
