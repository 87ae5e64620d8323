"""Contexts on disk: one pass over a corpus serves every direction of its matrices for good.

One safetensors file per pass, named by a digest of all that it depends on: the code and the libraries, the model as it
is loaded, the corpus' tokens, the matrices. It appears whole or not at all, and its metadata holds a checksum per
matrix, so that of a large file only what is asked for is read and checked. The files used longest ago go when the
folder grows beyond its limit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from explorer.core.config import settings
from explorer.core.files import digest, replacing
from explorer.core.keys import MatrixKey
from explorer.core.measuring import contexts_digest
from explorer.core.progress import Progress
from explorer.measure.contexts import MatrixContexts, contexts
from explorer.measure.corpora import Corpus
from explorer.models import View
from explorer.models.tensors import tensor_bytes
from explorer.spectra.cache import SvdCache

NAME = "contexts"
SHARE = 0.05  # of the cache folder's limit
SUFFIX = ".safetensors"
Notify = Callable[[str], None]


@dataclass(frozen=True)
class ContextInfo:
    """What the folder holds; `entries` counts passes, sizes are in bytes."""

    entries: int
    bytes: int
    limit: int


class ContextStore:
    """A folder of contexts.

    Args:
        folder: made when the first file is saved.
        notify: told in one sentence that the folder cannot be written; work goes on without it.
        limit: bytes that the files may take.
    """

    def __init__(self, folder: Path, notify: Notify, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._notify = notify

    def load(self, name: str, key: MatrixKey) -> MatrixContexts | None:
        """The contexts of one matrix in the pass with a name; None if they are not there, or damaged."""
        path = self._path(name)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as stored:
                sums = json.loads((stored.metadata() or {})["checksums"])
                tensors = {one: stored.get_tensor(f"{key} {one}") for one in MatrixContexts.__dataclass_fields__}
            if sums[str(key)] != _checksum(key, tensors):
                raise ValueError
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(path)
        return MatrixContexts(**tensors)

    def save(self, name: str, found: Mapping[MatrixKey, MatrixContexts]) -> None:
        """Keep a pass."""
        tensors = {f"{key} {what}": tensor for key, one in found.items() for what, tensor in one.tensors().items()}
        sums = {str(key): _checksum(key, one.tensors()) for key, one in found.items()}
        try:
            with replacing(self._path(name)) as path:
                save_file(tensors, path, metadata={"checksums": json.dumps(sums)})
            self._shrink(self._path(name))
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            self._notify(f"Contexts cannot be kept in {self.folder} ({reason}): working without that folder.")

    def info(self) -> ContextInfo:
        """How many passes there are, and how much room they take and may take."""
        files = self._files()
        return ContextInfo(len(files), sum(size for _, size, _ in files), self.limit)

    def clear(self) -> int:
        """Remove all; returns how many there were."""
        files = self._files()
        for path, _, _ in files:
            path.unlink(missing_ok=True)
        return len(files)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"

    def _files(self) -> list[tuple[Path, int, float]]:
        """Path, size and time of last use of every file."""
        found = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            with suppress(OSError):  # another process may have removed it
                found.append((path, path.stat().st_size, path.stat().st_mtime))
        return found

    def _shrink(self, keep: Path) -> None:
        files = sorted(self._files(), key=lambda file: file[2])
        total = sum(size for _, size, _ in files)
        for path, size, _ in files:
            if total > self.limit and path != keep:
                path.unlink(missing_ok=True)
                total -= size


def default_contexts(notify: Notify) -> ContextStore:
    """The folder in the settings' cache folder, which may take a share of that folder's limit."""
    now = settings()
    return ContextStore(now.cache_dir / NAME, notify, round(SHARE * now.cache_bytes))


def kept_contexts(
    view: View,
    corpus: Corpus,
    svds: SvdCache,
    keys: Sequence[MatrixKey],
    *,
    key: MatrixKey,
    store: ContextStore,
    progress: Progress | None = None,
) -> MatrixContexts:
    """The contexts of one matrix: looked up, or else found in one pass for all of `keys`, and kept.

    Args:
        view: unpruned.
        corpus: what is read.
        svds: decompositions.
        keys: the matrices of a pass, `key` among them.
        key: the matrix that is asked for.
        store: where they are kept.
        progress: told (done, total).

    Raises:
        SettingsError, NotFiniteError: see `explorer.measure.contexts.contexts`.
    """
    parts = (
        contexts_digest(),
        view.model.as_loaded,
        view.model.matrices_identity,
        corpus.digest,
        " ".join(map(str, keys)),
    )
    name = digest(f"{one}\n".encode() for one in parts).removeprefix("sha256:")[:40]
    found = store.load(name, key)
    if found is None:
        every = contexts(view, corpus, svds, keys=keys, progress=progress)
        store.save(name, every)
        found = every[key]
    return found


def _checksum(key: MatrixKey, tensors: Mapping[str, Tensor]) -> str:
    """XXH3 (128 bits) over name, shapes, types and values."""
    state = xxhash.xxh3_128(str(key).encode())
    for name, tensor in tensors.items():
        state.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        state.update(tensor_bytes(tensor))
    return state.hexdigest()
