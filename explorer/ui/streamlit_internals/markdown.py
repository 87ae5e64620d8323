"""Text that Streamlit's Markdown shows as it is."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"(?:https?|ftp|mailto|xmpp):|www(?=\.)|@(?=\w)", re.IGNORECASE)
_MARKUP = re.compile(r"[\\`*_\[\]<>$~#|!&:]")


def literal(text: str) -> str:
    """`text` so that Markdown shows it as it is: a file's name or content must not become a link or an image.

    Addresses become links whatever is escaped in them, so an invisible word joiner stands in them.
    """
    return _MARKUP.sub(r"\\\g<0>", _ADDRESS.sub("\\g<0>\u2060", " ".join(text.split())))
