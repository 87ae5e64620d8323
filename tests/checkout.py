"""A copy of the checkout: to build it, or to change it and see what happens."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = (
    ".gitignore", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "app.py",
    "constraints.txt", "mkdocs.yml", "pyproject.toml",
)  # fmt: skip
FOLDERS = (".streamlit", "assets", "docs", "explorer", "pages", "scripts", "tests")


def copied(folder: Path) -> Path:
    """Copy what the project is made of, without what is made from it."""
    folder.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return folder
