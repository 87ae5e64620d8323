"""Places on the page: their types, their names in HTML, and what is raised about them.

1. What an element returns is a `DeltaGenerator`, and drawing through that one takes the element's place.
2. An element with a key has a class of HTML named after it.
3. A fragment's key that is not on the page raises `NoSuchFragment` in `st.rerun`; a key drawn twice, `DrawnTwice`.
"""

from __future__ import annotations

import re

from streamlit.delta_generator import DeltaGenerator
from streamlit.elements.lib.mutable_tab_container import TabContainer
from streamlit.errors import StreamlitAPIException as NoSuchFragment
from streamlit.errors import StreamlitDuplicateElementKey as DrawnTwice

__all__ = ["DeltaGenerator", "DrawnTwice", "NoSuchFragment", "TabContainer", "class_name"]


def class_name(key: str) -> str:
    """A key as Streamlit writes it into the class of its element, after `st-key-`."""
    return re.sub(r"[^a-zA-Z0-9_-]", "-", key.strip())
