"""`app`: start the explorer in the browser."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from explorer.core.errors import SettingsError

ROOT = Path(__file__).resolve().parents[2]


def open_app(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on this machine.")] = 8501,
) -> None:
    """Open the explorer; it listens on localhost only. Stop it with Ctrl-C.

    Example: `eigenprune app --port 8600`
    """
    script = ROOT / "app.py"
    if not script.is_file():
        raise SettingsError(f"there is no {script}: run this from a checkout of the repository, which has the pages.")
    # The server takes this process's place, so that signals reach it; it reads .streamlit/config.toml where it starts.
    os.chdir(ROOT)
    options = ("--server.port", str(port), "--server.address", "127.0.0.1")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", str(script), *options])
