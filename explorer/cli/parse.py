"""Commands made of requests: a request's options are its command's, and its docstring is the help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from keyword import iskeyword
from typing import Annotated, Any, TypeVar, get_args

import typer
from typer.main import get_command

from explorer.actions.request import REQUIRED, Option, Request, Streaming, Tools, options_of
from explorer.cli.console import notice, say, working
from explorer.cli.search_bar import searching

JSON = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
R = TypeVar("R", bound=Request)


def add(app: typer.Typer, request: type[R], show: Callable[[R, Any], None]) -> None:
    """Give an application a request's command.

    Args:
        app: an application, or the group that the command belongs to.
        request: the request's class.
        show: prints a request's result, or the rows of one that streams, for people; with `--json` they print
            themselves.
    """

    def then(asked: R, json: bool) -> None:
        if json:
            asked.check_json()
        if isinstance(asked, Streaming):
            return _stream(asked, show, json=json)
        result = asked.run(_tools(json=json))
        if json:
            say(result.as_json())
        else:
            show(asked, result)
        if result.exit_code:
            raise typer.Exit(result.exit_code)

    app.command(request.command.split()[-1], help=inspect.getdoc(request), epilog=_keys(request))(
        _function(request, then)
    )


def read(request: type[R], words: Sequence[str]) -> R:
    """The request that a command line asks for; `words` are those behind its command.

    Raises:
        typer.TyperException: they are not such words.
        SettingsError: something is missing.
    """
    asked: list[R] = []
    app = typer.Typer()
    app.command()(_function(request, lambda one, json: asked.append(one)))
    get_command(app).main(list(words), standalone_mode=False)
    return asked[0]


def _function(request: type[R], then: Callable[[R, bool], None]) -> Callable[..., None]:
    """A function with a parameter per option and `json`, which makes the request and hands it on."""
    options = options_of(request)

    def run(*, json: bool, **given: Any) -> None:
        values = {option.path: given[_parameter(option)] for option in options}
        then(request.of({path: tuple(one) if isinstance(one, list) else one for path, one in values.items()}), json)

    taken = {option.name for option in options}
    described = [_described(option, taken) for option in options]
    json = inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JSON)
    run.__signature__ = inspect.Signature([*described, json])  # type: ignore[attr-defined]
    run.__annotations__ = {}
    return run


def _tools(*, json: bool) -> Tools:
    """What commands work with; with `--json` only what a program should hear of is said."""
    said = Tools(notice, working=working, searching=partial(searching, silent=json))
    return said if json else replace(said, remark=notice)


def _stream(asked: Streaming, show: Callable[[Any, Any], None], *, json: bool) -> None:
    rows = asked.rows(_tools(json=json))
    if not json:
        return show(asked, rows)
    for row in rows:
        say(row.as_json_line())


def _keys(request: type[Request]) -> str | None:
    keys = request.keys()
    return f"Keys of --json: {', '.join(keys)}." if keys else None


def _parameter(option: Option) -> str:
    """A name that a parameter may have: `--as` and `--for` are words of Python's own."""
    name = option.name.replace("-", "_")
    return f"{name}_" if iskeyword(name) else name


def _described(option: Option, taken: Collection[str]) -> inspect.Parameter:
    arg, default = option.arg, option.default
    words = [option.word] if arg.also is None or arg.also in taken else [option.word, f"--{arg.also}"]
    if arg.off is not None:
        words = [f"{option.word}/{option.off_word}"]
    info: Any = (
        typer.Argument(metavar=option.name.upper(), help=arg.help, min=arg.least)
        if arg.positional
        else typer.Option(*words, help=arg.help, min=arg.least)
    )
    kind = list[get_args(option.type)[0]] if option.many else option.type  # type: ignore[misc]
    if default is REQUIRED:
        default = inspect.Parameter.empty
    elif option.many:
        default = list(default)
    return inspect.Parameter(
        _parameter(option), inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )
