"""The generated parts of the pages, by name, and the generated pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from scripts.docs import commands, costs, results, rooms

DOCS = Path(__file__).resolve().parents[2] / "docs"
PARTS: Mapping[str, Callable[[], str]] = {
    "cluster-costs": costs.table,
    "commands-list": commands.overview,
    "commands": commands.details,
    "found": results.found,
    "results-bundled": partial(results.suite, "bundled"),
    "results-smollm2": partial(results.suite, "smollm2"),
    "rooms": partial(rooms.table, "explorer"),
    "ui-rooms": partial(rooms.table, "explorer.ui"),
}
PICTURES: Mapping[str, Callable[[], str]] = {
    "images/rooms.svg": partial(rooms.picture, "explorer"),
    "images/ui-rooms.svg": partial(rooms.picture, "explorer.ui"),
}
_PART = re.compile(r"(?<=<!-- begin )([a-z0-9-]+)( -->\n).*?(?=<!-- end \1 -->)", re.DOTALL)


def parts_of(text: str) -> list[str]:
    """The names of the parts that a page holds."""
    return [found[1] for found in _PART.finditer(text)]


def filled(text: str) -> str:
    """A page with its parts as they are now."""
    return _PART.sub(lambda found: f"{found[1]}{found[2]}\n{PARTS[found[1]]()}\n\n", text)
