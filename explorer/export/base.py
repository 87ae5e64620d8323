"""What an export format is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from explorer.masks.mask import Mask


@dataclass(frozen=True)
class Export:
    """A format: what it is called, what its files are called, and how a mask becomes one.

    Attributes:
        label: shown on buttons, behind "Download" or "Export" where there are several formats.
        about: what the file holds and who reads it, in a sentence or two.
        suffix: file suffix with its dot.
        mime: media type of a download.
        encode: the file's bytes.
    """

    label: str
    about: str
    suffix: str
    mime: str
    encode: Callable[[Mask], bytes]
