"""Decompositions on disk, found by the content of the weight; the only file that knows how they are stored.

The key is a digest of bytes, shape, type, SVD settings and format version, never a model's name, so a fine-tuned model
cannot pick up another's singular values. Entries appear whole or not at all, each with a checksum; the least recently
used ones go when the folder grows beyond its limit. Several processes may share a folder.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from explorer.files import digest, replacing
from explorer.progress import Progress, track
from explorer.svd import Decomposition
from explorer.tensors import tensor_bytes

FORMAT = "svd-1"
SUFFIX = ".safetensors"
LEFTOVER_AGE = 3600.0  # seconds after which a temporary file belongs to no running process
_NAMES = ("u", "s", "vh")


@dataclass(frozen=True)
class StoreInfo:
    """What a folder of decompositions holds."""

    folder: Path
    entries: int
    bytes: int
    limit: int


class Damaged(Exception):
    """An entry that is not what was once saved."""


class SvdStore:
    """A folder of decompositions.

    Args:
        folder: made when the first entry is saved.
        limit: bytes that the entries may take; the least recently used go first.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._unchecked = limit  # the first save looks at the whole folder

    def load(self, W: Tensor) -> Decomposition | None:
        """The saved decomposition of W, None if there is none.

        Raises:
            Damaged: the entry's checksum or format is wrong.
        """
        path = self._path(W)
        if not _exists(path):
            return None
        found = _read(path)
        with suppress(OSError):  # a read-only folder serves its entries as well
            os.utime(path)  # used now: others are evicted before it
        return found

    def save(self, W: Tensor, decomposition: Decomposition) -> None:
        """Keep the decomposition of W; raises OSError or SafetensorError if the folder cannot be written."""
        tensors = {name: getattr(decomposition, name) for name in _NAMES}
        with replacing(self._path(W)) as temporary:
            save_file(tensors, temporary, metadata={"format": FORMAT, "checksum": _checksum(tensors)})
        self._unchecked += sum(tensor.nbytes for tensor in tensors.values())
        if self._unchecked > self.limit // 20:
            self.evict()

    def evict(self) -> int:
        """Remove the least recently used entries beyond the limit, and left-over temporary files; how many entries."""
        self._unchecked = 0
        try:
            with FileLock(self.folder.parent / f".{self.folder.name}.lock", timeout=0):
                self._sweep()
                return self._shrink()
        except Timeout:  # another process is at it
            return 0

    def info(self) -> StoreInfo:
        """Number and size of the entries."""
        sizes = [size for _, size, _ in self._entries()]
        return StoreInfo(self.folder, len(sizes), sum(sizes), self.limit)

    def clear(self) -> StoreInfo:
        """Remove all entries; what they were."""
        before = self.info()
        for path, _, _ in self._entries():
            path.unlink(missing_ok=True)
        return before

    def verify(self, progress: Progress | None = None) -> int:
        """Read every entry, remove the damaged ones; how many those were."""
        damaged = 0
        for path, _, _ in track(self._entries(), progress):
            try:
                _read(path)
            except Damaged:
                path.unlink(missing_ok=True)
                damaged += 1
        return damaged

    def _shrink(self) -> int:
        entries = sorted(self._entries(), key=lambda entry: entry[2])
        total, removed = sum(size for _, size, _ in entries), 0
        for path, size, _ in entries:
            if total <= self.limit:
                break
            path.unlink(missing_ok=True)
            total, removed = total - size, removed + 1
        return removed

    def _sweep(self) -> None:
        for path in self.folder.glob(f".*{SUFFIX}.*.tmp"):
            try:
                if time.time() - path.stat().st_mtime > LEFTOVER_AGE:
                    path.unlink(missing_ok=True)
            except FileNotFoundError:
                continue

    def _entries(self) -> list[tuple[Path, int, float]]:
        """Path, size and time of last use of every entry."""
        found = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            try:
                status = path.stat()
            except FileNotFoundError:  # evicted by another process meanwhile
                continue
            if not path.name.startswith("."):
                found.append((path, status.st_size, status.st_mtime))
        return found

    def _path(self, W: Tensor) -> Path:
        header = f"{FORMAT} {tuple(W.shape)} {W.dtype};".encode()
        return self.folder / (digest([header, tensor_bytes(W)]).removeprefix("sha256:") + SUFFIX)


def _checksum(tensors: dict[str, Tensor]) -> str:
    header = "".join(f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype};" for name in _NAMES)
    return digest([header.encode(), *(tensor_bytes(tensors[name]) for name in _NAMES)])


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that may not be searched
        return False


def _read(path: Path) -> Decomposition:
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in _NAMES}
    except (SafetensorError, OSError) as error:
        raise Damaged(path.name) from error
    if metadata.get("format") != FORMAT or metadata.get("checksum") != _checksum(tensors):
        raise Damaged(path.name)
    return Decomposition(**tensors)
