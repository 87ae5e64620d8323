"""What a worker does: open the subject once, answer cells, and say in a sentence what it cannot do."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from explorer.attribution.effect_cells import EffectsCell, MaskLossCell
from explorer.core.errors import ExplorerError, Stopped
from explorer.core.executor import OpenedSubject, Subject, WorkCell
from explorer.core.measuring import CARRIERS, EFFECTS, LIBRARIES, SEARCHES, code_digest, version_of
from explorer.experiments.reproduce.recipe_cells import RecipeCell, SuiteSubject
from explorer.measure.opened import ModelAndTask
from explorer.search.mask_cells import MaskCell

PACKAGE = "eigenprune-explorer"
CODE = "code"
CELLS: dict[str, type[WorkCell[Any]]] = {one.__name__: one for one in (EffectsCell, MaskCell, MaskLossCell, RecipeCell)}
SUBJECTS: dict[str, type[Subject]] = {one.__name__: one for one in (ModelAndTask, SuiteSubject)}
_OPENED: dict[str, OpenedSubject] = {}  # by the subject's text; the latest one only


@cache
def installed() -> dict[str, str]:
    """Versions of what decides numbers here, and a digest of the code: equal on workers that answer alike."""
    versions = {name: version_of(name) for name in (PACKAGE, *LIBRARIES)}
    return versions | {CODE: code_digest((*EFFECTS, *SEARCHES, *CARRIERS, "experiments"))}


def written(one: WorkCell[Any] | Subject) -> str:
    """A cell or a subject as text."""
    return json.dumps([type(one).__name__, one.text])


def read_cell(text: str) -> WorkCell[Any]:
    """The cell that `written` wrote."""
    name, fields = json.loads(text)
    cell: WorkCell[Any] = _reader(CELLS[name]).validate_json(fields)
    return cell


def read_subject(text: str) -> Subject:
    """The subject that `written` wrote."""
    name, fields = json.loads(text)
    subject: Subject = _reader(SUBJECTS[name]).validate_json(fields)
    return subject


@cache
def _reader(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def answer(expected: Mapping[str, str], subject: str, cell: str, stop: Callable[[], bool]) -> str:
    """One cell's answer as JSON: `values` and `machine`, or why there is none.

    Args:
        expected: `installed` of the driver; with anything else here, `unfit` says what that is.
        subject: as `written`; opened if the last cell was about another one.
        cell: as `written`; nothing to only ask whether all is well here (`fit`).
        stop: whether the answer is not wanted any more; then `stopped`.
    """
    if (own := installed()) != dict(expected):
        return json.dumps({"unfit": own})
    if not cell:
        return json.dumps({"fit": True})

    def progress(done: int, total: int) -> None:
        if stop():
            raise Stopped

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = _opened(subject)
            values = read_cell(cell).run(opened, progress)
    except ExplorerError as error:
        return json.dumps({"refused": str(error)})
    except (Stopped, KeyboardInterrupt):
        return json.dumps({"stopped": True})
    machine = opened.machine
    return json.dumps({"values": values, "machine": [machine.device, machine.dtype]}, ensure_ascii=False)


def _opened(subject: str) -> OpenedSubject:
    if subject not in _OPENED:
        _OPENED.clear()  # before the next one, so that two are never in memory
        _OPENED[subject] = read_subject(subject).open()
    return _OPENED[subject]
