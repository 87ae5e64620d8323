"""Relations: word pairs such as `walk, walked`, each a task of its own; what relates them is in no prompt.

A relation is a CSV file with the columns `input` and `output`, and perhaps `split` and `group` as task files have
them. Every pair is asked in the same wordings, or in a template with `{input}`.

Those of Todd et al. (Function Vectors in Large Language Models, ICLR 2024, arXiv 2310.15213; MIT licence) can be
fetched: the first MOST_PAIRS of each, from the paper's public repository or from a folder.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from explorer.core.config import settings
from explorer.core.errors import TaskError
from explorer.core.files import ordinary, typed_path, write_text
from explorer.core.progress import Progress
from explorer.tasks.base import SPLITS, Task
from explorer.tasks.cases import USUAL_CASES, Cases, Splits
from explorer.tasks.custom import file_content, file_text
from explorer.tasks.lines import Fields, Plain, csv_parts
from explorer.tasks.spec import Cut, Row, TaskSpec

PREFIX = "relation:"
COLUMNS = ("input", "output")
TEMPLATE = "Q: {input}\nA:"
WORDINGS = ("Input: {input}\nOutput:", "{input} ->", "{input} =")
UNSEEN = ("Word: {input}\nAnswer:", "{input} :")
MOST_PAIRS = 1200
REPOSITORY = "https://raw.githubusercontent.com/ericwtodd/function_vectors/main/dataset_files/abstractive"
LETTERS = 2000  # of a file in which its header is looked for
SECONDS = 30  # to wait for the repository
_SPLIT_FIELDS = ("split", "group")

Pair = tuple[str, str]


class PublishedPairs(NamedTuple):
    """A relation that can be fetched: its file in the repository, and `pairs_digest` of its pairs."""

    file: str
    digest: str


KNOWN: dict[str, PublishedPairs] = {
    "country-capital": PublishedPairs("country-capital.json", "145000601a5e6d17"),
    "person-sport": PublishedPairs("person-sport.json", "2096205088d01849"),
    "present-past": PublishedPairs("present-past.json", "2b74894826336fe6"),
    "singular-plural": PublishedPairs("singular-plural.json", "c129d8c5cdff5bb9"),
    "capitalize": PublishedPairs("capitalize.json", "bf8667c7573e9ba1"),
    "capitalize-first-letter": PublishedPairs("capitalize_first_letter.json", "1ea76c11f63d2a1e"),
    "antonym": PublishedPairs("antonym.json", "37d92bb9f25e88b4"),
    "english-french": PublishedPairs("english-french.json", "76c26528bf22971b"),
}


def is_relation(content: bytes, name: str) -> bool:
    """Whether a file that begins so is a relation: CSV whose header names both columns."""
    if not name.lower().endswith(".csv"):
        return False
    header = content[:LETTERS].decode("utf-8-sig", errors="ignore").lstrip().split("\n")[0]
    cells = {cell.strip().strip('"') for cell in header.split(",")}
    return set(COLUMNS) <= cells and "prompt" not in cells


def is_relation_file(path: Path) -> bool:
    """Whether the file at a path is one; no more of it is read than its header takes."""
    try:
        with ordinary(path).open("rb") as stream:
            return is_relation(stream.read(LETTERS), path.name)
    except OSError:
        return False


def read_relation(
    name: str, seed: int, *, template: str | None = None, data: Path | None = None, cases: Cases = USUAL_CASES
) -> Task:
    """The relation in a CSV file, or one of KNOWN from the folder `data` or from what was fetched.

    Raises:
        TaskError: it is not there, is no relation, or its cases or template do not fit.
    """
    path = typed_path(name)
    if path is None or not (path.suffix.lower() == ".csv" or path.is_file()):
        path = _known(name, data)
        return parse_relation(file_content(path), name=path.stem, seed=seed, template=template, cases=cases)
    if data is not None:
        raise TaskError(f"{path.name} holds its own examples: leave out the data folder {str(data)[:80]!r}.")
    return parse_relation(file_content(path), name=path.name, seed=seed, template=template, cases=cases)


def parse_relation(
    content: bytes, *, name: str, seed: int, template: str | None = None, cases: Cases = USUAL_CASES
) -> Task:
    """Build the task of a relation from the bytes of its file.

    Raises:
        TaskError: a line that is no pair, by its number; cases or a template that do not fit.
    """
    rows, named = _rows(file_text(content, name), name)

    def read(cut: Cut, data: Path | None) -> Splits[Row]:
        if not named:
            return cut.rows(rows)
        found: dict[str, list[Row]] = {split: [] for split in SPLITS}
        for row, split in zip(rows, named, strict=True):
            found[split].append(row)
        return tuple(found["train"]), tuple(found["validation"]), tuple(found["test"])

    spec = TaskSpec(
        f"{PREFIX}{name}", f"{len(rows):,} pairs of the relation {name.removesuffix('.csv')}", TEMPLATE,
        placeholders=("input",), read=read, wordings=WORDINGS, unseen=UNSEEN, comes_split=bool(named),
    )  # fmt: skip
    return spec.task(seed, template=template, cases=cases)


def fetched_folder() -> Path:
    """Where fetched relations are kept."""
    return settings().cache_dir / "tasks" / "relations"


def fetched() -> tuple[str, ...]:
    """The names of KNOWN that are on this machine."""
    return tuple(name for name in KNOWN if (fetched_folder() / f"{name}.csv").is_file())


def fetch_relations(data: Path | None = None, progress: Progress | None = None) -> dict[str, int]:
    """Bring the relations of KNOWN onto this machine; gives how many pairs each has.

    Args:
        data: a folder of their CSV files; None for the public repository.
        progress: told (relations, all).

    Raises:
        TaskError: a relation cannot be had, or holds other pairs than it should.
    """
    sizes = {}
    for done, (name, published) in enumerate(KNOWN.items(), start=1):
        pairs = _downloaded(name) if data is None else _pairs(data / f"{name}.csv")
        if (found := pairs_digest(pairs)) != published.digest:
            raise TaskError(
                f"the relation {name} holds other pairs ({found}) than expected ({published.digest}): try again later."
            )
        try:
            write_text(fetched_folder() / f"{name}.csv", _as_csv(pairs))
        except OSError as error:
            raise TaskError(
                f"{fetched_folder()} cannot be written ({error.strerror}): set EIGENPRUNE_CACHE elsewhere."
            ) from None
        sizes[name] = len(pairs)
        if progress is not None:
            progress(done, len(KNOWN))
    return sizes


def pairs_digest(pairs: Sequence[Pair]) -> str:
    """The first 16 letters of the SHA-256 of pairs."""
    return hashlib.sha256(json.dumps([list(pair) for pair in pairs]).encode()).hexdigest()[:16]


def _known(name: str, data: Path | None) -> Path:
    folder = fetched_folder() if data is None else data
    path = folder / f"{name}.csv"
    if name in KNOWN and path.is_file():
        return path
    if name in KNOWN:
        how = "run `eigenprune tasks fetch relations`" if data is None else "check the folder"
        raise TaskError(f"the relation {name} is not in {folder}: {how}, or give {PREFIX}FILE.csv.")
    raise TaskError(f"{name[:80]!r} is not a relation: give {PREFIX}FILE.csv, or one of {', '.join(KNOWN)}.")


def _rows(text: str, name: str) -> tuple[list[Row], list[str]]:
    """The rows of a file, and the split of each; no splits if none names one."""
    rows: list[Row] = []
    named: list[str] = []
    for part in csv_parts(text, name, COLUMNS):
        if isinstance(part, Plain):
            rows.extend(map(_row, part.prompts, part.answers))
            continue
        for number, fields in part:
            try:
                row, split = _read_row(fields)
            except TaskError as error:
                raise TaskError(f"{name}, line {number}: {error}") from None
            rows.append(row)
            named += [] if split is None else [split]
    if not rows:
        raise TaskError(f"{name} holds no pairs: add lines such as walk,walked.")
    if named and len(named) < len(rows):
        raise TaskError(
            f"{name} names a split on {len(named)} of {len(rows)} lines: name it on all of them or on none."
        )
    return rows, named


def _read_row(fields: Fields | str) -> tuple[Row, str | None]:
    if isinstance(fields, str):
        raise TaskError(fields)
    if unknown := sorted(fields.keys() - {*COLUMNS, *_SPLIT_FIELDS}):
        raise TaskError(
            f"unknown field {unknown[0][:40]!r}; a relation has {', '.join(COLUMNS)} and perhaps "
            f"{', '.join(_SPLIT_FIELDS)}."
        )
    texts = [str(fields.get(column, "")).strip() for column in COLUMNS]
    if not all(texts):
        raise TaskError("a relation has an input and an output on every line.")
    split = fields.get("split")
    if split is not None and split not in SPLITS:
        raise TaskError(f"split {str(split)[:40]!r} is not known; use one of {', '.join(SPLITS)}.")
    return _row(*texts, group=str(fields.get("group", ""))), split


def _row(given: str, output: str, *, group: str = "") -> Row:
    given, output = given.strip(), output.strip()
    return Row({"input": given}, f" {output}", twins=f"group {group}" if group else "", operands=(given,))


def _pairs(path: Path) -> list[Pair]:
    rows, _ = _rows(file_text(file_content(path), path.name), path.name)
    return [(row.values["input"], row.answer[1:]) for row in rows]


def _downloaded(name: str) -> list[Pair]:
    """The pairs of a relation from the public repository, where they are JSON."""
    url = f"{REPOSITORY}/{KNOWN[name].file}"
    try:
        with urlopen(url, timeout=SECONDS) as answer:
            found = json.load(answer)
        return [(str(one["input"]).strip(), str(one["output"]).strip()) for one in found[:MOST_PAIRS]]
    except (URLError, OSError, ValueError, KeyError, TypeError) as error:
        raise TaskError(
            f"the relation {name} could not be had from {url} ({str(error)[:120]}): check the network, or give a "
            "folder of the CSV files with --data."
        ) from None


def _as_csv(pairs: Sequence[Pair]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *pairs])
    return text.getvalue()
