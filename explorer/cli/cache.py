"""`cache info`, `cache clear`, `cache verify`: the decompositions and measured effects kept on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from explorer.cli import options
from explorer.cli.console import notice, say, show_json, working
from explorer.cli.reports import CacheReport, keys

if TYPE_CHECKING:
    from explorer.effect_store import EffectStore
    from explorer.svd_store import SvdStore

cache_app = typer.Typer(help="Decompositions and measured effects kept on disk: how much there is, check, remove.")


@cache_app.command("info", epilog=keys(CacheReport))
def cache_info(json: options.Json = False) -> None:
    """Say where decompositions and exact effects are kept, how many, and how much room they take and may take.

    Example: `eigenprune cache info`
    """
    _report(_store(), 0, json=json)


@cache_app.command("clear", epilog=keys(CacheReport))
def cache_clear(json: options.Json = False) -> None:
    """Remove all kept decompositions and exact effects; they are computed again when needed.

    Example: `eigenprune cache clear`
    """
    store = _store()
    _report(store, store.clear().entries, _effects().clear(), json=json)


@cache_app.command("verify", epilog=keys(CacheReport))
def cache_verify(json: options.Json = False) -> None:
    """Check every kept decomposition against its checksum and remove the damaged ones.

    Example: `eigenprune cache verify`
    """
    store = _store()
    with working("Verifying") as progress:
        removed = store.verify(progress)
    _report(store, removed, json=json)


def _store() -> SvdStore:
    from explorer.svd_cache import default_store

    return default_store()


def _effects() -> EffectStore:
    from explorer.effect_store import default_effects

    return default_effects(notice)


def _report(store: SvdStore, removed: int, effects_removed: int = 0, *, json: bool) -> None:
    info, effects = store.info(), _effects().info()
    report: CacheReport = {
        "folder": str(info.folder),
        "entries": info.entries,
        "bytes": info.bytes,
        "limit": info.limit,
        "removed": removed,
        "effects": effects.entries,
        "effects_bytes": effects.bytes,
        "effects_limit": effects.limit,
        "effects_removed": effects_removed,
    }
    if json:
        return show_json(report)
    say(f"{info.entries:,} decompositions, {_room(info.bytes, info.limit)}, in {info.folder}")
    say(f"{effects.entries:,} exact effects, {_room(effects.bytes, effects.limit)}, in {_effects().path}")
    if removed or effects_removed:
        say(f"{removed:,} decompositions and {effects_removed:,} effects removed")


def _room(taken: int, limit: int) -> str:
    return f"{taken / 1e6:,.1f} MB of at most {limit / 1e9:g} GB"
