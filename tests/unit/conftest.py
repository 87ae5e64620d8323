"""Unit tests have cache and workspace for themselves, and no network but this machine's own."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

LOCAL = ("localhost", "127.0.0.1", "::1", b"localhost", b"127.0.0.1", None, "", "0.0.0.0")


@pytest.fixture(autouse=True)
def _own_folders(isolated_folders: Path) -> None:
    """Every unit test runs in isolated folders."""


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of other hosts cannot be looked up, as on a machine without network."""
    look_up = socket.getaddrinfo

    def local_only(host: Any, *arguments: Any, **options: Any) -> Any:
        if host not in LOCAL:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", local_only)
