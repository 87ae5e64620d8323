"""What people call the singular directions of the bench's model: read for every run, since other sessions change it."""

from __future__ import annotations

from collections.abc import Mapping

from explorer.core.errors import MaskError
from explorer.masks.labels import DirectionLabel, LabelBook, Place
from explorer.ui.session import Bench
from explorer.ui.session.notices import notices


def every(bench: Bench) -> Mapping[Place, DirectionLabel]:
    """The labels of the bench's model; none, and a notice, where their file cannot be read."""
    try:
        return LabelBook.default(bench.model.digest).every()
    except MaskError as error:
        notices().append_once(f"Labels are not shown: {error}")
        return {}


def texts(bench: Bench) -> dict[str, dict[int, str]]:
    """What values are called, by matrix and index; those with a note alone are not called anything."""
    found: dict[str, dict[int, str]] = {}
    for (matrix, index), one in every(bench).items():
        if one.label:
            found.setdefault(matrix, {})[index] = one.label
    return found
