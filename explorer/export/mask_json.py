"""The mask file itself: JSON, described by assets/mask.schema.json."""

from __future__ import annotations

import json
from typing import Any

from explorer.export.base import Export
from explorer.masks.mask import Mask


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the mask file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Eigenpruning mask, schema version 1, or 2 if it has labels",
        **{name: part for name, part in Mask.model_json_schema().items() if name != "title"},
    }


def schema_text() -> str:
    """The text of assets/mask.schema.json."""
    return json.dumps(schema(), indent=2) + "\n"


MASK_JSON = Export(
    label="mask",
    about="The mask as JSON, with what it was made from. The command line and Python read it.",
    suffix=".mask.json",
    mime="application/json",
    encode=lambda mask: mask.to_json().encode(),
)
