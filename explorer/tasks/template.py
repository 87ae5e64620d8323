"""Prompt templates: text with `{placeholders}`, checked before use, filled without Python's format machinery.

`str.format` would let a template reach into objects (`{prompt.__class__}`); here a placeholder is a name and nothing
else. A brace that is meant is written twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from string import Formatter

from explorer.errors import TaskError


def check(template: str, placeholders: Sequence[str]) -> None:
    """Make sure that a template can be filled.

    Raises:
        TaskError: unbalanced braces, a placeholder that the task does not have, or none at all.
    """
    named = ", ".join(f"{{{name}}}" for name in placeholders)
    shown = repr(template[:60])
    used = 0
    for _, field, detail, conversion in _parts(template):
        if field is None:
            continue
        if field not in placeholders or detail or conversion:
            what = f"{field}{'!' + conversion if conversion else ''}{':' + detail if detail else ''}"
            raise TaskError(
                f"the template {shown} asks for {{{what[:40]}}}: this task has {named}, written as they are."
            )
        used += 1
    if not used:
        raise TaskError(f"the template {shown} would ask the same every time: use {named} in it.")


def fill(template: str, values: Mapping[str, str]) -> str:
    """The text of a template with its placeholders replaced by `values`; `check` it first."""
    return "".join(literal + (values[field] if field is not None else "") for literal, field, _, _ in _parts(template))


@lru_cache(maxsize=64)
def _parts(template: str) -> tuple[tuple[str, str | None, str | None, str | None], ...]:
    try:
        return tuple(Formatter().parse(template))
    except ValueError as error:
        raise TaskError(
            f"the template {template[:60]!r} has unbalanced braces ({error}): write {{name}}, or {{{{ for a brace."
        ) from None
