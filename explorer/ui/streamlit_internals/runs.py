"""The script run that the calling thread belongs to: Streamlit's script run context."""

from __future__ import annotations

from collections.abc import Callable

from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_run_context import ScriptRunContext


def inside() -> bool:
    """Whether this thread runs a page's script, a callback or a fragment."""
    return get_script_run_ctx(suppress_warning=True) is not None


def went_back() -> bool:
    """Whether this run was caused by the browser's Back or Forward."""
    context = get_script_run_ctx(suppress_warning=True)
    return context is not None and context.is_history_navigation


def connection() -> str:
    """Streamlit's id of the browser connection that this run is for."""
    return _context().session_id


def forgetting() -> Callable[[], None]:
    """What empties all that Streamlit holds for this run's connection; to be called once that is closed.

    Deleting key by key, the public way, leaves the widgets' callbacks, which hold what their page worked with.
    """
    context = _context()
    state, fragments = context.session_state._state, context.fragment_storage

    def forget() -> None:
        state.clear()
        state._new_widget_state.widget_metadata.clear()
        fragments.clear()

    return forget


def _context() -> ScriptRunContext:
    context = get_script_run_ctx()
    assert context is not None, "only a script run has a connection"
    return context
