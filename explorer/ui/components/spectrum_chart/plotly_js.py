"""Where the browser gets plotly.js from.

The ``plotly`` wheel ships ``package_data/plotly.min.js``. Streamlit serves the files of an installed component
from the ``asset_dir`` of its manifest, under ``/_stcore/bidi-components/<name>/``. Registering plotly's own
``package_data`` as such a folder makes Streamlit serve the file where pip put it: nothing is copied, nothing
leaves the machine, a read-only project folder works, ``server.enableStaticServing`` is not needed, and the file
always belongs to the installed plotly. (A copy under ``static/`` would need a writable folder beside the main
script, and a refresh with each new plotly.)

Streamlit finds manifests in installed packages by itself, but only in packages that depend on Streamlit, which
plotly does not. Hence the explicit registration: it calls what Streamlit's own discovery calls at start-up.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from functools import cache
from pathlib import Path

import streamlit as st
from streamlit.components.v2.get_bidi_component_manager import get_bidi_component_manager
from streamlit.components.v2.manifest_scanner import ComponentConfig, ComponentManifest

_PACKAGE, _COMPONENT, _FILE = "eigenprune", "plotly_js", "plotly.min.js"


@cache
def _plotly() -> tuple[Path, str]:
    """Folder and version of the installed plotly, without the cost of importing it."""
    spec = importlib.util.find_spec("plotly")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("The package plotly is missing: reinstall with `pip install -e .`.")
    return Path(spec.origin).parent, importlib.metadata.version("plotly")


def ensure_plotly_js() -> str:
    """Make the running server serve plotly.js and return its URL path (with the version, to beat caches).

    Cheap and safe to call on every run.

    Raises:
        ModuleNotFoundError: if plotly is not installed.
        FileNotFoundError: if the installed plotly has no ``plotly.min.js``.
    """
    root, version = _plotly()
    name = f"{_PACKAGE}.{_COMPONENT}"
    manager = get_bidi_component_manager()
    if manager.get_component_path(name) is None:
        if not (root / "package_data" / _FILE).is_file():
            raise FileNotFoundError(f"plotly {version} has no package_data/{_FILE}: reinstall plotly.")
        config = ComponentConfig(name=_COMPONENT, asset_dir="package_data")
        manager.register_from_manifest(ComponentManifest(_PACKAGE, version, [config]), root)
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    prefix = f"/{base}" if base else ""
    return f"{prefix}/_stcore/bidi-components/{name}/{_FILE}?v={version}"
