"""Documents of a task file of the lm-evaluation-harness: local files or a dataset of the hub; no code, no pickles."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from explorer.core.errors import TaskError, in_a_line
from explorer.core.files import ordinary, typed_path

FORMATS = ("json", "csv", "parquet")
# What may be said of them beside their files; `trust_remote_code` has no meaning any more, and is passed over.
FILE_OPTIONS = frozenset({"data_files", "field", "sep", "delimiter", "quotechar", "column_names", "skiprows"})
HUB_OPTIONS = frozenset({"revision"})
_PASSED_OVER = frozenset({"trust_remote_code"})
_HUB_ID = re.compile(r"[\w.-]{1,100}(/[\w.-]{1,100})?", re.ASCII)


def documents(fields: Mapping[str, Any], name: str, folder: Path | None) -> Any:
    """The documents of a task in their splits, as a `datasets.DatasetDict`.

    Args:
        fields: of the task file: `dataset_path`, `dataset_name` and `dataset_kwargs`.
        name: of the file, for messages.
        folder: where relative paths of files begin that are not there from the working folder on; None: nowhere else.

    Raises:
        TaskError: data that are not there, or that would have to be unpacked by code.
    """
    path, config = fields.get("dataset_path"), fields.get("dataset_name")
    options = fields.get("dataset_kwargs") or {}
    if not isinstance(path, str) or not isinstance(options, dict) or not isinstance(config, str | None):
        raise TaskError(f"{name} does not say where its documents are: give dataset_path, such as json.")
    options = {str(key): value for key, value in options.items() if key not in _PASSED_OVER}
    local = path in FORMATS
    check_source(path, name)
    known = FILE_OPTIONS if local else HUB_OPTIONS
    if unknown := sorted(options.keys() - known):
        raise TaskError(
            f"{name} has dataset_kwargs.{unknown[0][:40]}, which is not read here: give some of "
            f"{', '.join(sorted(known))}."
        )
    if local:
        return _of_files(path, config, options, name=name, folder=folder)
    return _of_hub(path, config, options, name=name)


def check_source(path: object, name: str) -> None:
    """Refuse documents that are no plain data of a known kind, such as pickles.

    Raises:
        TaskError: `dataset_path` is neither one of FORMATS nor the id of a dataset of the hub.
    """
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    if path in FORMATS:
        return
    other = not isinstance(path, str) or path in _PACKAGED_DATASETS_MODULES or not _HUB_ID.fullmatch(path)
    if other or Path(str(path)).exists():
        raise TaskError(
            f"{name} has dataset_path {str(path)[:80]!r}, which is not read here: give {', '.join(FORMATS)} with "
            "data_files, or the id of a dataset of the hub."
        )


def _of_files(kind: str, config: str | None, options: dict[str, Any], *, name: str, folder: Path | None) -> Any:
    files = options.pop("data_files", None)
    if not files:
        raise TaskError(f"{name} has dataset_path {kind} and no data_files: name the files in dataset_kwargs.")
    places = _places(files, name, folder)
    from datasets import load_dataset

    with tempfile.TemporaryDirectory() as cache, _quiet():  # files may change: no copy of them is kept
        try:
            return load_dataset(kind, config, data_files=places, cache_dir=cache, keep_in_memory=True, **options)
        except Exception as error:  # each reader fails in its own way
            what = _reason(error)
            raise TaskError(f"the documents of {name} cannot be read as {kind} ({what}): check them.") from None


def _of_hub(path: str, config: str | None, options: dict[str, Any], *, name: str) -> Any:
    from datasets import load_dataset

    with _quiet():
        try:
            return load_dataset(path, config, **options)
        except Exception as error:  # no network, no such dataset, one that is made by code
            raise TaskError(
                f"the documents of {name}, {path[:80]} of the hub, cannot be had ({_reason(error)}): fetch them where "
                "there is a network, or give dataset_path json with data_files."
            ) from None


def _places(files: Any, name: str, folder: Path | None) -> Any:
    """Paths of data files, which are there, as `datasets` takes them: one, a list, or by split."""
    if isinstance(files, dict):
        return {str(split): _places(some, name, folder) for split, some in files.items()}
    if isinstance(files, list):
        return [_places(one, name, folder) for one in files]
    if not isinstance(files, str) or "://" in files:
        raise TaskError(f"{name} has the data file {str(files)[:80]!r}: give the path of a file of this machine.")
    typed = typed_path(files)
    for place in () if typed is None else (typed, *(() if folder is None else (folder / typed,))):
        try:
            if ordinary(place).is_file():
                return str(place.resolve())
        except OSError:
            continue
    raise TaskError(f"the data file {files[:80]!r} of {name} is not there: check its path.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without bars of `datasets`; what the user has set stays."""
    import datasets

    silent = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not silent:
            datasets.enable_progress_bars()


def _reason(error: Exception) -> str:
    return in_a_line(error if error.__cause__ is None else error.__cause__)
