"""The page of commands, from the requests in explorer.actions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from explorer.actions import REQUESTS, Request, Result, Streaming
from explorer.actions.request import REQUIRED, Option, options_of

TYPES = {bool: "yes or no", int: "whole number", float: "number", str: "text", Path: "path"}


def overview() -> str:
    """A line per command: its name and what it does."""
    lines = (
        f"| [`{one.command}`](#{_anchor(one)}) | `{one.__name__}` | {_cell(_first_sentence(_help(one)[0]))} |"
        for one in _requests()
    )
    return "\n".join(["| command | request | what it does |", "|---|---|---|", *lines])


def details() -> str:
    """A section per command: help, options, and what it reports."""
    return "\n\n".join(_section(one) for one in _requests())


def _requests() -> list[type[Request]]:
    """Single words first, then the groups."""
    return sorted(REQUESTS, key=lambda one: (" " in one.command, one.command))


def _section(request: type[Request]) -> str:
    paragraphs = [f"### {request.command} {{ #{_anchor(request)} }}", *_help(request)]
    if options := options_of(request):
        rows = (f"| {_name(one)} | {_kind(one)} | {_default(one)} | {_cell(one.arg.help)} |" for one in options)
        paragraphs.append("\n".join(["| option | type | default | what it is |", "|---|---|---|---|", *rows]))
    return "\n\n".join([*paragraphs, *_reported(request)])


def _help(request: type[Request]) -> list[str]:
    """The paragraphs of its help, each on one line."""
    return [" ".join(one.split()) for one in re.split(r"\n\s*\n", inspect.getdoc(request) or "") if one.strip()]


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.:]) ", text)[0].rstrip(".:")


def _anchor(request: type[Request]) -> str:
    return request.command.replace(" ", "-")


def _name(option: Option) -> str:
    return f"`{option.name.upper() if option.arg.positional else option.word}`"


def _kind(option: Option) -> str:
    kind = get_args(option.type)[0] if option.many else option.type
    (plain,) = [one for one in (get_args(kind) or (kind,)) if one is not type(None)]
    return TYPES[plain] + (", several times" if option.many else "")


def _default(option: Option) -> str:
    if option.default is REQUIRED:
        return "required"
    if option.default is None or option.default is False or option.default == ():
        return ""
    return "yes" if option.default is True else f"`{option.default}`"


def _reported(request: type[Request]) -> Iterator[str]:
    """What `--json` prints, where one dataclass says so; help says it otherwise."""
    if keys := request.keys():
        rows = ", a line per row" if issubclass(request, Streaming) else ""
        yield f"Keys of `--json`{rows}: {', '.join(f'`{key}`' for key in keys)}."
        if said := list(_attributes(request.result_type())):
            yield "\n".join(said)


def _attributes(result: type[Result]) -> Iterator[str]:
    """A list of what the docstring says of the keys."""
    _, _, listed = (inspect.getdoc(result) or "").partition("\nAttributes:\n")
    for one in re.split(r"\n {4}(?! )", f"\n{listed}")[1:]:
        names, _, meaning = " ".join(one.split()).partition(": ")
        yield f"- {', '.join(f'`{name.strip()}`' for name in names.split(','))}: {_literal(meaning)}"


def _literal(text: str) -> str:
    """Text whose brackets are no links."""
    return text.replace("[", "\\[").replace("]", "\\]")


def _cell(text: str) -> str:
    return _literal(text).replace("|", "\\|")
