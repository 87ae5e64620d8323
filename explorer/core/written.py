"""Results that are written as JSON and read back: frozen dataclasses whose fields are the keys.

A number that JSON cannot hold is not a number (NaN) in the object and null in the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from explorer.core.finite import plain


def _from_json(value: Any) -> Any:
    if value is None:
        return math.nan
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("Input should be a finite number")
    return value


Number = Annotated[float, BeforeValidator(_from_json)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class JsonRecord:
    """A dataclass that is checked field by field when a pydantic `TypeAdapter` reads it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, as plain values."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}  # type: ignore[arg-type]

    def to_json(self, indent: int = 1) -> str:
        """The text of a file that holds it."""
        return json.dumps(plain(self.as_dict()), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, JsonRecord):
        return value.as_dict()
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
