"""Saving decompositions behind the computation's back, a file at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from safetensors import SafetensorError

from explorer.spectra.narrow import Kept
from explorer.spectra.pack import NamedStack
from explorer.spectra.store import SvdStore

FILE_BYTES = 64 << 20
FILE_SECONDS = 5.0  # a killed process loses about as much work as this, whatever the size of the matrices


class Saver:
    """Takes stacks as they are computed and saves them from one thread, several in a file.

    What is saved is read again from the file, which checks it, and takes the place of the computed copy: the memory of
    the latter is free again, and the file's pages belong to the system's cache.

    Args:
        store: where to; None keeps the computed copies.
        owner: see `SvdStore`.
        failed: told when the folder cannot be written; nothing more is saved then.

    Attributes:
        found: name of a matrix -> its decomposition; complete after `close`.
    """

    def __init__(
        self, store: SvdStore | None, owner: str, failed: Callable[[SvdStore, OSError | SafetensorError], None]
    ) -> None:
        self.found: dict[str, Kept] = {}
        self._store, self._owner, self._failed = store, owner, failed
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._running: Future[None] | None = None
        self._waiting: list[NamedStack] = []
        self._since = time.monotonic()

    def add(self, stack: NamedStack) -> None:
        """Take a stack; start a file if enough have come together."""
        self.found.update(zip(stack.names, stack.stack.each(), strict=True))
        if self._store is None:
            return
        self._waiting.append(stack)
        large = sum(one.stack.nbytes for one in self._waiting) >= FILE_BYTES
        if large or time.monotonic() - self._since > FILE_SECONDS:
            self._start()

    def close(self) -> None:
        """Save what is left, and wait until all is saved."""
        self._start()
        self._finish()
        self._thread.shutdown()

    def _start(self) -> None:
        self._finish()  # at most one file behind
        if self._store is not None and self._waiting:
            self._running = self._thread.submit(self._save, self._store, tuple(self._waiting))
        self._waiting, self._since = [], time.monotonic()

    def _finish(self) -> None:
        if self._running is not None:
            self._running.result()
            self._running = None

    def _save(self, store: SvdStore, stacks: tuple[NamedStack, ...]) -> None:
        try:
            store.save(self._owner, stacks)
        except (OSError, SafetensorError) as error:
            self._store = None
            self._failed(store, error)
            return
        self.found.update(store.find(self._owner, [name for one in stacks for name in one.names])[0])
