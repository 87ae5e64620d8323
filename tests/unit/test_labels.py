"""Labels of directions: kept by model, carried by mask files of version 2, never part of what a mask does."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from explorer.core.config import ASSETS
from explorer.core.errors import MaskError
from explorer.masks.labels import MAX_LABEL, DirectionLabel, LabelBook, label_of
from explorer.masks.library import keep_labels, labelled
from explorer.masks.mask import Mask, Removed, parse_mask
from tests.commands import refused, report, run
from tests.unit.test_mask_files import DIGEST, VALID

OTHER = "sha256:" + "f" * 64
FIRST, SECOND = (
    label_of("L0.K.H1", 3, "which table", "reads\nthe first factor"),
    label_of("L2.OUT", 0, "", "a note alone"),
)
VALUES = (
    Removed(matrix="L0.K.H1", index=3, sigma=1.5, c=-0.25),
    Removed(matrix="L2.OUT", index=0, sigma=2.0, c=0.5),
)


@pytest.fixture
def mask() -> Mask:
    return parse_mask(json.dumps(VALID)).with_removed(VALUES)


def test_a_book_keeps_what_was_put_by_model(tmp_path: Path) -> None:
    book = LabelBook(tmp_path, DIGEST)
    assert book.every() == {}
    assert not tmp_path.joinpath("labels").exists()
    for one in (SECOND, FIRST, label_of("L0.K", 12, "stacked")):
        book.put(one)
    again = LabelBook(tmp_path, DIGEST)
    assert list(again.every()) == [("L0.K", 12), ("L0.K.H1", 3), ("L2.OUT", 0)]
    assert again.every()["L0.K.H1", 3] == FIRST
    assert LabelBook(tmp_path, OTHER).every() == {}
    again.put(label_of("L0.K.H1", 3, "  another \n name "))
    assert book.every()["L0.K.H1", 3].label == "another name"
    assert book.remove(("L0.K.H1", 3))
    assert not book.remove(("L0.K.H1", 3))
    assert len(book.every()) == 2


def test_labels_that_cannot_be_kept_and_broken_files_are_refused(tmp_path: Path) -> None:
    for label, note, words in (("x" * (MAX_LABEL + 1), "", "at most 60"), (" ", "\n", "says nothing")):
        with pytest.raises(MaskError, match=words):
            label_of("L0.K.H1", 0, label, note)
    with pytest.raises(MaskError, match="not a matrix key"):
        label_of("K.H1", 0, "x")
    book = LabelBook(tmp_path, DIGEST)
    book.put(FIRST)
    book.path.write_text("{}")
    with pytest.raises(MaskError, match="no usable file of labels"):
        book.every()
    with pytest.raises(MaskError, match="no usable file of labels"):
        book.put(SECOND)
    assert book.path.read_text() == "{}"  # nothing is lost
    (tmp_path / "file").write_text("")
    with pytest.raises(MaskError, match="check the workspace folder"):
        LabelBook(tmp_path / "file", DIGEST).put(FIRST)


def test_sessions_that_label_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    def work(number: int) -> None:
        for index in range(5):
            LabelBook(tmp_path, DIGEST).put(label_of(f"L{number}.K", index, f"{number} {index}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(LabelBook(tmp_path, DIGEST).every()) == 20


def test_a_mask_file_holds_the_labels_of_its_values(mask: Mask) -> None:
    told = mask.with_labels([SECOND, FIRST, label_of("L0.K.H1", 4, "of no value")])
    assert told.labels == (FIRST, SECOND)
    written = json.loads(told.to_json())
    assert written["schema_version"] == 2
    assert parse_mask(told.to_json()) == told
    assert told.digest == mask.digest
    schema = json.loads((ASSETS / "mask.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(written)
    plain = json.loads(mask.to_json())
    assert plain["schema_version"] == 1
    assert "labels" not in plain
    assert told.with_labels([]).to_json() == mask.to_json()


def test_edits_keep_the_labels_of_what_stays(mask: Mask) -> None:
    told = mask.with_labels([FIRST, SECOND])
    less = told.without([("L2.OUT", 0)])
    assert less.labels == (FIRST,)
    assert told.without_all().labels == ()
    assert told.without_all().schema_version == 1
    for same in (told.scaled(0.5), told.of_model(told.model), told.with_removed(VALUES), mask.union(told)):
        assert same.labels == told.labels
        assert parse_mask(same.to_json()) == same
    renamed = label_of("L0.K.H1", 3, "mine")
    assert mask.with_labels([renamed]).union(told).labels == (renamed, SECOND)
    assert told.intersection(less).labels == (FIRST,)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 1}, "schema version 2"),
        ({"labels": [FIRST.model_dump(), FIRST.model_dump()]}, "two labels"),
        ({"labels": [{**FIRST.model_dump(), "index": 9}]}, "which is not removed"),
        ({"labels": [{**FIRST.model_dump(), "label": "x" * 61}]}, "at most 60"),
        ({"labels": [{**FIRST.model_dump(), "colour": "red"}]}, "Extra inputs"),
        ({"schema_version": 3}, "Input should be 1 or 2"),
    ],
)
def test_files_with_wrong_labels_are_refused(mask: Mask, change: dict[str, Any], words: str) -> None:
    written = json.loads(mask.with_labels([FIRST]).to_json())
    with pytest.raises(MaskError, match=words):
        parse_mask(json.dumps({**written, **change}))


def test_labels_go_out_with_a_mask_and_come_back_elsewhere(mask: Mask, tmp_path: Path, monkeypatch: Any) -> None:
    from explorer.core.config import settings

    LabelBook.default(mask.model.digest).put(FIRST)
    file = labelled(mask.with_labels([SECOND])).to_json()
    assert parse_mask(file).labels == (FIRST, SECOND)
    monkeypatch.setenv("EIGENPRUNE_WORKSPACE", str(tmp_path / "elsewhere"))
    settings.cache_clear()
    book = LabelBook.default(mask.model.digest)
    own = label_of("L2.OUT", 0, "already called something")
    book.put(own)
    assert keep_labels(parse_mask(file)) == (SECOND,)
    assert book.every() == {FIRST.place: FIRST, own.place: own}
    assert keep_labels(parse_mask(file)) == (SECOND,)
    assert keep_labels(mask) == ()


@pytest.mark.slow
def test_commands(tmp_path: Path, monkeypatch: Any) -> None:
    from explorer.core.config import settings

    monkeypatch.setenv("EIGENPRUNE_WORKSPACE", str(tmp_path))
    settings.cache_clear()
    model = ("--model", "bundled")
    assert report("labels", *model)["labels"] == []
    found = report("label", "L0.K.H1", "3", *model, "--label", "which table", "--note", "seen")
    wanted = DirectionLabel(matrix="L0.K.H1", index=3, label="which table", note="seen").model_dump()
    assert found["labels"] == [wanted]
    assert report("label", "L0.K.H1", "3", *model, "--label", "again")["labels"] == [{**wanted, "label": "again"}]
    assert report("labels", *model)["labels"] == [{**wanted, "label": "again"}]
    assert "again" in run("labels", *model).stdout
    assert report("label", "L0.K.H1", "3", *model, "--remove")["labels"] == []
    assert "no label" in run("label", "L0.K.H1", "3", *model).stdout
    assert "0 to 31, not 40" in refused("label", "L0.K.H1", "40", *model, "--label", "x")
    assert "leave --label" in refused("label", "L0.K.H1", "3", *model, "--label", "x", "--remove")
