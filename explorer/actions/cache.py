"""`cache info`, `cache clear`, `cache verify`: decompositions, measured effects, searches and contexts on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from explorer.actions.request import ALONE, Request, Result, Tools
from explorer.core.config import settings


@dataclass(frozen=True, kw_only=True)
class CacheResult(Result):
    """What is kept, in bytes of at most so many; `removed` counts decompositions (clear) or damaged files (verify).

    `merged` counts models with an adapter merged into them.
    """

    folder: str
    entries: int
    bytes: int
    limit: int
    removed: int = 0
    effects: int
    effects_bytes: int
    effects_limit: int
    effects_removed: int = 0
    searches: int
    searches_bytes: int
    searches_limit: int
    searches_removed: int = 0
    merged: int
    merged_bytes: int
    merged_limit: int
    merged_removed: int = 0
    contexts: int
    contexts_bytes: int
    contexts_limit: int
    contexts_removed: int = 0

    @property
    def effects_path(self) -> Path:
        """The file of exact effects."""
        from explorer.attribution.effect_store import NAME

        return settings().cache_dir / NAME

    @property
    def searches_path(self) -> Path:
        """The file of searches."""
        from explorer.search.journal import NAME

        return settings().cache_dir / NAME

    @property
    def merged_path(self) -> Path:
        """The folder of merged models."""
        return _models()

    @property
    def contexts_path(self) -> Path:
        """The folder of contexts."""
        from explorer.measure.context_store import NAME

        return settings().cache_dir / NAME


@dataclass(frozen=True, kw_only=True)
class CacheInfo(Request):
    """Say where decompositions, exact effects, searches, contexts and merged models are kept, and what room they take.

    Example: `eigenprune cache info`
    """

    command: ClassVar[str] = "cache info"

    def run(self, tools: Tools = ALONE) -> CacheResult:
        """Count."""
        return _kept(tools)


@dataclass(frozen=True, kw_only=True)
class ClearCache(Request):
    """Remove all kept decompositions, exact effects, searches, contexts and merged models; they are made again.

    Example: `eigenprune cache clear`
    """

    command: ClassVar[str] = "cache clear"

    def run(self, tools: Tools = ALONE) -> CacheResult:
        """Remove."""
        from explorer.attribution.effect_store import default_effects
        from explorer.measure.context_store import default_contexts
        from explorer.models.adapters import remove_unused
        from explorer.search.journal import default_journals
        from explorer.spectra.cache import default_store

        return _kept(
            tools,
            removed=default_store().clear().entries,
            effects_removed=default_effects(tools.notice).clear(),
            searches_removed=default_journals(tools.notice).clear(),
            merged_removed=remove_unused(_models(), 0, seconds=0.0),
            contexts_removed=default_contexts(tools.notice).clear(),
        )


@dataclass(frozen=True, kw_only=True)
class VerifyCache(Request):
    """Check every kept decomposition against its checksum and remove the damaged ones.

    Example: `eigenprune cache verify`
    """

    command: ClassVar[str] = "cache verify"

    def run(self, tools: Tools = ALONE) -> CacheResult:
        """Check."""
        from explorer.spectra.cache import default_store

        with tools.working("Verifying") as progress:
            removed = default_store().verify(progress)
        return _kept(tools, removed=removed)


def _models() -> Path:
    return settings().cache_dir / "models"


def _kept(tools: Tools, **removed: int) -> CacheResult:
    """What is kept now; `removed` are fields of the result, 0 if not given."""
    from explorer.attribution.effect_store import default_effects
    from explorer.measure.context_store import default_contexts
    from explorer.models.adapters import merged_folders
    from explorer.search.journal import default_journals
    from explorer.spectra.cache import default_store

    merged = merged_folders(_models())
    info = default_store().info()
    effects, searches = default_effects(tools.notice).info(), default_journals(tools.notice).info()
    contexts = default_contexts(tools.notice).info()
    return CacheResult(
        folder=str(info.folder),
        entries=info.entries,
        bytes=info.bytes,
        limit=info.limit,
        effects=effects.entries,
        effects_bytes=effects.bytes,
        effects_limit=effects.limit,
        searches=searches.searches,
        searches_bytes=searches.bytes,
        searches_limit=searches.limit,
        merged=len(merged),
        merged_bytes=sum(one.bytes for one in merged),
        merged_limit=settings().cache_bytes,
        contexts=contexts.entries,
        contexts_bytes=contexts.bytes,
        contexts_limit=contexts.limit,
        **removed,
    )
