"""The rows of a task file: JSON lines or CSV as text, to fields by name, each with its line number.

What cannot be read without a guess is not guessed at: a row that is wrong comes as the sentence that says so. CSV is as
RFC 4180 has it (cells in double quotes may hold commas, line breaks and doubled quotes), and two of its common
misspellings are settled here: blanks in front of a quoted cell are taken away, and cells in other quotes (single,
curly, backticks) are refused, so that no quote becomes part of an answer.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from io import StringIO
from typing import Any

from explorer.core.errors import TaskError

Fields = dict[str, Any]
Row = tuple[int, Fields | str]  # line number, and its fields or what is wrong with it

_NOT_JSON = 'not a JSON object; expected {"prompt": ..., "answer": ...}.'
_OTHER_QUOTES = "a cell in {} quotes: CSV has double quotes (put such a cell into them if its quotes are meant)."
# Objects come as their pairs, so that a key named twice shows.
_scan: Any = json.JSONDecoder(object_pairs_hook=tuple).scan_once  # type: ignore[attr-defined]
_NAMES = {"'": "single", "`": "backtick"}
_BLANK = r"(?:[^\S\r\n]|[\u200b-\u200d\u2060\ufeff])"  # those that no one sees, too
_INSIDE = rf"""(?:(?!,{_BLANK}*")[^\r\n])*?"""  # up to the end of the line, but not over the start of a quoted cell
# At the start of a cell: a quoted one, which is passed over, or blanks and a quote, or a cell in other quotes, which
# may hold commas.
_START = re.compile(
    rf"""(?:^|(?<=[,\r\n]))(?:
        "(?:[^"]|"")*"
        | (?P<blanks>{_BLANK}+)(?=")
        | (?P<other>{_BLANK}*(?P<sign>'{_INSIDE}'|`{_INSIDE}`|[\u201c\u201e\u201d]{_INSIDE}[\u201c\u201d]
            |[\u2018\u201a\u2019]{_INSIDE}[\u2018\u2019])){_BLANK}*(?=[,\r\n]|$)
    )""",
    re.VERBOSE,
)
_ODD_START = re.compile(
    rf"""(?:^|[,\r\n])(?:{_BLANK}+"|{_BLANK}*['`\u2018-\u201f])"""
)  # whether `_START` needs to look
_MARKS = range(0xF0000, 0xFFFFE)  # letters that Unicode gives no meaning


def json_rows(lines: Iterable[str]) -> Iterator[Row]:
    """Rows of JSON lines; blank ones are passed over."""
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text:
            yield number, _object(text)


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


def csv_rows(text: str, name: str) -> Iterator[Row]:
    """Rows of CSV with a header line; an empty cell is a field that is not there, line breaks in cells are line feeds.

    Raises:
        TaskError: a header without `prompt` and `answer`, or with a column twice.
    """
    mark = ""
    if _ODD_START.search(text):
        mark = next(letter for letter in map(chr, _MARKS) if letter not in text)
        text = _START.sub(lambda match: _settled(match, mark), text)
    breaks, header = "\r" in text, list[str]()
    csv.field_size_limit(max(len(text), csv.field_size_limit()))
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            number = reader.line_num
            if not "".join(cells).strip():
                continue
            if not header:
                header = _header([cell.strip() for cell in cells], f"{name}, line {number}")
            elif mark and (quoted := next((cell for cell in cells if cell.startswith(mark)), None)):
                yield number, _OTHER_QUOTES.format(_NAMES.get(quoted.lstrip(mark)[0], "curly"))
            elif len(cells) != len(header):
                what = f"{len(cells)} cells where the header has {len(header)}"
                yield number, f"{what}; quote cells with commas."
            else:
                plain = [_line_breaks(cell) for cell in cells] if breaks else cells
                yield number, _fields(header, plain)
    except csv.Error as error:  # where a quote is wrong, what follows cannot be told apart
        yield reader.line_num, f"not CSV ({error}); check its quotes."


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


def _header(cells: list[str], where: str) -> list[str]:
    if not {"prompt", "answer"} <= set(cells) or len(set(cells)) < len(cells):
        raise TaskError(f"{where}: the header must name the columns, `prompt` and `answer` among them, each one once.")
    return cells


def _listed(cell: str) -> Any:
    """A cell of choices: a list as JSON, else texts with `|` between them, which may begin with a bracket, too."""
    if cell.lstrip().startswith("["):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell.split("|") if "|" in cell else cell
    return cell.split("|")
