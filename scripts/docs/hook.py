"""What mkdocs is handed besides the files of docs/: the notebook as a page, and the app's icon."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add them; the notebook itself stays, to be downloaded."""
    from scripts.docs.notebook import NOTEBOOK, as_page

    files.append(File.generated(config, "hidden-ability.md", content=as_page(NOTEBOOK.read_text(encoding="utf-8"))))
    files.append(File.generated(config, "images/icon.svg", abs_src_path=str(ROOT / "assets" / "icon.svg")))
    return files
