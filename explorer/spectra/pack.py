"""One file of decompositions: how it is written, mapped into memory and checked.

A pack is a safetensors file of stacks: u, s and vh of several matrices of one shape, all of one owner (a model in one
basis). Of narrow sides (`explorer.spectra.narrow`) it has either u or vh. Its metadata holds the format, the owner, and
for every stack the matrices' names and a checksum.

1. Opening maps the file: the header is read, values are not. safetensors refuses a file whose size is not what its
   header says, so a truncated file is noticed here.
2. Whenever a stack is taken, all of it is read against its checksum (XXH3, 128 bits; over format, owner, names, shapes,
   types and values), at the speed of memory. A flipped bit anywhere either fails this
   check or leaves a header that names no such matrix. What happens to a file after that check, while it stays mapped,
   is not seen, and a file cut short in place would end the process; this program replaces and removes such files but
   never writes into one.

The checksum finds accidents; it is no defence against someone who can write to the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from explorer.models.tensors import tensor_bytes
from explorer.spectra.narrow import Kept, NarrowStack
from explorer.spectra.svd import Stack

FORMAT = "svd-2"
_NAMES = ("u", "s", "vh")


class Damaged(Exception):
    """A file that is not what was once saved."""


@dataclass(frozen=True, eq=False)
class NamedStack:
    """A stack and the names of its matrices, in its order."""

    names: tuple[str, ...]
    stack: Stack | NarrowStack


@dataclass(eq=False)
class Part:
    """One stack of a file.

    Attributes:
        path: the file.
        number: position in the file.
    """

    path: Path
    number: int
    owner: str
    names: tuple[str, ...]
    checksum: str
    _mapped: Stack | NarrowStack | None = field(repr=False)

    def decompositions(self) -> tuple[Kept, ...]:
        """The decompositions, or their narrow sides, in the order of the names, checked.

        They keep the file mapped, the part does not.

        Raises:
            Damaged: the checksum is wrong, or the file is gone.
        """
        mapped, self._mapped = self._mapped, None
        if mapped is None:
            with _opened(self.path) as stored:
                mapped = _stack(stored, self.number)
        if self.checksum != checksum(self.owner, NamedStack(self.names, mapped)):
            raise Damaged(self.path.name)
        return mapped.each()


def write(path: Path, owner: str, stacks: Sequence[NamedStack]) -> None:
    """Write a pack; raises OSError or SafetensorError if that is not possible."""
    tensors = {f"{i}.{name}": tensor for i, one in enumerate(stacks) for name, tensor in one.stack.tensors().items()}
    parts = [{"names": one.names, "checksum": checksum(owner, one)} for one in stacks]
    save_file(tensors, path, metadata={"format": FORMAT, "owner": owner, "parts": json.dumps(parts)})


def read(path: Path) -> tuple[Part, ...]:
    """Map a pack; its values are read when they are used.

    Raises:
        Damaged: truncated, of another format, or with a header that makes no sense.
    """
    with _opened(path) as stored:
        metadata = stored.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise Damaged(path.name)
        owner, parts = metadata["owner"], json.loads(metadata["parts"])
        return tuple(
            Part(path, i, owner, names=tuple(part["names"]), checksum=part["checksum"], _mapped=_stack(stored, i))
            for i, part in enumerate(parts)
        )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as stored:
            yield stored
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(path.name) from error


def _stack(stored: Any, number: int) -> Stack | NarrowStack:
    listed = set(stored.keys())
    names = [name for name in _NAMES if f"{number}.{name}" in listed]
    tensors = {name: stored.get_tensor(f"{number}.{name}") for name in names}
    return Stack(**tensors) if len(tensors) == len(_NAMES) else NarrowStack(**tensors)


def names(path: Path) -> tuple[str, ...]:
    """The matrices in a pack, without a look at their values; none if it cannot be read."""
    try:
        return tuple(name for part in read(path) for name in part.names)
    except Damaged:
        return ()


def checksum(owner: str, named: NamedStack) -> str:
    """XXH3 (128 bits) over format, owner, names, shapes, types and values."""
    state = xxhash.xxh3_128(json.dumps([FORMAT, owner, named.names]).encode())
    for name, tensor in named.stack.tensors().items():
        state.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        state.update(tensor_bytes(tensor))
    return state.hexdigest()
