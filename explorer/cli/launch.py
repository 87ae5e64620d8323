"""`app`: start the explorer in the browser."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from explorer.core.config import HOME
from explorer.core.errors import SettingsError


def open_app(
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on this machine.")] = 8501,
) -> None:
    """Open the explorer; it listens on localhost only. Stop it with Ctrl-C.

    Example: `eigenprune app --port 8600`
    """
    script = HOME / "app.py"
    if not script.is_file():
        raise SettingsError(f"there is no {script}: install a wheel, or run this from a complete checkout.")
    # The server takes this process's place, so that signals reach it, and stays in its folder, so that paths on pages
    # mean what they mean here. Its settings lie beside the script; -P: no module of that folder hides a library's.
    options = ("--server.port", str(port), "--server.address", "127.0.0.1")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "streamlit", "run", str(script), *options])
