"""Task files that users have given, kept in the workspace folder so that a reload or a restart finds them again.

A file is `<id>~<name>`, where the id begins the SHA-256 of its content: equal contents are one file, which has the
name that it was given last. The files given longest ago go when there are more than `MOST_FILES` or `MOST_BYTES`.
Files are written whole or not at all, and their content is checked against the id when it is read.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Self

from explorer.core.config import settings
from explorer.core.errors import TaskError
from explorer.core.files import digest, replacing
from explorer.tasks import SUFFIXES

MOST_FILES, MOST_BYTES = 20, 200_000_000
ID_LETTERS = 16
MOST_NAME = 120  # bytes
_STORED = re.compile(rf"([0-9a-f]{{{ID_LETTERS}}})~(.+)")


@dataclass(frozen=True)
class TaskFile:
    """A task file.

    Attributes:
        id: begins the digest of its content.
        name: what it is called, without any folder.
        content: None where it lies at `path`.
        path: None where it is only held.
    """

    id: str
    name: str
    content: bytes | None = field(default=None, repr=False, compare=False)
    path: Path | None = field(default=None, compare=False)

    @classmethod
    def held(cls, name: str, content: bytes) -> Self:
        """A file that a user has just given."""
        return cls(digest([content]).removeprefix("sha256:")[:ID_LETTERS], safe_name(name), content)

    def read(self) -> bytes:
        """The content; raises TaskError if the file is gone, or holds something else by now."""
        if self.content is not None:
            return self.content
        assert self.path is not None
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise TaskError(
                f"{self.name} is not in the workspace any more ({error.strerror}): upload it again."
            ) from None
        if not digest([content]).removeprefix("sha256:").startswith(self.id):
            raise TaskError(f"{self.name} was changed in the workspace: upload it again.")
        return content


class TaskFiles:
    """A folder of task files; made when the first one is kept."""

    def __init__(self, folder: Path, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.most_files, self.most_bytes = most_files, most_bytes

    @classmethod
    def default(cls) -> Self:
        """That of the workspace folder."""
        return cls(settings().workspace_dir / "tasks")

    def every(self) -> tuple[TaskFile, ...]:
        """All files, the one given last first."""
        return tuple(file for _, _, file in self._aged())

    def keep(self, given: TaskFile) -> None:
        """Keep a file that is held, under its name; raises OSError where that cannot be written."""
        if settings().read_only:
            raise OSError(errno.EROFS, "the explorer is read-only")
        content = given.read()
        path = self.folder / f"{given.id}~{given.name}"
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        for file in self.every():
            if file.id == given.id and file.path is not None and file.path != path:
                file.path.unlink(missing_ok=True)
        self._bound(path)

    def remove(self, id: str) -> None:
        """Remove a file, if it is there; raises OSError where it cannot be."""
        for file in self.every():
            if file.id == id and file.path is not None:
                file.path.unlink(missing_ok=True)

    def _bound(self, newest: Path) -> None:
        count, size = 0, 0
        for _, bytes_taken, file in self._aged():
            count, size = count + 1, size + bytes_taken
            if (count > self.most_files or size > self.most_bytes) and file.path is not None and file.path != newest:
                file.path.unlink(missing_ok=True)

    def _aged(self) -> list[tuple[int, int, TaskFile]]:
        """(time of writing, bytes, file), newest first."""
        return sorted(self._found(), key=lambda one: (-one[0], one[2].name))

    def _found(self) -> Iterator[tuple[int, int, TaskFile]]:
        try:
            paths = list(self.folder.iterdir())
        except OSError:
            return
        for path in paths:
            stored = _STORED.fullmatch(path.name)
            if stored is None or stored[2] != safe_name(stored[2]):
                continue
            try:
                about = path.stat()
            except OSError:  # another process has just removed it
                continue
            yield about.st_mtime_ns, about.st_size, TaskFile(stored[1], stored[2], path=path)


def safe_name(name: str) -> str:
    """`name` without folders and without what cannot stand in a file's name; it ends as task files do."""
    last = PurePosixPath(re.split(r"[/\\]", name)[-1])
    stem, suffix = last.stem, last.suffix
    if suffix.lower() not in SUFFIXES:
        stem, suffix = stem + suffix, SUFFIXES[0]
    short = re.sub(r"[^\w ().,+=-]+", "-", stem).encode()[:MOST_NAME].decode(errors="ignore")
    return f"{short.strip(' .-') or 'task'}{suffix.lower()}"
