"""The models that were loaded on this machine: only these are loaded because a link says so.

A link is written by somebody else. What it names is a file or a folder of this machine, or something on the hub, so
nothing is looked up, opened or downloaded for it before the reader has agreed.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from explorer.core.config import settings
from explorer.core.files import write_json

KEPT = 200  # names, the latest


def known(name: str) -> bool:
    """Whether a model of this name was loaded here before."""
    return name in _names()


def note(name: str) -> None:
    """Remember that a model of this name was loaded here; a folder that cannot be written remembers nothing."""
    before = _names()
    if before[-1:] != [name]:
        with suppress(OSError):
            write_json(_path(), [*(other for other in before if other != name), name][-KEPT:])


def _path() -> Path:
    return settings().workspace_dir / "models.json"


def _names() -> list[str]:
    try:
        names = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
