"""Where the browser gets plotly.js from.

The `plotly` wheel ships `package_data/plotly.min.js`, which is served from where pip put it: so it always belongs to
the installed plotly. (A copy under `static/` would need a writable folder beside the main script, and a refresh with
each new plotly.)
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from functools import cache
from pathlib import Path

from explorer.ui.streamlit_internals import served_files

_NAME, _FILE = "plotly_js", "plotly.min.js"


@cache
def _plotly() -> tuple[Path, str]:
    """Folder and version of the installed plotly, without the cost of importing it."""
    spec = importlib.util.find_spec("plotly")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("The package plotly is missing: reinstall with `pip install -e .`.")
    return Path(spec.origin).parent, importlib.metadata.version("plotly")


def plotly_file() -> Path:
    """The plotly.js of the installed plotly.

    Raises:
        ModuleNotFoundError: if plotly is not installed.
        FileNotFoundError: if the installed plotly has no `plotly.min.js`.
    """
    root, version = _plotly()
    if not (root / "package_data" / _FILE).is_file():
        raise FileNotFoundError(f"plotly {version} has no package_data/{_FILE}: reinstall plotly.")
    return root / "package_data" / _FILE


def ensure_plotly_js() -> str:
    """Make the running server serve plotly.js and return its URL path (with the version, to beat caches).

    Cheap and safe to call on every run.

    Raises:
        ModuleNotFoundError: if plotly is not installed.
        FileNotFoundError: if the installed plotly has no `plotly.min.js`.
    """
    version = _plotly()[1]
    if not served_files.is_served(_NAME):
        served_files.serve(_NAME, version, plotly_file().parent)
    return f"{served_files.address(_NAME, _FILE)}?v={version}"
