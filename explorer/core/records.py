"""Results as plain values: what `--json` prints and what files hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from explorer.core.finite import plain

FOR_PEOPLE = {"for_people": True}  # metadata of a field that is shown, but is no key


class Record:
    """A dataclass whose fields, but for those that are `FOR_PEOPLE`, are the keys of its plain values."""

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """The keys of `as_dict`, in order."""
        return tuple(one.name for one in fields(cls) if not one.metadata.get("for_people"))  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, those of dataclasses in them as well."""
        return {name: _plain(getattr(self, name)) for name in self.keys()}


def json_text(values: Mapping[str, Any], indent: int | None = None) -> str:
    """Plain values as JSON; numbers that it cannot hold are null."""
    return json.dumps(plain(values), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.as_dict()
    if hasattr(value, "model_dump"):  # pydantic's, which takes a while to import
        return value.model_dump(mode="json")
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
