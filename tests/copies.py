"""Copies of the bundled model that have its weights and compute something else, as Hugging Face folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from explorer.core.config import ASSETS


def bundled(folder: Path, **changes: Any) -> Path:
    """The bundled model with other entries in its config.json; None takes one out."""
    shutil.copytree(ASSETS / "bundled", folder)
    edit(folder / "config.json", **changes)
    return folder


def with_tokenizer(folder: Path, **changes: Any) -> Path:
    """The bundled model with other entries in its tokenizer.json."""
    shutil.copytree(ASSETS / "bundled", folder)
    edit(folder / "tokenizer.json", **changes)
    return folder


def edit(path: Path, **changes: Any) -> None:
    """Change a JSON file; None takes an entry out."""
    found = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({key: one for key, one in found.items() if one is not None}), encoding="utf-8")
