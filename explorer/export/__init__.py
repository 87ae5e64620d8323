"""Formats in which a mask leaves the tool: one file per format, one table."""

from __future__ import annotations

from explorer.export.base import Export
from explorer.export.mask_json import MASK_JSON

__all__ = ["EXPORTS", "Export"]

EXPORTS: dict[str, Export] = {"mask": MASK_JSON}
