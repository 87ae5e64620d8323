"""Decompositions on disk, found by the content of the model; the only file that knows where they are kept.

A decomposition is found by its owner (`Model.matrices_identity`: the content of all weights, their types and shapes,
the basis and the heads) and the name of its matrix, never by a model's name, so a fine-tuned model cannot pick up
another's singular values.
Many are kept in one file (`explorer.spectra.pack`), because opening files would otherwise dominate. A file appears
whole or not at all; the least recently used ones go when the folder grows beyond its limit. Several processes may share
a folder. Decompositions are mapped: their memory is the system's file cache, for as long as somebody holds them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from explorer.core.files import digest, replacing
from explorer.core.progress import Progress, track
from explorer.spectra import pack as svd_pack
from explorer.spectra.narrow import Kept
from explorer.spectra.pack import FORMAT, Damaged, NamedStack, Part

SUFFIX = ".safetensors"
LEFTOVER_AGE = 3600.0  # seconds after which a temporary file belongs to no running process


@dataclass(frozen=True)
class StoreInfo:
    """What a folder of decompositions holds; `entries` counts decompositions."""

    folder: Path
    entries: int
    bytes: int
    limit: int


class SvdStore:
    """A folder of decompositions.

    Args:
        folder: made when the first file is saved.
        limit: bytes that the files may take; the least recently used go first.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._unchecked = limit  # the first save looks at the whole folder
        self._lock = threading.Lock()
        self._opened: set[str] = set()
        self._index: dict[str, dict[str, Part]] = {}

    def find(self, owner: str, names: Sequence[str]) -> tuple[dict[str, Kept], bool]:
        """The saved decompositions of `names`, with all that were checked together with them.

        Returns:
            Name -> decomposition; and whether a damaged file had to be given up on the way.
        """
        with self._lock:
            index = self._index.setdefault(owner, {})
            damaged = not all(name in index for name in names) and self._look(owner, index)
            parts = dict.fromkeys(index[name] for name in names if name in index)
        found: dict[str, Kept] = {}
        for part in parts:
            try:
                found.update(zip(part.names, part.decompositions(), strict=True))
            except Damaged:
                damaged |= part.path.exists()  # else evicted by another process meanwhile
                self._remove(part.path)
        for path in {part.path for part in parts}:
            with suppress(OSError):  # evicted, or a read-only folder, which serves its files as well
                os.utime(path)  # used now: others are evicted before it
        return found, damaged

    def known(self, owner: str, names: Sequence[str]) -> set[str]:
        """Those of `names` that the files' headers list; whether their values are whole shows when they are read."""
        with self._lock:
            index = self._index.setdefault(owner, {})
            if not all(name in index for name in names):
                self._look(owner, index)
            return {name for name in names if name in index}

    def save(self, owner: str, stacks: Sequence[NamedStack]) -> None:
        """Keep decompositions in one file; raises OSError or SafetensorError if the folder cannot be written."""
        content = digest(svd_pack.checksum(owner, one).encode() for one in stacks)
        path = self.folder / f"{_prefix(owner)}{content.removeprefix('sha256:')[:16]}{SUFFIX}"
        with replacing(path) as temporary:
            svd_pack.write(temporary, owner, stacks)
        with self._lock:
            self._opened.discard(path.name)  # there may have been a damaged one of that name
        self._unchecked += sum(one.stack.nbytes for one in stacks)
        if self._unchecked > self.limit // 20:
            self.evict()

    def evict(self) -> int:
        """Remove the least recently used files beyond the limit, and left-over temporary ones; how many files."""
        self._unchecked = 0
        try:
            with FileLock(self.folder.parent / f".{self.folder.name}.lock", timeout=0):
                self._sweep()
                return self._shrink()
        except Timeout:  # another process is at it
            return 0

    def info(self) -> StoreInfo:
        """Number of decompositions, and size of the files."""
        files = self._files()
        count = sum(len(svd_pack.names(path)) for path, _, _ in files)
        return StoreInfo(self.folder, count, sum(size for _, size, _ in files), limit=self.limit)

    def clear(self) -> StoreInfo:
        """Remove all decompositions; what they were."""
        before = self.info()
        for path, _, _ in self._files():
            self._remove(path)
        return before

    def verify(self, progress: Progress | None = None) -> int:
        """Read every file from beginning to end, remove the damaged and outdated ones; how many files those were."""
        damaged = 0
        for path, _, _ in track(self._files(), progress):
            try:
                for part in svd_pack.read(path):
                    part.decompositions()
            except Damaged:
                self._remove(path)
                damaged += 1
        return damaged

    def _look(self, owner: str, index: dict[str, Part]) -> bool:
        """Open the owner's files that were not open yet; whether there was a damaged one. Holds the lock."""
        damaged = False
        for path in _listed(self.folder, _prefix(owner)):
            if path.name in self._opened:
                continue
            try:
                parts = [part for part in svd_pack.read(path) if part.owner == owner]
            except Damaged:
                damaged = path.exists()  # else evicted by another process meanwhile
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                continue
            self._opened.add(path.name)
            index.update({name: part for part in parts for name in part.names})
        return damaged

    def _remove(self, path: Path) -> None:
        """Delete a file, if the folder allows it, and forget what it held."""
        with suppress(OSError):
            path.unlink(missing_ok=True)
        with self._lock:
            self._opened.discard(path.name)
            for index in self._index.values():
                for name in [name for name, part in index.items() if part.path.name == path.name]:
                    del index[name]

    def _shrink(self) -> int:
        files = sorted(self._files(), key=lambda file: file[2])
        total, removed = sum(size for _, size, _ in files), 0
        for path, size, _ in files:
            if total <= self.limit:
                break
            self._remove(path)
            total, removed = total - size, removed + 1
        return removed

    def _sweep(self) -> None:
        for path in self.folder.glob(f".*{SUFFIX}.*.tmp"):
            try:
                if time.time() - path.stat().st_mtime > LEFTOVER_AGE:
                    path.unlink(missing_ok=True)
            except FileNotFoundError:
                continue

    def _files(self) -> list[tuple[Path, int, float]]:
        """Path, size and time of last use of every file."""
        found = []
        for path in _listed(self.folder, ""):
            try:
                status = path.stat()
            except FileNotFoundError:  # evicted by another process meanwhile
                continue
            found.append((path, status.st_size, status.st_mtime))
        return found


def _prefix(owner: str) -> str:
    return digest([f"{FORMAT} {owner}".encode()]).removeprefix("sha256:")[:40] + "-"


def _listed(folder: Path, prefix: str) -> list[Path]:
    try:
        return sorted(path for path in folder.glob(f"{prefix}*{SUFFIX}") if not path.name.startswith("."))
    except OSError:  # a folder that may not be searched
        return []
