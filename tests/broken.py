"""Seeded damage to files: bytes turned, cut and put in, and values of a JSON document replaced by absurd ones."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

ABSURD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 3, 2**31, 2**63, 10**30, 1.5, 1e308, float("nan"), float("inf")),
    *("", "x", "llama", "../x", "http://x", "\0", "9" * 40, [], [1], ["x"], [[[[]]]], {}, {"x": 1}, {"": None}),
)


def bytes_of(path: Path, source: random.Random, span: int = 4096) -> None:
    """Damage one to four places among the first `span` bytes of a file."""
    content = bytearray(path.read_bytes())
    for _ in range(source.randint(1, 4)):
        place = source.randrange(min(span, len(content)) or 1)
        kind = source.choice(["turn", "set", "cut", "insert", "repeat"])
        if kind == "cut" and source.random() < 0.3:
            del content[place:]
        elif kind == "insert":
            content[place:place] = source.randbytes(source.randint(1, 9))
        elif kind == "repeat":
            content[place:place] = content[place : place + source.randint(1, 64)]
        elif content:
            place = min(place, len(content) - 1)
            content[place] = (
                content[place] ^ (1 << source.randrange(8)) if kind == "turn" else source.choice(b"\0\xff{}0")
            )
    path.write_bytes(bytes(content))


def json_of(path: Path, source: random.Random) -> None:
    """Replace, drop or double one to three values of a JSON file."""
    path.write_text(json.dumps(damaged(json.loads(path.read_text()), source)))


def header_of(path: Path, source: random.Random) -> None:
    """The same in the header of a safetensors file."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.dumps(damaged(json.loads(content[8 : 8 + size]), source)).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + size :])


def damaged(document: Any, source: random.Random) -> Any:
    """A JSON value with one to three of its values replaced, dropped or moved to another name."""
    for _ in range(source.randint(1, 3)):
        places = list(_places(document))
        if not places:
            return source.choice(ABSURD)
        holder, key = source.choice(places)
        kind = source.random()
        if kind < 0.7:
            holder[key] = source.choice(ABSURD)
        elif kind < 0.85:
            del holder[key]
        elif isinstance(holder, dict):
            holder[source.choice(("x", "", str(key) + "_", "0"))] = holder[key]
    return document


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: what holds it, and its key or position."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    found: list[tuple[Any, Any]] = [(value, key) for key in keys]
    for key in keys:
        found += _places(value[key])
    return found


DAMAGE: dict[str, tuple[str, Callable[[Path, random.Random], None]]] = {
    "config.json": ("config.json", json_of),
    "bytes of config.json": ("config.json", bytes_of),
    "index": ("model.safetensors.index.json", json_of),
    "bytes of the index": ("model.safetensors.index.json", bytes_of),
    "header": ("a.safetensors", header_of),
    "bytes of the header": ("a.safetensors", bytes_of),
    "tokenizer.json": ("tokenizer.json", json_of),
    "bytes of tokenizer.json": ("tokenizer.json", bytes_of),
    "tokenizer_config.json": ("tokenizer_config.json", json_of),
    "bytes of tokenizer_config.json": ("tokenizer_config.json", bytes_of),
    "generation_config.json": ("generation_config.json", json_of),
}
