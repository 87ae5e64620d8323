"""Decompositions of a model's matrices: in memory, then on disk, then computed.

What is decomposed are the weights as they are stored, in float32, or float64 for a model that is loaded in that: so
singular values, their vectors and the signs of these are the same in every type that a model is loaded in, and only an
edited weight is rounded to that type. Decompositions of the weights in another type are to be had by its name: masks of
before belong to those of the weights as they were loaded (`explorer.masks.fitting`).

Of a large model (`Model.is_large`) narrow sides are kept only (`explorer.spectra.narrow`): of one of 7 billion weights
that is 7 GB instead of 33. The weights that the other sides are made of are the model's own, or read
from its files where loading has rounded them.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from explorer.core.config import settings
from explorer.core.errors import ModelError
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress
from explorer.models import View
from explorer.models.matrices import shape
from explorer.models.stored import StoredMatrices
from explorer.spectra.narrow import Kept, decompose_narrow
from explorer.spectra.pack import NamedStack
from explorer.spectra.saver import Saver
from explorer.spectra.store import SvdStore
from explorer.spectra.svd import Decomposition, decompose_stack

Notify = Callable[[str], None]

JOB_BYTES = 16 << 20
_RESOLUTION = 1000  # of progress


def warn(message: str) -> None:
    """Report a notice as a Python warning; pages and command line pass their own way instead."""
    warnings.warn(message, stacklevel=3)


class SvdCache:
    """Decompositions of base weights: in memory (bounded), then on disk, then computed.

    Args:
        folder: where they are kept; None keeps them in memory only.
        notify: told in one sentence, once each, that a file was damaged or that the folder cannot be used.
        memory_bytes: bound on the decompositions kept in memory.
        job_bytes: weights decomposed between two reports of progress, and checked together when read again.
        narrow: whether narrow sides are kept; those of large models if None.
    """

    def __init__(
        self,
        folder: Path | None,
        notify: Notify = warn,
        memory_bytes: int = 1 << 30,
        *,
        job_bytes: int = JOB_BYTES,
        narrow: bool | None = None,
    ) -> None:
        self._store = None if folder is None else SvdStore(folder, settings().cache_bytes)
        self._notify = notify
        self._told: set[str] = set()
        self._memory_bytes = memory_bytes
        self._job_bytes = job_bytes
        self._narrow = narrow
        self._memory: OrderedDict[tuple[str, MatrixKey], Kept] = OrderedDict()
        self._memory_used = 0
        self._lock = threading.Lock()

    def get(self, view: View, key: MatrixKey, dtype: str | None = None) -> Decomposition:
        """Decomposition of a matrix of the view's shared, unpruned model; `get_many` is faster for several.

        In the type `Model.wide`, or of the weights as loading them in another type gives them.

        Raises:
            MatrixError: no such matrix.
            ModelError: the matrix holds NaN or infinite weights.
        """
        return self.get_many(view, [key], dtype=dtype)[key]

    def get_many(
        self, view: View, keys: Sequence[MatrixKey], progress: Progress | None = None, *, dtype: str | None = None
    ) -> dict[MatrixKey, Decomposition]:
        """Decompositions of several matrices of the view's shared, unpruned model, in the order of `keys`.

        Missing ones are computed shape by shape and saved while the next are computed. What was computed before
        `progress` raised `Stopped`, or before an error, is kept.

        Raises:
            MatrixError: no such matrix.
            ModelError: a matrix holds NaN or infinite weights.
        """
        stored = StoredMatrices(view, dtype)
        owner = self._owner(view, dtype)
        with self._lock:
            found = {key: self._memory[owner, key] for key in keys if (owner, key) in self._memory}
            for key in found:
                self._memory.move_to_end((owner, key))
        missing = [key for key in keys if key not in found]
        if missing:
            fresh = self._from_disk_or_new(stored, owner, missing, progress=progress)
            self._remember(owner, fresh)  # neighbours on disk among them
            found |= fresh
        return {key: found[key].of(partial(stored.weight, key)) for key in keys}

    def missing(self, view: View, keys: Sequence[MatrixKey]) -> tuple[MatrixKey, ...]:
        """Those of `keys` that are neither in memory nor on disk, in order; none without a disk to put them on.

        `get_many` of them before a loop that gets one after the other keeps them in few files. Nothing is read but
        headers, so this holds no memory.
        """
        store, owner = self._store, self._owner(view)
        if store is None:
            return ()
        with self._lock:
            unknown = [key for key in keys if (owner, key) not in self._memory]
        kept = store.known(owner, [str(key) for key in unknown])
        return tuple(key for key in unknown if str(key) not in kept)

    def _owner(self, view: View, dtype: str | None = None) -> str:
        """What decompositions are kept under: the matrices, and whether it is narrow sides that are kept."""
        name = view.model.matrices_as(dtype or view.model.wide)
        return f"{name} narrow sides" if self._keeps_narrow(view) else name

    def _keeps_narrow(self, view: View) -> bool:
        if view.model.against is not None:  # most values are null, and the wide side cannot be made of these
            return False
        return view.model.is_large if self._narrow is None else self._narrow

    def _from_disk_or_new(
        self, stored: StoredMatrices, owner: str, keys: Sequence[MatrixKey], progress: Progress | None
    ) -> dict[MatrixKey, Kept]:
        store = self._store  # read once: another thread may give the store up meanwhile
        found = {} if store is None else self._find(store, owner, keys)
        missing = [key for key in keys if key not in found]
        if not missing:
            return found
        saver = Saver(store, owner, self._give_up)
        try:
            for weights, job in _jobs_of(stored, missing, self._job_bytes, progress=progress):
                for stack in _decomposed(stored, weights, job, narrow=self._keeps_narrow(stored.view)):
                    saver.add(stack)
        finally:
            saver.close()
        return found | {key: saver.found[str(key)] for key in missing}

    def _find(self, store: SvdStore, owner: str, keys: Sequence[MatrixKey]) -> dict[MatrixKey, Kept]:
        names = {str(key): key for key in keys}
        stored, damaged = store.find(owner, tuple(names))
        names |= {name: MatrixKey.parse(name) for name in stored.keys() - names.keys()}
        if damaged:
            self._tell("damaged", "Cached decompositions were damaged: what is missing now is computed again.")
        return {names[name]: decomposition for name, decomposition in stored.items()}

    def _remember(self, owner: str, fresh: dict[MatrixKey, Kept]) -> None:
        with self._lock:
            for key, decomposition in fresh.items():
                if (owner, key) not in self._memory:  # another thread may have been faster
                    self._memory[owner, key] = decomposition
                    self._memory_used += decomposition.nbytes
            while len(self._memory) > 1 and self._memory_used > self._memory_bytes:
                self._memory_used -= self._memory.popitem(last=False)[1].nbytes

    def _give_up(self, store: SvdStore, error: OSError | SafetensorError) -> None:
        self._store = None
        reason = getattr(error, "strerror", None) or error
        self._tell("disk", f"Decompositions cannot be kept in {store.folder} ({reason}); working without that cache.")

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


def _jobs_of(
    stored: StoredMatrices, keys: Sequence[MatrixKey], job_bytes: int, progress: Progress | None
) -> Iterator[tuple[list[Tensor], list[MatrixKey]]]:
    """Weights of matrices of one shape that are decomposed together; progress is told by the arithmetic done."""
    shapes = {key: shape(stored.view, key) for key in keys}
    jobs = _jobs(shapes, job_bytes // stored.dtype.itemsize)
    costs = [len(job) * max(shapes[job[0]]) * min(shapes[job[0]]) ** 2 for job in jobs]
    for i, job in enumerate(jobs):
        if progress is not None:
            progress(round(_RESOLUTION * sum(costs[:i]) / sum(costs)), _RESOLUTION)
        yield [stored.decomposed(key) for key in job], job
    if progress is not None:
        progress(_RESOLUTION, _RESOLUTION)


def _decomposed(
    stored: StoredMatrices, weights: list[Tensor], job: list[MatrixKey], *, narrow: bool
) -> list[NamedStack]:
    """The decompositions of some matrices of one shape."""
    try:
        if stored.view.model.against is not None:
            stack = decompose_stack(weights, [stored.noise(key) for key in job])
            return [NamedStack(tuple(map(str, job)), stack)]
        stacks = list(decompose_narrow(weights)) if narrow else [(range(len(job)), decompose_stack(weights))]
    except ValueError as error:
        bad = next(key for key, W in zip(job, weights, strict=True) if not bool(torch.isfinite(W).all()))
        raise ModelError(f"{bad} cannot be decomposed: {error}; check the model's files.") from None
    return [NamedStack(tuple(str(job[place]) for place in places), stack) for places, stack in stacks]


def _jobs(shapes: dict[MatrixKey, tuple[int, int]], numbers: int) -> list[list[MatrixKey]]:
    """The matrices in groups of one shape, of at most so many `numbers` unless a single one is larger."""
    alike: dict[tuple[int, int], list[MatrixKey]] = {}
    for key, one in shapes.items():
        alike.setdefault(one, []).append(key)
    jobs = []
    for (d_in, d_out), keys in alike.items():
        size = max(1, numbers // (d_in * d_out))
        jobs += [keys[start : start + size] for start in range(0, len(keys), size)]
    return jobs
