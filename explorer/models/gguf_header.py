"""The header of a GGUF file, walked through once before a library believes its counts.

Every length is compared with what is left of the file, so that garbage ends in a sentence after at most one pass over
the header, and neither a loop without end nor memory that is not there.

    "GGUF" | version u32 | tensors u64 | fields u64 | fields: name, type u32, value | tensors: name, dimensions u32,
    shape u64 each, type u32, offset u64 | padding | data

Names and texts are a u64 length and bytes; an array is an element type u32, a u64 length and its elements.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from explorer.core.errors import ModelError

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_MOST_NAME, _MOST_AXES, _MOST_DEPTH = 65_535, 4, 2
_LAYER = re.compile(r"blk\.(\d{1,9})\.")
_Value = str | int | float | bool | None
# Fields `<architecture>.<name>` that say how long some axis of some tensor is.
_SIZES = (
    *("embedding_length", "feed_forward_length", "vocab_size"),
    *("attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length"),
)


class _Broken(Exception):
    """What is wrong with a header."""


@dataclass
class _Reader:
    """Numbers and texts from a file, none of them beyond its end."""

    stream: BinaryIO
    left: int

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise _Broken("it ends within its header")
        self.left -= size
        return self.stream.read(size)

    def skip(self, size: int) -> None:
        if size > self.left:
            raise _Broken("it ends within its header")
        self.left -= size
        self.stream.seek(size, 1)

    def number(self, code: str) -> int | float | bool:
        value: int | float | bool = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]
        return value

    def whole(self, code: str) -> int:
        return int(self.number(code))

    def name(self) -> str:
        length = self.whole("Q")
        if length > _MOST_NAME:
            raise _Broken(f"a name of {length:,} bytes")
        return self.take(length).decode("utf-8", errors="replace")

    def value(self, kind: int, depth: int = 0) -> _Value:
        """A field's value; of arrays nothing is kept."""
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _TEXT:
            self.skip(self.whole("Q"))
            return None
        if kind != _ARRAY or depth >= _MOST_DEPTH:
            raise _Broken(f"a field of the unknown type {kind}")
        element, length = self.whole("I"), self.whole("Q")
        if element in _SCALARS:
            self.skip(length * struct.calcsize(f"<{_SCALARS[element]}"))
            return None
        if length > self.left // 8:  # a text or an array begins with 8 bytes at least
            raise _Broken("it ends within its header")
        for _ in range(length):
            self.value(element, depth + 1)
        return None


def check_magic(path: Path) -> None:
    """Refuse a file that does not begin as GGUF files do; raises ModelError, or OSError if it cannot be read."""
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise ModelError(
                f"{path} is not a GGUF file (it does not begin with {MAGIC.decode()}): check the download."
            )


def check_header(path: Path) -> dict[str, int]:
    """Walk through the header of a GGUF file.

    Returns:
        How many numbers each tensor holds, by its name.

    Raises:
        ModelError: no GGUF file, one that is cut, or counts and sizes that cannot be.
        OSError: the file cannot be read.
    """
    check_magic(path)
    with path.open("rb") as stream:
        stream.seek(len(MAGIC))
        try:
            return _walk(_Reader(stream, path.stat().st_size - len(MAGIC)))
        except _Broken as error:
            raise ModelError(
                f"{path} cannot be converted ({error}): check that it is a complete causal LM file."
            ) from None


def _walk(reader: _Reader) -> dict[str, int]:
    version = reader.whole("I")
    if version not in _VERSIONS:
        raise _Broken(f"version {version} of the format, where {' and '.join(map(str, _VERSIONS))} can be read")
    tensors, count = reader.whole("Q"), reader.whole("Q")
    if not 0 < tensors <= reader.left // 24 or count > reader.left // 13:  # each takes so many bytes at least
        raise _Broken(f"it says that it holds {tensors:,} tensors and {count:,} fields")
    fields: dict[str, _Value] = {}
    for _ in range(count):
        name = reader.name()
        fields[name] = reader.value(reader.whole("I"))
    axes, data = [1], 0
    sizes: dict[str, int] = {}
    for _ in range(tensors):
        name, dimensions = reader.name(), reader.whole("I")
        if not 1 <= dimensions <= _MOST_AXES:
            raise _Broken(f"the tensor {name[:40]!r} has {dimensions:,} axes")
        shape = [reader.whole("Q") for _ in range(dimensions)]
        reader.whole("I")
        data = max(data, reader.whole("Q"))
        axes += shape
        sizes[name] = math.prod(shape)
        if not 0 < sizes[name] < 2**48:
            raise _Broken(f"the tensor {name[:40]!r} has the shape {shape}")
    if data >= reader.left:
        raise _Broken("it ends before its last tensor")
    _check_sizes(fields, tensors, max(axes))
    _check_layers(fields, sizes)
    return sizes


def _check_sizes(fields: dict[str, _Value], tensors: int, longest: int) -> None:
    """Refuse a model that is larger by its fields than its tensors are."""
    for name, value in fields.items():
        bound = tensors if name.endswith(".block_count") else longest if name.endswith(_SIZES) else None
        if bound is not None and value is not None and not (type(value) is int and 0 < value <= bound):
            raise _Broken(f"{name[:60]} is {value}, more than its tensors hold")


def _check_layers(fields: dict[str, _Value], sizes: dict[str, int]) -> None:
    """Refuse layers that the library would leave out because the fields do not count them."""
    layers = [value for name, value in fields.items() if name.endswith(".block_count") and type(value) is int]
    for name in sizes:
        found = _LAYER.match(name)
        if found and layers and int(found[1]) >= max(layers):
            raise _Broken(f"it holds {name[:80]}, though it says that it has {max(layers)} layers")
