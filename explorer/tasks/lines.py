"""The rows of a task file: JSON lines or CSV as text, to fields by name, each with its line number.

What cannot be read without a guess is not guessed at: a row that is wrong comes as the sentence that says so. CSV is as
RFC 4180 has it (cells in double quotes may hold commas, line breaks and doubled quotes), and two of its common
misspellings are settled here: blanks in front of a quoted cell are taken away, and cells in other quotes (single,
curly, angled, with backslashes, as a formula, ...) are refused, so that no quote becomes part of an answer.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from typing import Any

from explorer.core.errors import TaskError

Fields = dict[str, Any]
Row = tuple[int, Fields | str]  # line number, and its fields or what is wrong with it
LINES = 1_000  # that are read together
ASKED = ("prompt", "answer")  # what every line of a task file has


@dataclass(frozen=True)
class Plain:
    """Lines that hold a prompt and an answer in ASCII and nothing else, as nearly all of a long file do.

    They are looked at all at once, by functions that loop in C, instead of one by one.

    Attributes:
        last: number of the last line.
    """

    last: int
    prompts: list[str]
    answers: list[str]


Part = Plain | list[Row]  # of a file: some lines that follow each other

_NOT_JSON = 'not a JSON object; expected {"prompt": ..., "answer": ...}.'
_OTHER_QUOTES = "a cell in {} quotes: CSV has double quotes (put such a cell into them if its quotes are meant)."
# Objects come as their pairs, so that a key named twice shows.
_scan: Any = json.JSONDecoder(object_pairs_hook=tuple).scan_once  # type: ignore[attr-defined]
_scan_fast: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
# Signs that quote in pairs, with their name: each of a row may open or close, as usage differs between languages.
_PAIRS = {
    "'": "single",
    "`\xb4": "backtick",
    "\u201c\u201d\u201e\u201f": "curly",
    "\u2018\u2019\u201a\u201b": "curly",
    "\xab\xbb": "angled",
    "\u2039\u203a": "angled",
    "\u300c\u300d\u300e\u300f\ufe41\ufe42\ufe43\ufe44\uff62\uff63": "corner",
    "\u2033\u2036\u301d\u301e\u301f": "prime",
    "\u2032\u2035": "prime",
    "\uff02": "full-width",
    "\uff07": "full-width",
}
_SIGNS = "".join(_PAIRS)
_NAMES = {sign: name for row, name in _PAIRS.items() for sign in row} | {"\\": "backslashed", "=": "formula"}
_BLANK = r"(?:[^\S\r\n]|[\u200b-\u200d\u2060\ufeff])"  # those that no one sees, too
_INSIDE = rf"""(?:(?!,{_BLANK}*")[^\r\n])*?"""  # up to the end of the line, but not over the start of a quoted cell
_OTHER = "|".join(f"[{row}]{_INSIDE}[{row}]" for row in _PAIRS)
# At the start of a cell: a quoted one, which is passed over, or blanks and a quote, or a cell in other quotes, which
# may hold commas.
_START = re.compile(
    rf"""(?:^|(?<=[,\r\n]))(?:
        "(?:[^"]|"")*"
        | (?P<blanks>{_BLANK}+)(?=")
        | (?P<other>{_BLANK}*(?P<sign>{_OTHER}|\\"[^\r\n]*?\\"|="[^\r\n]*?")){_BLANK}*(?=[,\r\n]|$)
    )""",
    re.VERBOSE,
)
# Whether `_START` needs to look, and what can be seen before that quickly.
_ODD_START = re.compile(rf"""(?:^|[,\r\n])(?:{_BLANK}+"|{_BLANK}*(?:[{_SIGNS}]|\\"|="))""")
_BLANK_QUOTE = re.compile(rf'{_BLANK}"|\\"|="')
_MARKS = range(0xF0000, 0xFFFFE)  # letters that Unicode gives no meaning


def json_parts(lines: Iterable[str]) -> Iterator[Part]:
    """The parts of JSON lines; blank ones are passed over."""
    source, before = iter(lines), 0
    while some := list(islice(source, LINES)):
        yield _plain_json(some, before + len(some)) or list(json_rows(some, before + 1))
        before += len(some)


def json_rows(lines: Iterable[str], first: int = 1) -> Iterator[Row]:
    """Rows of JSON lines of which the first has this number; blank ones are passed over."""
    for number, line in enumerate(lines, start=first):
        text = line.strip()
        if text:
            yield number, _object(text)


def _plain_json(lines: Sequence[str], last: int) -> Plain | None:
    texts = list(map(str.strip, lines))
    try:
        scanned = [_scan_fast(text, 0) for text in texts]
    except (StopIteration, ValueError, RecursionError):
        return None
    rows = [row for row, _ in scanned]
    if [end for _, end in scanned] != list(map(len, texts)) or set(map(type, rows)) != {dict}:
        return None
    whole = "".join(texts)
    quotes = whole.count('"') - whole.count('\\"')  # 8 in a row of two texts; with more, a key stands there twice
    if set(map(len, rows)) != {2} or quotes != 8 * len(rows) or '\\\\"' in whole:
        return None
    return _plain([row.get("prompt") for row in rows], [row.get("answer") for row in rows], last)


def _plain(prompts: list[Any], answers: list[Any], last: int) -> Plain | None:
    texts = prompts + answers
    sound = set(map(type, texts)) == {str} and "".join(texts).isascii() and all(map(str.strip, texts))
    return Plain(last, prompts, answers) if sound else None


def _object(text: str) -> Fields | str:
    try:
        pairs, end = _scan(text, 0)
    except (StopIteration, ValueError, RecursionError):  # ValueError also for a number of too many digits
        return _NOT_JSON
    if end != len(text):
        return _NOT_JSON
    if type(pairs) is not tuple:
        return f"a {type(pairs).__name__} instead of an object with `prompt` and `answer`."
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        return f"the field {twice[:40]!r} comes twice; name it once."
    return row


def csv_parts(text: str, name: str, columns: tuple[str, str] = ASKED) -> Iterator[Part]:
    """The parts of CSV with a header line.

    An empty cell is a field that is not there, line breaks in cells are line feeds.

    Raises:
        TaskError: a header without both `columns`, or with a column twice.
    """
    mark = ""
    if (_BLANK_QUOTE.search(text) or any(sign in text for sign in _SIGNS)) and _ODD_START.search(text):
        mark = next(letter for letter in map(chr, _MARKS) if letter not in text)
        text = _START.sub(lambda match: _settled(match, mark), text)
    csv.field_size_limit(max(len(text), csv.field_size_limit()))
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        header = _read_header(reader, name, columns)
    except csv.Error as error:
        yield [_no_csv(reader, error)]
        return
    if header is None:
        return
    odd = bool(mark) or "\r" in text or len(header) > 2
    more = True
    while more:
        some: list[tuple[int, list[str]]] = []
        wrong: list[Row] = []
        try:
            some.extend((reader.line_num, cells) for cells in islice(reader, LINES))
            more = bool(some)
        except csv.Error as error:  # where a quote is wrong, what follows cannot be told apart
            wrong, more = [_no_csv(reader, error)], False
        plain = None if odd else _plain_csv(header, some, columns)
        yield plain or [(number, _csv_row(header, cells, mark)) for number, cells in some if _filled(cells)]
        if wrong:
            yield wrong


def _read_header(reader: Any, name: str, columns: tuple[str, str]) -> list[str] | None:
    """The names of the columns, from the first line that is not blank; None if there is none."""
    for cells in reader:
        if _filled(cells):
            return _header([cell.strip() for cell in cells], f"{name}, line {reader.line_num}", columns)
    return None


def _filled(cells: Sequence[str]) -> bool:
    return bool("".join(cells).strip())


def _no_csv(reader: Any, error: csv.Error) -> Row:
    return reader.line_num, f"not CSV ({error}); check its quotes."


def _plain_csv(header: list[str], rows: Sequence[tuple[int, list[str]]], columns: tuple[str, str]) -> Plain | None:
    cells = [cells for _, cells in rows]
    if set(map(len, cells)) != {2}:
        return None
    texts = dict(zip(header, zip(*cells, strict=True), strict=True))
    return _plain(list(texts[columns[0]]), list(texts[columns[1]]), rows[-1][0])


def _csv_row(header: list[str], cells: list[str], mark: str) -> Fields | str:
    if mark and (quoted := next((cell for cell in cells if cell.startswith(mark)), None)):
        return _OTHER_QUOTES.format(_NAMES.get(quoted.lstrip(mark)[0], "curly"))
    if len(cells) != len(header):
        return f"{len(cells)} cells where the header has {len(header)}; quote cells with commas."
    return _fields(header, list(map(_line_breaks, cells)))


def _fields(header: list[str], cells: list[str]) -> Fields:
    row: Fields = dict(zip(header, cells, strict=True))
    if "" in cells:
        row = {field: cell for field, cell in row.items() if cell}
    if "choices" in row:
        row["choices"] = _listed(row["choices"])
    return row


def _settled(match: re.Match[str], mark: str) -> str:
    """The start of a cell without the blanks before a quote; of a cell in other quotes, marked."""
    if match["blanks"]:
        return ""
    return mark + match["sign"] if match["other"] else match[0]


def _line_breaks(cell: str) -> str:
    return cell.replace("\r\n", "\n").replace("\r", "\n")


def _header(cells: list[str], where: str, columns: tuple[str, str]) -> list[str]:
    if not set(columns) <= set(cells) or len(set(cells)) < len(cells):
        named = " and ".join(f"`{one}`" for one in columns)
        raise TaskError(f"{where}: the header must name the columns, {named} among them, each one once.")
    return cells


def _listed(cell: str) -> Any:
    """A cell of choices: a list as JSON, else texts with `|` between them, which may begin with a bracket, too."""
    if cell.lstrip().startswith("["):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell.split("|") if "|" in cell else cell
    return cell.split("|")
