"""Decompositions of a model's matrices: in memory, then on disk, then computed."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from explorer.config import settings
from explorer.errors import ModelError
from explorer.keys import MatrixKey
from explorer.models import View
from explorer.registry import read_base
from explorer.svd import Decomposition, decompose
from explorer.svd_store import Damaged, SvdStore

Notify = Callable[[str], None]


def warn(message: str) -> None:
    """Report a notice as a Python warning; pages and command line pass their own way instead."""
    warnings.warn(message, stacklevel=3)


class SvdCache:
    """Decompositions of base weights: in memory (bounded), then on disk, then computed.

    Args:
        folder: where entries are kept; None keeps them in memory only.
        notify: told in one sentence, once each, that an entry was damaged or that the folder cannot be used.
        memory_bytes: bound on the decompositions kept in memory.
    """

    def __init__(self, folder: Path | None, notify: Notify = warn, memory_bytes: int = 1 << 30) -> None:
        self._store = None if folder is None else SvdStore(folder, settings().cache_bytes)
        self._notify = notify
        self._told: set[str] = set()
        self._memory_bytes = memory_bytes
        self._memory: OrderedDict[tuple[str, MatrixKey], Decomposition] = OrderedDict()
        self._memory_used = 0
        self._lock = threading.Lock()

    def get(self, view: View, key: MatrixKey) -> Decomposition:
        """Decomposition of a matrix of the view's shared, unpruned model.

        Raises:
            MatrixError: no such matrix.
            ModelError: the matrix holds NaN or infinite weights.
        """
        name = (view.model.digest, key)
        with self._lock:
            if name in self._memory:
                self._memory.move_to_end(name)
                return self._memory[name]
        found = self._from_disk_or_new(read_base(view, key), key)
        with self._lock:
            if name not in self._memory:  # another thread may have been faster
                self._memory[name] = found
                self._memory_used += _size(found)
            while len(self._memory) > 1 and self._memory_used > self._memory_bytes:
                self._memory_used -= _size(self._memory.popitem(last=False)[1])
        return found

    def _from_disk_or_new(self, W: Tensor, key: MatrixKey) -> Decomposition:
        store = self._store  # read once: another thread may give the store up meanwhile
        try:
            stored = store.load(W) if store is not None else None
        except Damaged:
            stored = None
            self._tell("damaged", f"The cached decomposition of {key} was damaged: such entries are computed again.")
        if stored is not None:
            return stored
        try:
            fresh = decompose(W)
        except ValueError as error:
            raise ModelError(f"{key} cannot be decomposed: {error}; check the model's files.") from None
        if store is not None:
            self._save(store, W, fresh)
        return fresh

    def _save(self, store: SvdStore, W: Tensor, decomposition: Decomposition) -> None:
        try:
            store.save(W, decomposition)
        except (OSError, SafetensorError) as error:
            self._store = None
            reason = getattr(error, "strerror", None) or error
            self._tell(
                "disk", f"Decompositions cannot be kept in {store.folder} ({reason}); working without that cache."
            )

    def _tell(self, what: str, message: str) -> None:
        """One notice of a sort, not one per matrix or thread."""
        with self._lock:
            first = what not in self._told
            self._told.add(what)
        if first:
            self._notify(message)


def default_store() -> SvdStore:
    """The folder of decompositions in the settings' cache folder."""
    return SvdStore(settings().cache_dir / "svd", settings().cache_bytes)


def default_cache(notify: Notify = warn) -> SvdCache:
    """Decompositions kept in the settings' cache folder."""
    return SvdCache(default_store().folder, notify)


def _size(decomposition: Decomposition) -> int:
    return sum(tensor.nbytes for tensor in (decomposition.u, decomposition.s, decomposition.vh))
