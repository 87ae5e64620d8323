"""The mask library: masks with names and notes, kept as files in the workspace folder.

1. An entry is an ordinary mask file, `<id>.mask.json`, which every command takes, and beside it `<id>.entry.json` with
   what people say about it. The id begins the mask's digest: equal masks are one entry, and an entry's mask never
   changes, so that a link to it means the same for ever.
2. Every file is written whole or not at all; sessions that change the folder at the same time wait for each other.
3. Deleted entries go into `trash`, from which they come back; it holds the newest `TRASHED` of them.
4. `keep` puts a mask that nobody named into `shared`, so that a link or a command can refer to it; these go when there
   are more than `SHARED`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from explorer.core.config import check_writable, settings
from explorer.core.errors import MaskError
from explorer.core.files import ordinary, write_text
from explorer.masks.labels import DirectionLabel, LabelBook
from explorer.masks.mask import Mask, load_mask

MASK, ABOUT = ".mask.json", ".entry.json"
ID_LETTERS = 12
MAX_NAME, MAX_NOTES, MAX_ABOUT = 120, 5_000, 100_000
TRASHED, SHARED = 100, 200
LOCK_SECONDS = 20.0
_ID = re.compile(rf"[0-9a-f]{{{ID_LETTERS}}}")


class About(BaseModel):
    """What people say about an entry.

    Attributes:
        created: UTC, ISO 8601.
        fork_of: id of the entry that it was made from, if it was made from one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=MAX_NAME)
    notes: str = Field(default="", max_length=MAX_NOTES)
    created: str = Field(max_length=40)
    fork_of: str | None = Field(default=None, pattern=rf"^[0-9a-f]{{{ID_LETTERS}}}$")


@dataclass(frozen=True)
class Entry:
    """A mask of the library."""

    id: str
    about: About
    mask: Mask
    path: Path

    @property
    def name(self) -> str:
        """What it is called."""
        return self.about.name


@dataclass(frozen=True)
class Broken:
    """A file of the library that cannot be used, and the sentence that says why."""

    path: Path
    sentence: str


@dataclass(frozen=True)
class Listing:
    """What a library holds: entries, newest first, and files that cannot be used."""

    entries: tuple[Entry, ...]
    broken: tuple[Broken, ...]


def labelled(mask: Mask) -> Mask:
    """A mask with the workspace's labels of its values; those that it has of others stay where there are none.

    Raises:
        MaskError: the workspace's labels cannot be read.
    """
    own = LabelBook.default(mask.model.digest).every()
    return mask.with_labels(({one.place: one for one in mask.labels} | own).values())


def keep_labels(mask: Mask) -> tuple[DirectionLabel, ...]:
    """Take the labels of a mask from elsewhere over into the workspace; gives those that were left out.

    Raises:
        MaskError: the workspace's labels cannot be read or written.
    """
    return LabelBook.default(mask.model.digest).take_over(mask.labels)


def id_of(mask: Mask) -> str:
    """The id that a mask has in every library."""
    return mask.digest.removeprefix("sha256:")[:ID_LETTERS]


class Library:
    """A folder of masks; made when the first one is saved.

    Every method raises MaskError, with the reason, where the folder cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trash = folder / "trash"
        self.shared = folder / "shared"

    @classmethod
    def default(cls) -> Self:
        """The library of the workspace folder."""
        return cls(settings().workspace_dir / "masks")

    def list(self, models: Collection[str] | None = None) -> Listing:
        """All entries, or those of models with these digests; what cannot be read is among `broken` either way."""
        return self._listing(self.folder, models)

    def trashed(self) -> Listing:
        """What was deleted and can come back, most recently deleted first."""
        found = self._listing(self.trash, None)
        return Listing(tuple(sorted(found.entries, key=lambda one: -_age(one.path))), found.broken)

    def get(self, id: str) -> Entry:
        """One entry; raises MaskError if there is none, or if its files cannot be used."""
        path = self.folder / f"{_checked(id)}{MASK}"
        if not path.is_file():
            raise MaskError(f"there is no mask {id} in this workspace: import its file, or ask for the file.")
        return _read(path)

    def find(self, id: str) -> Mask | None:
        """The mask with this id, named or only kept to be referred to; None if it is not in this workspace."""
        for folder in (self.folder, self.shared, self.trash):
            path = folder / f"{_checked(id)}{MASK}"
            if path.is_file():
                return _mask(path)
        return None

    def save(self, mask: Mask, name: str, *, notes: str = "", fork_of: str | None = None) -> Entry:
        """Add a mask under a name; raises MaskError if an equal one is in the library already, and says which."""
        check_writable(MaskError, "Saving masks")
        about = _about(name=name, notes=notes, created=datetime.now(UTC).isoformat(), fork_of=fork_of)
        id = id_of(mask)
        with self._changing():
            path = self.folder / f"{id}{MASK}"
            if path.is_file():
                raise MaskError(f"this mask is in the library already, as {_name(path)!r}: open or rename that one.")
            _write(path, mask.to_json())
            _write(_beside(path), about.model_dump_json(indent=1) + "\n")
        return Entry(id, about, mask, path=path)

    def change(self, id: str, *, name: str | None = None, notes: str | None = None) -> Entry:
        """Give an entry another name or other notes."""
        check_writable(MaskError, "Renaming masks")
        with self._changing():
            entry = self.get(id)
            new = {key: value for key, value in (("name", name), ("notes", notes)) if value is not None}
            about = _about(**{**entry.about.model_dump(), **new})
            _write(_beside(entry.path), about.model_dump_json(indent=1) + "\n")
        return Entry(id, about, entry.mask, path=entry.path)

    def delete(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Move entries into the trash, also those that cannot be read; returns the ids of those that were there."""
        check_writable(MaskError, "Deleting masks")
        with self._changing():
            gone = tuple(id for id in ids if self._move(_checked(id), self.folder, self.trash))
            _bound(self.trash, TRASHED)
        return gone

    def restore(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Take entries out of the trash again, but not where an equal mask was saved meanwhile; returns their ids."""
        check_writable(MaskError, "Restoring masks")
        with self._changing():
            wanted = [id for id in ids if not (self.folder / f"{_checked(id)}{MASK}").is_file()]
            return tuple(id for id in wanted if self._move(id, self.trash, self.folder))

    def keep(self, mask: Mask) -> Path:
        """A file with this mask that links and commands can refer to: the entry's if there is one."""
        for folder in (self.folder, self.shared):
            path = folder / f"{id_of(mask)}{MASK}"
            if path.is_file():
                return path
        with self._changing():
            _write(path, mask.to_json())
            _bound(self.shared, SHARED)
        return path

    def _move(self, id: str, source: Path, target: Path) -> bool:
        mask = source / f"{id}{MASK}"
        if not mask.is_file():
            return False
        try:
            target.mkdir(parents=True, exist_ok=True)
            for path in (_beside(mask), mask):  # the mask last: without it there is no entry
                if path.is_file():
                    os.replace(path, target / path.name)
            os.utime(target / mask.name)  # the trash forgets what was deleted first
        except OSError as error:
            raise _refused(mask, error) from None
        return True

    def _listing(self, folder: Path, models: Collection[str] | None) -> Listing:
        entries: list[Entry] = []
        broken: list[Broken] = []
        for path in _masks(folder):
            try:
                entry = _read(path)
            except MaskError as error:
                if path.exists():  # not one that another session has just taken away
                    broken.append(Broken(path, str(error)))
            else:
                if models is None or entry.mask.model.digest in models:
                    entries.append(entry)
        entries.sort(key=lambda one: (one.about.created, one.id), reverse=True)
        return Listing(tuple(entries), tuple(broken))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock", timeout=LOCK_SECONDS)
            lock.acquire()
        except OSError as error:  # filelock's Timeout is one, too
            raise _refused(self.folder, error) from None
        try:
            yield
        finally:
            lock.release()


def _masks(folder: Path) -> Sequence[Path]:
    return sorted(folder.glob(f"*{MASK}")) if folder.is_dir() else ()


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _beside(mask: Path) -> Path:
    return mask.with_name(mask.name.removesuffix(MASK) + ABOUT)


def _checked(id: str) -> str:
    if not _ID.fullmatch(id):
        raise MaskError(f"{id[:40]!r} is not the id of a mask: ids have {ID_LETTERS} of the letters 0-9 and a-f.")
    return id


def _read(path: Path) -> Entry:
    """An entry by its mask file; without the file beside it, it is called by its id."""
    id, mask = path.name.removesuffix(MASK), _mask(path)
    about = _beside(path)
    if not about.is_file():
        made = datetime.fromtimestamp(_age(path), UTC).isoformat(timespec="seconds")
        return Entry(id, About(name=id, created=made), mask, path=path)
    try:
        if ordinary(about).stat().st_size > MAX_ABOUT:
            raise MaskError(f"{about} is larger than {MAX_ABOUT:,} bytes: delete it, the mask itself is beside it.")
        return Entry(id, About.model_validate_json(about.read_bytes()), mask, path=path)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise MaskError(f"{about} is not usable ({first['msg']}): delete it, the mask itself is beside it.") from None
    except OSError as error:
        raise _refused(about, error) from None


def _mask(path: Path) -> Mask:
    mask = load_mask(path)
    if path.name != f"{id_of(mask)}{MASK}":
        raise MaskError(f"{path} holds another mask than its name says: move it elsewhere and import it.")
    return mask


def _name(path: Path) -> str:
    try:
        return _read(path).name
    except MaskError:
        return path.name


def _about(**fields: str | None) -> About:
    name = " ".join((fields["name"] or "").split())
    if not 1 <= len(name) <= MAX_NAME:
        raise MaskError(f"a name of {len(name)} letters cannot be kept: give the mask one of 1 to {MAX_NAME}.")
    notes = fields["notes"] or ""
    if len(notes) > MAX_NOTES:
        raise MaskError(f"the notes have {len(notes):,} letters: keep them to {MAX_NOTES:,}.")
    return About.model_validate({**fields, "name": name})


def _bound(folder: Path, count: int) -> None:
    """Forget the oldest beyond `count`."""
    for path in sorted(_masks(folder), key=_age)[:-count]:
        _beside(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise _refused(path, error) from None


def _refused(path: Path, error: OSError) -> MaskError:
    return MaskError(f"{path} cannot be used ({error.strerror or error}): check the workspace folder.")
