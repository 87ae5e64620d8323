"""What an export format is: a file made of a mask alone, or a folder made of a mask and its model."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from explorer.export.edit import Edit
from explorer.masks.mask import Mask
from explorer.models.sources import Source

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
class FolderNotes:
    """What a format has written.

    Attributes:
        readers: who can read it, in a sentence.
        notes: what was done beside, in sentences.
    """

    readers: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A folder in which a pruned model leaves, for others' programs.

    Attributes:
        label: what it is called on pages.
        about: what the folder holds, in a sentence.
        client: the package that reads it, and reads it again before it counts as made.
        snippet: Python that loads it, with `{folder}`, and `{base}` for the unpruned model.
        write: writes it into an empty folder, for a reader (`any` or `vllm`).
    """

    label: str
    about: str
    client: str
    snippet: str
    write: Callable[[Edit, Path, str], FolderNotes]


def base_of(source: Source) -> tuple[str, str | None]:
    """How others find the unpruned model: its hub id and commit, else its folder and None."""
    on_hub = source.revision is not None and _COMMIT.fullmatch(source.revision) and not Path(source.origin).exists()
    return (source.origin, source.revision) if on_hub else (str(source.folder), None)
