"""What a user can ask for, as one frozen value: from it follow its command, its Python, its TOML and its link.

A request is a frozen dataclass whose fields are options: each has a type, a default and, in `Annotated`, an `Arg` with
its help. Fields may be dataclasses themselves (`ModelChoice`, `TaskChoice`), whose fields count as the request's own.
Its docstring is the help of its command.

Requests can be read and written without torch; `run` imports what it works with.
"""

from __future__ import annotations

import json
import shlex
import tomllib
import types
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl, urlencode

from explorer.core.errors import SettingsError
from explorer.core.executor import Executor, Subject
from explorer.core.progress import Progress
from explorer.core.records import Record, json_text

if TYPE_CHECKING:
    from explorer.models import View
    from explorer.search.outcome import Status
    from explorer.tasks import Task

REQUIRED = MISSING


@dataclass(frozen=True)
class Arg:
    """What a field is on a command line.

    Attributes:
        help: what it means, for people.
        name: the option's name if it is not the field's.
        least: the smallest number that is allowed.
        positional: given without a name.
        also: a second name on a command line, where no other option has it.
        off: what says no to a yes, if that is not `no-` and the name.
    """

    help: str
    name: str | None = None
    least: float | None = None
    positional: bool = False
    also: str | None = None
    off: str | None = None


@dataclass(frozen=True)
class Option:
    """One field of a request, or of a dataclass in it.

    Attributes:
        path: names of the fields that lead to it.
        type: its type, such as `int | None` or `tuple[str, ...]`.
        default: its default, or `REQUIRED`.
        arg: what it is on a command line.
    """

    path: tuple[str, ...]
    type: Any
    default: Any
    arg: Arg

    @property
    def name(self) -> str:
        """Its name in TOML and in links."""
        return (self.arg.name or self.path[-1]).replace("_", "-")

    @property
    def word(self) -> str:
        """Its name on a command line."""
        return f"--{self.name}"

    @property
    def off_word(self) -> str:
        """What a command line says for no."""
        return f"--{self.arg.off or f'no-{self.name}'}"

    @property
    def many(self) -> bool:
        """Whether it may be given several times."""
        return get_origin(self.type) is tuple

    def of(self, request: object) -> Any:
        """Its value."""
        for name in self.path:
            request = getattr(request, name)
        return request

    def read(self, text: object) -> Any:
        """A value from text, or from what TOML holds.

        Raises:
            SettingsError: it is not of the option's type.
        """
        if self.many:
            listed = text if isinstance(text, Sequence) and not isinstance(text, str) else [text]
            return tuple(self._read_one(get_args(self.type)[0], one) for one in listed)
        return self._read_one(self.type, text)

    def _read_one(self, kind: Any, text: object) -> Any:
        wanted = next(one for one in _members(kind) if one is not type(None))
        try:
            if wanted is bool:
                return {"true": True, "false": False}[str(text).lower()]
            return wanted(text if wanted is not Path else str(text))
        except (KeyError, TypeError, ValueError):
            raise SettingsError(
                f"{self.word} {str(text)[:40]!r} cannot be read: give {_NOUNS.get(wanted, 'text')}."
            ) from None


_NOUNS = {bool: "true or false", int: "a whole number", float: "a number", Path: "a path"}


@contextmanager
def _silent(what: str) -> Iterator[Progress]:
    """Tell nobody what is worked on, and how far it is."""
    yield lambda done, total: None


def _unsaid(sentence: str) -> None:
    """Say nothing."""


class SearchWatch:
    """Is told of a search while it runs; by itself it tells nobody."""

    def progress(self, done: int, total: int) -> None:
        """How far the strategy is."""

    def watch(self, status: Status) -> None:
        """The best mask so far."""

    def after(self, done: int, total: int) -> None:
        """How far what follows the strategy is."""


@contextmanager
def _unwatched(what: str) -> Iterator[SearchWatch]:
    """Tell nobody of a search."""
    yield SearchWatch()


@dataclass(frozen=True)
class Tools:
    """What a request works with.

    Attributes:
        notice: called with a sentence for the user.
        remark: called with a line of what has been found so far.
        working: opened around long work with what it is; gives what is told how far it is.
        searching: the same around a search.
        view: the model, if it is open already.
        task: the task, if it is open already.
        executors: gives the executor of a subject, if there are workers already.
    """

    notice: Callable[[str], None] = _unsaid
    remark: Callable[[str], None] = _unsaid
    working: Callable[[str], AbstractContextManager[Progress]] = _silent
    searching: Callable[[str], AbstractContextManager[SearchWatch]] = _unwatched
    view: View | None = None
    task: Task | None = None
    executors: Callable[[Subject], Executor] | None = None


ALONE = Tools()


class Result(Record):
    """What a request gives: a dataclass whose fields are the keys of `--json`. Shares are in [0, 1]."""

    @property
    def exit_code(self) -> int:
        """What a command ends with; 0 unless a result is bad news that a script should hear of."""
        return 0

    def as_json(self) -> str:
        """What `--json` prints; numbers that JSON cannot hold are null."""
        return json_text(self.as_dict(), indent=2)

    def as_json_line(self) -> str:
        """The same in one line, for one of many rows."""
        return json_text(self.as_dict())


class Request:
    """Something that a user can ask for."""

    command: ClassVar[str]  # the words behind `eigenprune`

    @abstractmethod
    def run(self, tools: Tools = ALONE) -> Result:
        """Do it.

        Raises:
            ExplorerError: what the user can mend, in one sentence.
        """

    @classmethod
    def result_type(cls) -> Any:
        """What `run` gives: mostly a class."""
        return get_type_hints(cls.run)["return"]

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """The keys of `--json`; none where its docstring says them: for several types, or one with keys of its own."""
        result = cls.result_type()
        fielded = isinstance(result, type) and issubclass(result, Record) and result.as_dict is Record.as_dict
        return result.keys() if fielded else ()

    def check_json(self) -> None:
        """Refuse options that go with no `--json`.

        Raises:
            SettingsError: there is one.
        """

    # ---- as a command

    def words(self) -> list[str]:
        """The words behind the command's own: what is required, and what is not as by default."""
        options = sorted(self._said(), key=lambda one: not one.arg.positional)
        return [word for option in options for word in _words(option, option.of(self))]

    def as_command(self, *further: str) -> str:
        """A line for a shell."""
        return shlex.join(["eigenprune", *self.command.split(), *self.words(), *further])

    # ---- as data

    def as_data(self) -> dict[str, Any]:
        """What is required, and what is not as by default, by option: text, numbers, booleans and lists."""
        return {option.name: _datum(option.of(self)) for option in self._said()}

    @classmethod
    def from_data(cls, data: Mapping[str, object]) -> Self:
        """The request that `as_data` gave; values may be text.

        Raises:
            SettingsError: an option that it does not have, or a value of another type.
        """
        options = {option.name: option for option in options_of(cls)}
        if unknown := [name for name in data if name not in options]:
            raise SettingsError(f"{unknown[0][:40]!r} is not an option of `{cls.command}`: see its --help.")
        return cls.of({options[name].path: options[name].read(value) for name, value in data.items()})

    @classmethod
    def of(cls, values: Mapping[tuple[str, ...], Any]) -> Self:
        """A request from the values of its options by path.

        Raises:
            SettingsError: something that is required is not among them.
        """
        for option in options_of(cls):
            if option.default is REQUIRED and option.path not in values:
                raise SettingsError(f"`{cls.command}` needs {option.word}.")
        made: Self = _made(cls, values)
        return made

    def as_toml(self) -> str:
        """A table of TOML."""
        lines = (f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in self.as_data().items())
        text = "\n".join([f"[{json.dumps(self.command)}]", *lines, ""])
        return text.replace("\x7f", "\\u007f")  # the one character that JSON leaves as it is and TOML does not

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """The request of a table of TOML.

        Raises:
            SettingsError: it is not TOML, or has no table of this command.
        """
        try:
            table = tomllib.loads(text)[cls.command]
        except (tomllib.TOMLDecodeError, KeyError) as error:
            raise SettingsError(f"No table [{json.dumps(cls.command)}] can be read: {error}.") from None
        return cls.from_data(table)

    def as_query(self) -> str:
        """The part of a link behind `?`."""
        return urlencode(self.as_data(), doseq=True)

    @classmethod
    def from_query(cls, text: str) -> Self:
        """The request of a link."""
        found: dict[str, list[str]] = {}
        for name, value in parse_qsl(text, keep_blank_values=True):
            found.setdefault(name, []).append(value)
        many = {option.name for option in options_of(cls) if option.many}
        return cls.from_data({name: values if name in many else values[-1] for name, values in found.items()})

    # ---- as Python

    def as_python(self) -> str:
        """A program that prints what the command prints with `--json`."""
        used: set[str] = set()
        call = _call(self, used)
        path = ["from pathlib import Path", ""] if "Path(" in call else []
        names = ", ".join(sorted(used))
        return "\n".join([*path, f"from explorer.actions import {names}", "", *self._program(call)])

    def _program(self, call: str) -> list[str]:
        return [f"result = {call}.run()", "print(result.as_json())"]

    def _said(self) -> Iterator[Option]:
        for option in options_of(type(self)):
            if option.default is REQUIRED or option.of(self) != option.default:
                yield option


class Streaming(Request):
    """A request whose result comes row by row."""

    @abstractmethod
    def rows(self, tools: Tools = ALONE) -> Iterator[Result]:
        """The rows, as they are made.

        Raises:
            ExplorerError: what the user can mend, in one sentence.
        """

    @classmethod
    def result_type(cls) -> Any:
        """What one of the rows is."""
        (row,) = get_args(get_type_hints(cls.rows)["return"])
        return row

    def run(self, tools: Tools = ALONE) -> Rows:
        """All rows."""
        return Rows(tuple(self.rows(tools)))

    def _program(self, call: str) -> list[str]:
        return [f"rows = {call}.rows()", "for row in rows:", "    print(row.as_json_line())"]


@dataclass(frozen=True)
class Rows(Result):
    """What a streaming request gives."""

    rows: tuple[Result, ...]


def options_of(kind: type[Any]) -> tuple[Option, ...]:
    """The options of a request's class, in the order of its fields."""
    return _options_of(kind)  # type: ignore[arg-type]  # mypy takes a dataclass's __hash__ for the class's


@cache
def _options_of(kind: type[Any]) -> tuple[Option, ...]:
    found: list[Option] = []
    hints = get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        hint = hints[one.name]
        if is_dataclass(hint):
            assert isinstance(hint, type)
            inner = sorted(options_of(hint), key=lambda option: option.default is not REQUIRED)
            found += [Option((one.name, *option.path), option.type, option.default, arg=option.arg) for option in inner]
        else:
            assert get_origin(hint) is Annotated, f"{kind.__name__}.{one.name} has no Arg"
            wanted, arg = get_args(hint)
            found.append(Option((one.name,), wanted, _default(one), arg=arg))
    return tuple(found)


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _made(kind: type, values: Mapping[tuple[str, ...], Any]) -> Any:
    hints, arguments = get_type_hints(kind), {}
    for one in fields(kind):
        inner = {path[1:]: value for path, value in values.items() if path[0] == one.name}
        if () in inner:
            arguments[one.name] = inner[()]
        elif inner or (is_dataclass(hints[one.name]) and _default(one) is MISSING):
            arguments[one.name] = _made(hints[one.name], inner)
    return kind(**arguments)


def _words(option: Option, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [option.word if value else option.off_word]
    listed = value if option.many else [value]
    return [word for one in listed for word in ([str(one)] if option.arg.positional else [option.word, str(one)])]


def _datum(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_datum(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _call(value: Any, used: set[str]) -> str:
    """The expression that makes a value, and the names that it uses."""
    if isinstance(value, Path):
        return f"Path({str(value)!r})"
    if isinstance(value, tuple):
        return f"({''.join(f'{_call(one, used)}, ' for one in value).rstrip()})"
    if not is_dataclass(value):
        return repr(value)
    used.add(type(value).__name__)
    said = [(one.name, getattr(value, one.name)) for one in fields(value) if _default(one) != getattr(value, one.name)]
    return f"{type(value).__name__}({', '.join(f'{name}={_call(one, used)}' for name, one in said)})"


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
