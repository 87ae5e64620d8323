"""Every request survives being written as a command, as Python, as TOML and as a link, and being read again."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

import explorer.actions
from explorer.actions import REQUESTS, Request
from explorer.actions.request import REQUIRED, Option, options_of
from explorer.cli import app
from explorer.cli.parse import read
from explorer.core.errors import SettingsError

TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)


def values(option: Option) -> st.SearchStrategy[Any]:
    """Values of an option's type that a command line can be given."""
    if option.many:
        return st.lists(_one(get_args(option.type)[0], option), min_size=1, max_size=3).map(tuple)
    return _one(option.type, option)


def _one(kind: Any, option: Option) -> st.SearchStrategy[Any]:
    kinds = [one for one in (get_args(kind) or (kind,)) if one is not type(None)]
    (wanted,) = kinds if get_origin(kind) is not tuple else (kind,)
    least = option.arg.least
    return {
        bool: st.booleans(),
        int: st.integers(0 if least is None else int(least), 10**6),
        float: st.floats(0.0 if least is None else least, 1e6),
        str: TEXTS.filter(lambda text: not (option.arg.positional and text.startswith("-"))),
        Path: TEXTS.map(lambda text: Path("folder", text.replace("/", "_"))),
    }[wanted]


@st.composite
def requests(draw: st.DrawFn, kind: type[Request]) -> Request:
    """Any request of a class: what is required, and some of the rest."""
    chosen = {
        option.path: draw(values(option))
        for option in options_of(kind)
        if option.default is REQUIRED or draw(st.booleans())
    }
    return kind.of(chosen)


@pytest.mark.slow
@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.command)
@settings(deadline=None)
@given(data=st.data())
def test_what_is_written_is_read_as_the_same_request(kind: type[Request], data: st.DataObject) -> None:
    request = data.draw(requests(kind))
    assert kind.from_toml(request.as_toml()) == request
    assert kind.from_query(request.as_query()) == request
    assert kind.from_data(request.as_data()) == request
    assert python(request.as_python()) == request
    assert read(kind, request.words()) == request
    assert hash(request) == hash(kind.from_data(request.as_data()))


def python(text: str) -> Any:
    """The request that a program runs, without running it."""
    tree = ast.parse(text)
    (call,) = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    assert isinstance(call, ast.Call)
    assert isinstance(call.func, ast.Attribute)
    assert call.func.attr in ("run", "rows")
    return eval(ast.unparse(call.func.value), {**vars(explorer.actions), "Path": Path})  # noqa: S307 (a text of ours)


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.command)
def test_each_request_has_its_command(kind: type[Request]) -> None:
    command: Any = get_command(app)
    for word in kind.command.split():
        command = command.commands[word]
    offered = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
    assert {option.word for option in options_of(kind) if not option.arg.positional} <= offered
    assert kind.command.split() == shlex.split(kind.command)


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.command)
def test_unknown_options_and_missing_ones_are_refused_with_their_name(kind: type[Request]) -> None:
    with pytest.raises(SettingsError, match="colour"):
        kind.from_data({"colour": "red"})
    required = [option for option in options_of(kind) if option.default is REQUIRED]
    if required:
        with pytest.raises(SettingsError, match=required[0].word):
            kind.from_data({})


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.command)
def test_numbers_that_are_none_are_refused(kind: type[Request]) -> None:
    for option in options_of(kind):
        if int in get_args(option.type) or option.type is int:
            with pytest.raises(SettingsError, match=option.word):
                option.read("many")


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.command)
def test_help_says_once_which_keys_there_are(kind: type[Request]) -> None:
    """By the result's fields, or in the docstring where the result has keys of its own."""
    said = "Keys of --json" in (kind.__doc__ or "")
    assert bool(kind.keys()) != said
