"""`cache info`, `cache clear`, `cache verify`: the decompositions, measured effects and searches kept on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from explorer.cli import options
from explorer.cli.console import notice, say, show_json, working
from explorer.cli.reports import CacheReport, keys

if TYPE_CHECKING:
    from explorer.attribution.effect_store import EffectStore
    from explorer.search.journal import JournalFile
    from explorer.spectra.store import SvdStore

cache_app = typer.Typer(
    help="Decompositions, measured effects and searches kept on disk: how much there is, check, remove."
)


@cache_app.command("info", epilog=keys(CacheReport))
def cache_info(json: options.Json = False) -> None:
    """Say where decompositions, exact effects and searches are kept, how many, and what room they take and may take.

    Example: `eigenprune cache info`
    """
    _report(_store(), 0, json=json)


@cache_app.command("clear", epilog=keys(CacheReport))
def cache_clear(json: options.Json = False) -> None:
    """Remove all kept decompositions, exact effects and searches; they are computed again when needed.

    Example: `eigenprune cache clear`
    """
    store = _store()
    _report(store, store.clear().entries, _effects().clear(), _searches().clear(), json=json)


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
    from explorer.spectra.cache import default_store

    return default_store()


def _effects() -> EffectStore:
    from explorer.attribution.effect_store import default_effects

    return default_effects(notice)


def _searches() -> JournalFile:
    from explorer.search.journal import default_journals

    return default_journals(notice)


def _report(store: SvdStore, removed: int, effects_removed: int = 0, searches_removed: int = 0, *, json: bool) -> None:
    info, effects, searches = store.info(), _effects().info(), _searches().info()
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
        "searches": searches.searches,
        "searches_bytes": searches.bytes,
        "searches_limit": searches.limit,
        "searches_removed": searches_removed,
    }
    if json:
        return show_json(report)
    say(f"{info.entries:,} decompositions, {_room(info.bytes, info.limit)}, in {info.folder}")
    say(f"{effects.entries:,} exact effects, {_room(effects.bytes, effects.limit)}, in {_effects().path}")
    say(f"{searches.searches:,} searches, {_room(searches.bytes, searches.limit)}, in {_searches().path}")
    if removed or effects_removed or searches_removed:
        say(f"{removed:,} decompositions, {effects_removed:,} effects and {searches_removed:,} searches removed")


def _room(taken: int, limit: int) -> str:
    return f"{taken / 1e6:,.1f} MB of at most {limit / 1e9:g} GB"
