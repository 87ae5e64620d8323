"""Models that are made of other files, once: folders of the cache, each whole or not there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError

from explorer.core.errors import ModelError
from explorer.core.files import write_json

SOURCE_FILE = "source.json"


def made_once(folder: Path, record: Mapping[str, object], write: Callable[[Path], object]) -> None:
    """Have `write` fill the folder of a model, which appears only when complete; does nothing if it is there.

    One process makes a folder at a time, and removes what killed ones left of it.

    Args:
        folder: where the model goes.
        record: saved beside the weights: origin and revision of the weights.
        write: writes the model into an empty folder.

    Raises:
        ModelError: the cache cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            if not (folder / "config.json").is_file():
                _make(folder, record, write)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise ModelError(f"{folder.parent} cannot be written ({why}): set EIGENPRUNE_CACHE elsewhere.") from None


def _make(folder: Path, record: Mapping[str, object], write: Callable[[Path], object]) -> None:
    for stale in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(stale, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        write(staging)
        write_json(staging / SOURCE_FILE, dict(record))
        staging.replace(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
