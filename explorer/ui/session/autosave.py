"""A session's lines of masks as a file, so that a reload of the page finds them again.

Each line keeps its newest steps, as many as fit into `KEPT_VALUES` removed values, and at least the one it is at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from explorer.core.errors import MaskError
from explorer.core.files import ordinary, write_text
from explorer.masks.mask import MAX_BYTES, Mask
from explorer.ui.session.history import History, Line, Lines, Step

KEPT_STEPS, KEPT_VALUES = 40, 20_000
FORMAT: Literal["eigenprune-session"] = "eigenprune-session"


class _Saved(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Step(_Saved):
    label: str
    mask: Mask


class _Line(_Saved):
    name: str
    position: int
    steps: list[_Step]


class _Lines(_Saved):
    format: Literal["eigenprune-session"] = FORMAT
    version: Literal[1] = 1
    current: int
    lines: list[_Line]


def save(path: Path, lines: Lines) -> None:
    """Write the lines atomically; raises OSError."""
    saved = []
    for line in lines.lines:
        first, last = _kept(line.history)
        steps = [_Step(label=one.label, mask=one.mask) for one in line.history.steps[first:last]]
        saved.append(_Line(name=line.name, position=line.history.position - first, steps=steps))
    write_text(path, _Lines(current=lines.current, lines=saved).model_dump_json() + "\n")


def load(path: Path) -> Lines:
    """Read the lines; raises MaskError for a file that is not such a file."""
    try:
        if ordinary(path).stat().st_size > MAX_BYTES:
            raise MaskError(f"{path} is too large for the masks of one session.")
        found = _Lines.model_validate_json(path.read_bytes())
    except OSError as error:
        raise MaskError(f"{path} cannot be read ({error.strerror}).") from None
    except ValidationError as error:
        raise MaskError(f"{path} is not usable ({error.errors(include_url=False)[0]['msg']}).") from None
    lines = tuple(Line(one.name, _history(one)) for one in found.lines if one.steps)
    if not lines:
        raise MaskError(f"{path} holds no masks.")
    return Lines(lines, min(max(found.current, 0), len(lines) - 1))


def _history(line: _Line) -> History:
    return History(tuple(Step(one.mask, one.label) for one in line.steps)).jump(line.position)


def _kept(history: History) -> tuple[int, int]:
    """The first step to keep, and the one after the last: around the current one, the newest as far as they fit."""
    first, last = history.position, history.position + 1
    left = KEPT_VALUES - len(history.mask)
    for at in _outwards(history):
        left -= len(history.steps[at].mask)
        if left < 0 or last - first >= KEPT_STEPS:
            break
        first, last = min(first, at), max(last, at + 1)
    return first, last


def _outwards(history: History) -> Sequence[int]:
    """Steps before the current one, latest first, and then those after it: undo matters more than redo."""
    return (*range(history.position - 1, -1, -1), *range(history.position + 1, len(history.steps)))
