"""Mask files from users: each unusable one is refused with a sentence that says why."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from explorer.core.config import ASSETS
from explorer.core.errors import MaskError
from explorer.masks.mask import MAX_BYTES, Mask, ModelIdentity, Provenance, Removed, load_mask, parse_mask

DIGEST = "sha256:" + "0123456789abcdef" * 4
VALID: dict[str, Any] = {
    "format": "eigenprune-mask",
    "schema_version": 1,
    "model": {"source": "somewhere", "revision": "r1", "digest": DIGEST, "basis": "raw"},
    "mode": "freeze",
    "removed": [{"matrix": "L0.K.H1", "index": 3, "sigma": 1.5, "c": -0.25}],
    "provenance": {"task": "int-mult", "split": "train", "examples": 280, "seed": 0, "scorer": "gradient"},
    "metrics": {"accuracy": 0.75},
}
Change = Callable[[dict[str, Any]], Any]


def put(path: str, value: Any) -> Change:
    """A change that sets one place, such as `model.digest` or `removed.0.c`."""

    def change(mask: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        target: Any = mask
        for part in parents:
            target = target[int(part)] if part.isdigit() else target[part]
        target[last] = value

    return change


def drop(path: str) -> Change:
    def change(mask: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        target: Any = mask
        for part in parents:
            target = target[int(part)] if part.isdigit() else target[part]
        del target[last]

    return change


def add(**value: Any) -> Change:
    return lambda mask: mask["removed"].append(value)


BROKEN: dict[str, tuple[Change, str]] = {
    "another format": (put("format", "other"), r"Input should be 'eigenprune-mask' \(at format\)"),
    "a gain of one": (put("gain", 1.0), r"Input should be less than 1 \(at gain\)"),
    "a negative gain": (put("gain", -0.5), r"greater than or equal to 0 \(at gain\)"),
    "a gain that is text": (put("gain", "0.5"), r"Input should be a valid number \(at gain\)"),
    "a later version": (put("schema_version", 3), r"Input should be 1 or 2 \(at schema_version\)"),
    "a version that is text": (put("schema_version", "1"), r"Input should be 1 or 2 \(at schema_version\)"),
    "no model": (drop("model"), r"Field required \(at model\)"),
    "no digest": (drop("model.digest"), r"Field required \(at model.digest\)"),
    "a short digest": (put("model.digest", "sha256:00"), r"should match pattern .* \(at model.digest\)"),
    "an unknown basis": (put("model.basis", "rotated"), r"'raw', 'folded' or 'delta' \(at model.basis\)"),
    "an endless source": (put("model.source", "x" * 501), r"at most 500 characters \(at model.source\)"),
    "an unknown mode": (put("mode", "mean"), r"'freeze' or 'zero' \(at mode\)"),
    "removed is no list": (put("removed", {"L0.K": [1]}), r"\(at removed\)"),
    "a negative index": (put("removed.0.index", -1), r"greater than or equal to 0 \(at removed.0.index\)"),
    "a broken index": (put("removed.0.index", 1.5), r"valid integer \(at removed.0.index\)"),
    "an index that is text": (put("removed.0.index", "3"), r"valid integer \(at removed.0.index\)"),
    "no sigma": (drop("removed.0.sigma"), r"Field required \(at removed.0.sigma\)"),
    "a negative sigma": (put("removed.0.sigma", -0.1), r"greater than or equal to 0 \(at removed.0.sigma\)"),
    "a sigma that is no number": (put("removed.0.sigma", math.nan), r"finite number \(at removed.0.sigma\)"),
    "an endless sigma": (put("removed.0.sigma", math.inf), r"finite number \(at removed.0.sigma\)"),
    "a mean that is no number": (put("removed.0.c", math.nan), r"finite number \(at removed.0.c\)"),
    "a mean that is text": (put("removed.0.c", "0.1"), r"valid number \(at removed.0.c\)"),
    "a matrix that is no key": (put("removed.0.matrix", "layer 0"), r"'layer 0' is not a matrix key: expected layer"),
    "a head of an MLP matrix": (put("removed.0.matrix", "L0.OUT.H1"), "OUT matrices have none: write L0.OUT"),
    "an endless matrix": (put("removed.0.matrix", "L" * 41), r"at most 40 characters \(at removed.0.matrix\)"),
    "an unknown field": (put("comment", "hello"), r"Extra inputs are not permitted \(at comment\)"),
    "an unknown field inside": (put("removed.0.note", 1), r"Extra inputs are not permitted \(at removed.0.note\)"),
    "a value twice": (add(matrix="L0.K.H1", index=3, sigma=1.5), "singular value 3 of L0.K.H1 is listed twice"),
    "per head and stacked": (add(matrix="L0.K", index=0, sigma=1.0), "L0.K.H1 and L0.K overlap"),
    "metrics that are no object": (put("metrics", [1]), r"\(at metrics\)"),
}


def broken(name: str) -> tuple[dict[str, Any], str]:
    change, words = BROKEN[name]
    mask = json.loads(json.dumps(VALID))
    change(mask)
    return mask, words


def test_the_valid_file_is_read_in_full() -> None:
    mask = parse_mask(json.dumps(VALID))
    assert mask == Mask(
        model=ModelIdentity(source="somewhere", revision="r1", digest=DIGEST),
        mode="freeze",
        removed=(Removed(matrix="L0.K.H1", index=3, sigma=1.5, c=-0.25),),
        provenance=Provenance(task="int-mult", split="train", examples=280, seed=0, scorer="gradient"),
        metrics={"accuracy": 0.75},
    )


def test_a_byte_order_mark_in_front_does_not_matter(tmp_path: Path) -> None:
    text = json.dumps(VALID)
    (tmp_path / "m.json").write_text(text, encoding="utf-8-sig")
    assert (tmp_path / "m.json").read_bytes().startswith(b"\xef\xbb\xbf{")
    assert load_mask(tmp_path / "m.json") == parse_mask("\ufeff" + text) == parse_mask(text)
    with pytest.raises(MaskError, match="Invalid JSON"):
        parse_mask("\ufeff\ufeff" + text)


def test_a_file_without_a_gain_removes_and_one_with_a_gain_scales() -> None:
    assert parse_mask(json.dumps(VALID)).gain == 0.0
    assert parse_mask(json.dumps({**VALID, "gain": 0})).digest == parse_mask(json.dumps(VALID)).digest
    assert parse_mask(json.dumps({**VALID, "gain": 0.25})) == parse_mask(json.dumps(VALID)).model_copy(
        update={"gain": 0.25}
    )


def test_the_masks_that_come_with_the_explorer_are_what_they_were() -> None:
    (path,) = sorted((ASSETS / "masks").glob("*.json"))
    mask = load_mask(path)
    assert mask.digest == "sha256:50da6a4ff304e77d86d43dd8a40434672a8bc8f97a44126c2ea6675ec1ee58e3"
    assert mask.to_json() == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_file_is_refused_with_the_reason(name: str) -> None:
    mask, words = broken(name)
    with pytest.raises(MaskError, match=f"^upload.json is not a usable mask file: .*{words}.*; export it again.$"):
        parse_mask(json.dumps(mask), name="upload.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Invalid JSON: EOF"),
        (json.dumps(VALID)[:-20].encode(), "Invalid JSON: EOF"),
        (b"\x89PNG\r\n", "Invalid JSON"),
        (b"\xff\xfe{\x00}\x00", "Invalid JSON"),
        (b"[1, 2]", "Input should be an object"),
        (b"null", "Input should be an object"),
        (b"[" * 100_000, "Invalid JSON: recursion limit exceeded"),
        (json.dumps(VALID).replace("somewhere", "\\ud800").encode(), "Invalid JSON"),
    ],
)
def test_what_is_not_a_json_object_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(MaskError, match=f"the mask is not a usable mask file: .*{words}"):
        parse_mask(content)


def test_an_oversized_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(MaskError, match=r"huge.json has 20,000,001 bytes: mask files have at most 20,000,000"):
        load_mask(path)
    with pytest.raises(MaskError, match="has 20,000,001 bytes"):
        parse_mask(b" " * (MAX_BYTES + 1))


def test_a_saved_mask_is_loaded_again(tmp_path: Path) -> None:
    mask = parse_mask(json.dumps(VALID))
    mask.save(tmp_path / "new" / "mask.json")
    assert load_mask(tmp_path / "new" / "mask.json") == mask
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mask.json"]


def test_places_that_cannot_be_read_or_written_are_sentences(tmp_path: Path) -> None:
    mask = parse_mask(json.dumps(VALID))
    with pytest.raises(MaskError, match=r"none.json cannot be read \(No such file or directory\): check the path"):
        load_mask(tmp_path / "none.json")
    with pytest.raises(MaskError, match=r"cannot be read \(Is a directory\)"):
        load_mask(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(MaskError, match=r"cannot be written \(.*\): choose another place"):
        mask.save(tmp_path / "file" / "mask.json")
    with pytest.raises(MaskError, match=r"cannot be written \(Is a directory\)"):
        mask.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


REPEATED = {
    "removed": lambda text: text[:-1] + ', "removed": []}',
    "digest": lambda text: text.replace('"digest"', '"digest": "sha256:0", "digest"', 1),
    "index": lambda text: text.replace('"index"', '"index": 7, "index"', 1),
}


@pytest.mark.parametrize("key", sorted(REPEATED))
def test_a_file_that_names_a_key_twice_is_refused_by_that_key(key: str) -> None:
    text = REPEATED[key](json.dumps(VALID))
    json.loads(text)
    with pytest.raises(MaskError, match=f"^upload.json is not a usable mask file: it names '{key}' twice in one place"):
        parse_mask(text, name="upload.json")
