"""What an export format is: a file made of a mask alone, or a folder made of a mask and its model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from explorer.export.edit import Edit
from explorer.masks.mask import Mask
from explorer.models.adapters import ADAPTED
from explorer.models.fetching import FETCHED
from explorer.models.sources import NAMED, Source, full_name
from explorer.tasks import Task

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Export:
    """A format: what it is called, what its files are called, and how a mask becomes one.

    Attributes:
        label: shown on buttons, behind "Download" or "Export" where there are several formats.
        about: what the file holds and who reads it, in a sentence or two.
        suffix: file suffix with its dot.
        mime: media type of a download.
        encode: the file's bytes.
    """

    label: str
    about: str
    suffix: str
    mime: str
    encode: Callable[[Mask], bytes]


@dataclass(frozen=True)
class Order:
    """What is to be made of a mask.

    Attributes:
        sort: a name of `explorer.export.FORMATS`.
        out: the new folder.
        tasks: on whose test prompts it is checked and measured.
        force: replace an export that is there.
        reader: `any`, or `vllm` for what that can read.
        limit: the first so many test examples for the figures; all if None.
        zero: put nothing in the place of removed values, even if the mask freezes means.
    """

    sort: str
    out: Path
    tasks: tuple[Task, ...]
    force: bool = False
    reader: str = "any"
    limit: int | None = None
    zero: bool = False


@dataclass(frozen=True)
class FolderNotes:
    """What a format has written.

    Attributes:
        readers: who can read it, in a sentence.
        notes: what was done beside, in sentences.
        onto: the model that it has to be loaded onto, where that is not the unpruned one.
        digests: of the files of a data set's tables, by table.
    """

    readers: str
    notes: tuple[str, ...] = ()
    onto: Source | None = None
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """A folder in which a pruned model leaves, for others' programs.

    Attributes:
        label: what it is called on pages.
        about: what the folder holds, in a sentence.
        client: the package that reads it, and reads it again before it counts as made.
        snippet: Python that loads it, with `{folder}` for the expression that gives its folder or its name on the hub,
            and `{base}` for the arguments that name the unpruned model.
        write: writes it into an empty folder.
        library: the library that the hub offers to load it with; None if there is none.
        hub_snippet: the same from the hub, with `{repo}` for the repository in quotes, where it is not `snippet`.
        tables: of a data set: what every column is, by table and column; empty for a model.
        leeway: how many times as far as others the client may be off, because its arithmetic is its own.
        needs: raises ExportError if something else is missing that writing needs.
    """

    label: str
    about: str
    client: str
    snippet: str
    write: Callable[[Edit, Path, Order], FolderNotes]
    library: str | None = None
    hub_snippet: str | None = None
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    leeway: float = 1.0
    needs: Callable[[], object] = bool

    def loading(self, base: str, revision: str | None, repo: str | None = None) -> str:
        """Python that loads it: from the hub if `repo` is given, else from a folder.

        Args:
            base: name of the unpruned model, as `base_of` gives it.
            revision: its commit on the hub, or None.
            repo: such as `name/model`.
        """
        named = f"{json.dumps(base)}, revision={json.dumps(revision)}" if revision else json.dumps(f"path/to/{base}")
        text = self.snippet if repo is None or self.hub_snippet is None else self.hub_snippet
        place = json.dumps("path/to/this/folder" if repo is None else repo)
        return text.format(folder=place, repo=place, base=named).rstrip()


def base_of(source: Source) -> tuple[str, str | None]:
    """What others know the unpruned model by: hub id and commit, else its full name, without a path, and None."""
    on_hub = source.revision is not None and _COMMIT.fullmatch(source.revision) and not Path(source.origin).exists()
    if on_hub:
        return source.origin, source.revision
    base, apart, adapter = source.origin.partition(ADAPTED)
    return _public(base) + apart + (_last(adapter) if apart else ""), None


def hub_ancestor(source: Source) -> str | None:
    """The hub's model that a model is, or was converted or quantized from; None if that is not known."""
    base, revision = base_of(source)
    if revision:
        return base
    return FETCHED[source.name].hub_id if source.name in FETCHED else None


def _public(origin: str) -> str:
    """A model's origin without the folders of this machine."""
    if origin in NAMED or any(origin.startswith(f"{one.hub_id} (GGUF ") for one in FETCHED.values()):
        return full_name(origin)
    here = Path(origin)
    return _last(origin) if here.is_absolute() or here.exists() or here.suffix.lower() == ".gguf" else origin


def _last(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or "model"
