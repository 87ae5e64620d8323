"""Results that are written as JSON and read back: frozen dataclasses whose fields are the keys.

A number that JSON cannot hold is not a number (NaN) in the object and null in the file.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field

from explorer.core.records import Record, json_text


def _from_json(value: Any) -> Any:
    if value is None:
        return math.nan
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("Input should be a finite number")
    return value


Number = Annotated[float, BeforeValidator(_from_json)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class JsonRecord(Record):
    """A dataclass that is checked field by field when a pydantic `TypeAdapter` reads it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    def to_json(self, indent: int = 1) -> str:
        """The text of a file that holds it."""
        return json_text(self.as_dict(), indent) + "\n"
