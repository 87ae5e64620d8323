"""Snapshots from the Hugging Face hub; the hub's own cache keeps them and resumes interrupted downloads."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from explorer.core.progress import Progress

PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


def snapshot(repo: str, revision: str | None = None, progress: Progress | None = None) -> Path:
    """Local folder of a model's configuration, tokenizer and safetensors; its name is the commit.

    Raises whatever the hub's client raises; `Stopped` if `progress` does.
    """
    from huggingface_hub import snapshot_download

    bars = None if progress is None else reporting(progress)
    return Path(
        snapshot_download(repo, revision=revision, allow_patterns=list(PATTERNS), etag_timeout=10, tqdm_class=bars)
    )


def reporting(progress: Progress) -> type[Any]:
    """A tqdm class that draws nothing and tells `progress` the bytes."""
    from tqdm import tqdm

    class Reporting(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)  # the hub's own addition to tqdm's options
            super().__init__(*args, **{**options, "file": StringIO()})

        def update(self, n: float | None = 1) -> bool | None:
            """Count, and pass bytes on."""
            drawn: bool | None = super().update(n)
            if self.unit == "B" and self.total:
                progress(min(int(self.n), int(self.total)), int(self.total))
            return drawn

    return Reporting


def reason(error: Exception) -> str:
    """The first line of an error, short enough for a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
