"""The mask file's schema is the published one, and it accepts and refuses what the reader does."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from explorer.core.config import ASSETS
from explorer.core.keys import Kind
from explorer.export import EXPORTS
from explorer.export.mask_json import schema_text
from explorer.masks.mask import parse_mask
from explorer.models import View
from explorer.search import prune
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests.unit.test_mask_files import BROKEN, VALID, broken

# What a JSON Schema cannot say; the reader checks it.
BEYOND_SCHEMA = {"a value twice", "per head and stacked", "a matrix that is no key", "a head of an MLP matrix"}
# Not JSON at all, strictly: NaN and Infinity.
NOT_JSON = {"a sigma that is no number", "an endless sigma", "a mean that is no number"}


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads((ASSETS / "mask.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schema_is_the_codes() -> None:
    assert (ASSETS / "mask.schema.json").read_text(encoding="utf-8") == schema_text()


@pytest.mark.parametrize("mode", ["freeze", "zero"])
def test_real_masks_fit_the_schema(view: View, tiny_task: Task, svds: SvdCache, validator: Any, mode: Any) -> None:
    for kinds in ([Kind.Q, Kind.K], [Kind.OUT]):
        mask = prune(view, tiny_task, svds, kinds=kinds, count=5, mode=mode)
        for one in (mask, mask.scaled(0.5)):
            validator.validate(json.loads(EXPORTS["mask"].encode(one)))
    validator.validate(VALID)


@pytest.mark.parametrize("name", sorted(set(BROKEN) - BEYOND_SCHEMA - NOT_JSON))
def test_broken_masks_do_not_fit_the_schema(validator: Any, name: str) -> None:
    mask, _ = broken(name)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(mask)


@pytest.mark.parametrize("name", sorted(NOT_JSON))
def test_masks_with_what_is_no_number_are_no_json(name: str) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json.dumps(broken(name)[0], allow_nan=False)


@pytest.mark.parametrize("name", sorted(EXPORTS))
def test_every_export_is_described(view: View, tiny_task: Task, svds: SvdCache, name: str) -> None:
    export = EXPORTS[name]
    mask = prune(view, tiny_task, svds, kinds=[Kind.K], count=2)
    assert export.label
    assert export.suffix.startswith(".")
    assert "/" in export.mime
    assert export.encode(mask) == export.encode(mask)
    assert len(export.encode(mask)) > 0


def test_the_mask_export_is_the_mask(view: View, tiny_task: Task, svds: SvdCache) -> None:
    mask = prune(view, tiny_task, svds, kinds=[Kind.K], count=2)
    content = EXPORTS["mask"].encode(mask)
    assert parse_mask(content) == mask
    assert content.decode() == mask.to_json()
