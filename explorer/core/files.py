"""Files that are either whole or absent: atomic writes, content digests, size-limited JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from explorer.core.config import settings
from explorer.core.errors import ExplorerError
from explorer.core.finite import plain

CHUNK = 1 << 20
LEFT_OVER_SECONDS = 3600.0  # no file of ours takes that long between two writes
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp", re.DOTALL)
_SWEPT: set[Path] = set()  # folders, by this process


def typed_path(text: str) -> Path | None:
    """The path that a user typed, with `~` expanded; None if no file can have that name, or be looked up by it.

    Where strangers use the explorer (`EIGENPRUNE_READONLY`) none can: they would read this machine's files.
    """
    if settings().read_only:
        return None
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError):
        return None
    return path


def safe_name(text: str, usual: str) -> str:
    """A name as every file system takes it, of at most 60 letters; `usual` if nothing of it is left."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:60] or usual


def ordinary(path: Path) -> Path:
    """The path, if what is there has an end; a pipe, a socket or a device is not even opened.

    Raises:
        OSError: it is one of these, or is not there.
    """
    if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it takes `path`'s place, on failure it disappears.

    What killed processes left in the folder goes when this process first writes there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _SWEPT:
        _SWEPT.add(path.parent)
        sweep(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    temporary.touch(exist_ok=False)  # under the user's umask, where mkstemp would make the file private
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(out: Path, *, replaced: Path | None = None) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its place on success, and disappears on failure.

    Args:
        out: where it goes: nothing, or an empty folder.
        replaced: a folder at `out` that makes room once the new one is whole; it is back in place if that fails.

    Raises:
        OSError: it cannot be written, or something else is at `out` by then.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    folder, aside = (out.with_name(f".{out.name}.{secrets.token_hex(8)}.tmp") for _ in range(2))
    folder.mkdir()
    try:
        yield folder
        if replaced is not None:
            os.replace(replaced, aside)
        elif out.is_dir():
            out.rmdir()
        try:
            os.replace(folder, out)
        except OSError:
            if replaced is not None:
                os.replace(aside, replaced)
            raise
    finally:
        for leftover in (folder, aside):
            shutil.rmtree(leftover, ignore_errors=True)


def replaceable(
    out: Path,
    what: str,
    error: type[ExplorerError],
    *,
    mark: str,
    option: str,
    force: bool,
    written: Callable[[], Iterable[str]],
) -> Path | None:
    """The folder at `out` that a new one may replace; None if there is nothing to replace.

    Args:
        out: where the new folder is to go.
        what: the sort of folder, with its article.
        error: what is raised.
        mark: name of the file that every folder of the sort has.
        option: the one that names the folder.
        force: whether it may be replaced.
        written: names of what was written into it, the mark aside; whatever else is there must stay.

    Raises:
        ExplorerError: of that type, if something is there that must stay.
    """
    if not out.exists() and not out.is_symlink():
        return None
    if out.is_symlink() or not out.is_dir():
        raise error(f"{out} is there and is no folder: give {option} the name of a new folder.")
    names = {one.name for one in out.iterdir()}
    if not names:
        return None
    if not (out / mark).is_file():
        raise error(f"{out} is there and holds other things than {what}: give {option} the name of a new folder.")
    if not force:
        raise error(f"{out} holds {what} already: give another {option}, or --force to replace it.")
    if others := sorted(names - {*written(), mark}):
        raise error(f"{out} holds {others[0][:80]}, which is no part of the {what.split()[-1]}: move that away first.")
    return out


def sweep(folder: Path, seconds: float = LEFT_OVER_SECONDS) -> int:
    """Remove the temporary files of `replacing` that nobody has written to for so long; returns how many went."""
    gone, latest = 0, time.time() - seconds
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if _TEMPORARY.fullmatch(path.name) and path.is_file() and path.stat().st_mtime < latest:
                path.unlink()
                gone += 1
    return gone


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as indented JSON; numbers that it cannot hold become null."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def repeated_key(text: str | bytes) -> str | None:
    """A key that an object in this JSON names twice, of which readers silently take the last; None if there is none.

    Raises:
        ValueError: it is not JSON.
    """
    repeated: list[str] = []

    def names(pairs: list[tuple[str, Any]]) -> None:
        counts = Counter(name for name, _ in pairs)
        repeated.extend(name for name, count in counts.items() if count > 1)

    json.loads(text, object_pairs_hook=names)
    return repeated[0] if repeated else None


def digest(parts: Iterable[bytes | memoryview]) -> str:
    """SHA-256 of the concatenated parts, as `sha256:<hex>`."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return f"sha256:{state.hexdigest()}"


def file_digest(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file, as `sha256:<hex>`; `on_bytes` is told the size of each chunk read."""

    def chunks() -> Iterator[bytes]:
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                if on_bytes is not None:
                    on_bytes(len(chunk))
                yield chunk

    return digest(chunks())
