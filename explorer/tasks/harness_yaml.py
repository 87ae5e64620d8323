"""Task files of the lm-evaluation-harness (Gao et al.), read as data: what one would run as code is refused by name.

Files may include others. Fields are those of version 0.4 of the harness; the ones that decide prompts, answers and
documents are kept, what only its own figures need is left out, and what no task here can represent is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from explorer.core.errors import TaskError
from explorer.core.files import ordinary

MAX_BYTES = 1_000_000
MOST_INCLUDES = 20
OUTPUT_TYPES = ("multiple_choice", "loglikelihood")
# What decides the documents, and how they are asked.
DATA_FIELDS = frozenset({"dataset_path", "dataset_name", "dataset_kwargs"})
ASKED_FIELDS = frozenset(
    {
        "task", "output_type", "training_split", "validation_split", "test_split", "fewshot_split", "fewshot_config",
        "num_fewshot", "doc_to_text", "doc_to_target", "doc_to_choice", "description", "target_delimiter",
        "fewshot_delimiter", "gen_prefix",
    }
)  # fmt: skip
# What changes no prompt and no answer: names, and what the harness' own figures are made with.
LEFT_OUT = frozenset(
    {
        "task_alias", "tag", "metadata", "metric_list", "generation_kwargs", "should_decontaminate",
        "doc_to_decontamination_query", "repeats",
    }
)  # fmt: skip
_REFUSED: Mapping[str, str] = {
    "class": "a task written in Python",
    "group": "a group of tasks: name one of them",
    "task_list": "a list of tasks: name one of them",
    "process_docs": "code that changes the documents",
    "process_results": "code that counts what is right",
    "custom_dataset": "code that makes the documents",
    "use_prompt": "a prompt of another library",
    "doc_to_image": "images",
    "doc_to_audio": "sound",
    "unsafe_code": "answers that are run as code",
    "filter_list": "filters of generated answers",
}
_FEWSHOT_REFUSED = ("process_docs",)


@dataclass(frozen=True)
class Code:
    """Where a file names a Python function.

    Attributes:
        function: its name in the file.
    """

    function: str


class _DataLoader(yaml.SafeLoader):  # type: ignore[misc]  # it comes without types
    """YAML as plain data; a function that a file names stays its name."""


def _function(loader: yaml.SafeLoader, node: yaml.Node) -> Code:
    return Code(str(node.value))


_DataLoader.add_constructor("!function", _function)


def read_fields(path: Path) -> dict[str, Any]:
    """The fields of a task file, with those of the files that it includes.

    Raises:
        TaskError: a file that cannot be read, is no task, or asks for what no task here can represent.
    """
    return checked(merged_fields(path), path.name)


def merged_fields(path: Path) -> dict[str, Any]:
    """The fields of a YAML file, with those of the files that it includes, whatever they ask for.

    Raises:
        TaskError: a file that cannot be read as data.
    """
    return _merged(path.resolve(), ())


def parse_fields(content: bytes, name: str) -> dict[str, Any]:
    """The fields of a task file from its bytes, where no other file lies beside it.

    Raises:
        TaskError: as `read_fields`, and for a file that includes others.
    """
    fields = _parsed(content, name)
    if "include" in fields:
        raise TaskError(f"{name} includes {str(fields['include'])[:60]!r}, which did not come with it: give its path.")
    return checked(fields, name)


def code_in(value: Any) -> tuple[str, str] | None:
    """Where fields name a function, as a path of fields, and which; None if they name none."""
    return _code(value, "", set())


def checked(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """The fields, if a task here can represent them."""
    if (found := code_in(fields)) is not None:
        raise TaskError(
            f"{name} runs code for {found[0]} (!function {found[1][:60]}), which is never run here: "
            "write the documents as the function makes them, and leave it out."
        )
    for field, what in _REFUSED.items():
        if fields.get(field) not in (None, False, "", []):
            raise TaskError(f"{name} has {field} ({what}), which no task here can represent: leave it out.")
    if not isinstance(fields.get("task"), str):
        raise TaskError(f"{name} names no single task: give `task` a name, and ask for one task at a time.")
    unknown = sorted(map(str, fields.keys() - DATA_FIELDS - ASKED_FIELDS - LEFT_OUT - _REFUSED.keys()))
    if unknown:
        raise TaskError(f"{name} has the field {unknown[0][:40]!r}, which the harness does not know: leave it out.")
    kind = fields.get("output_type", "generate_until")
    if kind not in OUTPUT_TYPES:
        raise TaskError(
            f"{name} has output_type {str(kind)[:40]}, which no task here can represent: give one of "
            f"{' or '.join(OUTPUT_TYPES)}."
        )
    if fields.get("repeats") not in (None, 1):
        raise TaskError(f"{name} repeats its documents {fields['repeats']} times: leave out `repeats`.")
    _check_shown(fields.get("fewshot_config"), name)
    return fields


def _check_shown(shown: Any, name: str) -> None:
    if shown is None:
        return
    if not isinstance(shown, dict):
        raise TaskError(f"{name} has a fewshot_config that is no mapping: give its fields.")
    for field in _FEWSHOT_REFUSED:
        if shown.get(field) is not None:
            raise TaskError(f"{name} has fewshot_config.{field}, which no task here can represent: leave it out.")


def _merged(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The fields of a file over those of the files that it includes, the last of these first."""
    if path in above or len(above) > MOST_INCLUDES:
        raise TaskError(f"{path.name} includes itself, directly or over others: take that include out.")
    try:
        if ordinary(path).stat().st_size > MAX_BYTES:
            raise TaskError(f"{path} is larger than task files of the harness may be ({MAX_BYTES:,} bytes).")
        fields = _parsed(path.read_bytes(), path.name)
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}): check the path.") from None
    included = fields.pop("include", None) or []
    merged: dict[str, Any] = {}
    for one in included if isinstance(included, list) else [included]:
        other = _merged((path.parent / str(one)).resolve(), (*above, path))
        other.pop("task_list", None)  # tasks of that file alone
        merged |= other
    return merged | fields


def _parsed(content: bytes, name: str) -> dict[str, Any]:
    if len(content) > MAX_BYTES:
        raise TaskError(f"{name} is larger than task files of the harness may be ({MAX_BYTES:,} bytes).")
    try:
        found = yaml.load(content, Loader=_DataLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        what = " ".join(str(error).split())[:120]
        raise TaskError(f"{name} is no YAML that can be read as data ({what}): check the file.") from None
    if not isinstance(found, dict):
        raise TaskError(f"{name} is no task file of the harness: expected fields such as `task` and `doc_to_text`.")
    return {str(field): value for field, value in found.items()}


def _code(value: Any, where: str, looked: set[int]) -> tuple[str, str] | None:
    """The first function; parts that stand in several places (YAML's aliases) are looked at once."""
    if isinstance(value, Code):
        return where, value.function
    if not isinstance(value, (dict, list)) or id(value) in looked:
        return None
    looked.add(id(value))
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for name, part in parts:
        if (found := _code(part, f"{where}.{name}".lstrip("."), looked)) is not None:
            return found
    return None
