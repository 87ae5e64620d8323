"""The server's connections to browsers: Streamlit's runtime."""

from __future__ import annotations

from streamlit import runtime


def watched() -> bool:
    """Whether there is a server, so that a browser may be showing what is drawn."""
    return runtime.exists()


def is_open(connection: str) -> bool:
    """Whether a connection is open; one that was closed may come back."""
    return runtime.get_instance().is_active_session(connection)


def close(connection: str) -> None:
    """Close a connection for good: Streamlit would keep its state until another one is closed."""
    runtime.get_instance().close_session(connection)
