"""`cache info`, `cache clear`, `cache verify`: the decompositions kept on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from explorer.cli import options
from explorer.cli.console import say, show_json, working
from explorer.cli.reports import CacheReport, keys

if TYPE_CHECKING:
    from explorer.svd_store import SvdStore

cache_app = typer.Typer(help="The decompositions kept on disk: how much there is, check them, remove them.")


@cache_app.command("info", epilog=keys(CacheReport))
def cache_info(json: options.Json = False) -> None:
    """Say where decompositions are kept, how many, and how much room they take and may take.

    Example: `eigenprune cache info`
    """
    _report(_store(), 0, json=json)


@cache_app.command("clear", epilog=keys(CacheReport))
def cache_clear(json: options.Json = False) -> None:
    """Remove all kept decompositions; they are computed again when needed.

    Example: `eigenprune cache clear`
    """
    store = _store()
    _report(store, store.clear().entries, json=json)


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


def _report(store: SvdStore, removed: int, *, json: bool) -> None:
    info = store.info()
    report: CacheReport = {
        "folder": str(info.folder),
        "entries": info.entries,
        "bytes": info.bytes,
        "limit": info.limit,
        "removed": removed,
    }
    if json:
        return show_json(report)
    room = f"{info.bytes / 1e6:,.1f} MB of at most {info.limit / 1e9:g} GB"
    say(f"{info.entries:,} decompositions, {room}, in {info.folder}")
    if removed:
        say(f"{removed:,} removed")
