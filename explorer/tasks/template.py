"""Prompt templates: text with `{placeholders}`, checked before use, filled without Python's format machinery.

`str.format` would let a template reach into objects (`{prompt.__class__}`); here a placeholder is a name and nothing
else. A brace that is meant is written twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from string import Formatter

from explorer.core.errors import TaskError

_ESCAPE = re.compile(r"\\([n\\])")


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


def typed(text: str) -> str:
    r"""A template as it was typed in one line of a shell: `\n` is a line break, two backslashes are one."""
    return _ESCAPE.sub(lambda match: {"n": "\n", "\\": "\\"}[match[1]], text)


def as_typed(template: str) -> str:
    """What to type in one line for a template: `typed` gives it back."""
    return template.replace("\\", "\\\\").replace("\n", "\\n")


@lru_cache(maxsize=64)
def _parts(template: str) -> tuple[tuple[str, str | None, str | None, str | None], ...]:
    try:
        return tuple(Formatter().parse(template))
    except ValueError as error:
        raise TaskError(
            f"the template {template[:60]!r} has unbalanced braces ({error}): write {{name}}, or {{{{ for a brace."
        ) from None
