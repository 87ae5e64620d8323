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
    room = _room(result.contexts_bytes, result.contexts_limit)
    say(f"{result.contexts:,} passes over texts, {room}, in {result.contexts_path}")
    gone = {
        "decompositions": result.removed,
        "effects": result.effects_removed,
        "searches": result.searches_removed,
        "passes over texts": result.contexts_removed,
        "merged models": result.merged_removed,
    }
    if any(gone.values()):
        *first, last = (f"{count:,} {what}" for what, count in gone.items())
        say(f"{', '.join(first)} and {last} removed")


def _room(taken: int, limit: int) -> str:
    return f"{taken / 1e6:,.1f} MB of at most {limit / 1e9:g} GB"
