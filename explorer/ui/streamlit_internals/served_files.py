"""A folder of another package, served beside the app: Streamlit's registry of components.

Streamlit serves the files of an installed component from the `asset_dir` of its manifest, under
`/_stcore/bidi-components/<name>/`, and finds manifests in packages that depend on Streamlit. For any other package the
same is called here that its own discovery calls at start-up: nothing is copied, nothing leaves the machine, a read-only
project folder works, and `server.enableStaticServing` is not needed.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.components.v2.get_bidi_component_manager import get_bidi_component_manager
from streamlit.components.v2.manifest_scanner import ComponentConfig, ComponentManifest

_PACKAGE = "eigenprune"


def is_served(name: str) -> bool:
    """Whether a folder is served under a name."""
    return get_bidi_component_manager().get_component_path(f"{_PACKAGE}.{name}") is not None


def serve(name: str, version: str, folder: Path) -> None:
    """Serve the files of a folder under a name from now on."""
    manifest = ComponentManifest(_PACKAGE, version, [ComponentConfig(name=name, asset_dir=folder.name)])
    get_bidi_component_manager().register_from_manifest(manifest, folder.parent)


def address(name: str, file: str) -> str:
    """The URL path of a file of a folder that is served under a name."""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"{f'/{base}' if base else ''}/_stcore/bidi-components/{_PACKAGE}.{name}/{file}"
