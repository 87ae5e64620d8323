"""The library: what was saved comes back from another process's point of view, and nothing is ever half there."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from explorer.core.config import settings
from explorer.core.errors import MaskError
from explorer.masks import library as module
from explorer.masks.library import ABOUT, MASK, Library, id_of
from explorer.masks.mask import Mask, ModelIdentity, Removed, load_mask

MODEL = ModelIdentity(source="m", digest="sha256:" + "a1" * 32)
OTHER = ModelIdentity(source="n", digest="sha256:" + "b2" * 32)


def mask(count: int, model: ModelIdentity = MODEL) -> Mask:
    """A mask of its own for every number."""
    removed = tuple(Removed(matrix="L0.Q.H0", index=i, sigma=1.0 / (i + 1), c=0.25) for i in range(count))
    return Mask(model=model, removed=removed)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "masks")


def names(library: Library) -> list[str]:
    return [entry.name for entry in library.list().entries]


def test_what_was_saved_is_there_for_another_one(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EIGENPRUNE_WORKSPACE", str(tmp_path / "workspace"))
    settings.cache_clear()
    saved = library.save(mask(3), "  three \n values ", notes="from *here*")
    found = Library(library.folder).get(saved.id)
    assert (found.name, found.about.notes, found.mask) == ("three values", "from *here*", mask(3))
    assert saved.id == id_of(mask(3)) == mask(3).digest[7:19]
    assert load_mask(found.path) == mask(3)  # an ordinary mask file
    assert Library.default().list().entries == ()


def test_entries_are_listed_newest_first_and_by_model(library: Library) -> None:
    for count in (1, 2, 3):
        library.save(mask(count), f"mask {count}")
    library.save(mask(1, OTHER), "other")
    assert names(library) == ["other", "mask 3", "mask 2", "mask 1"]
    assert [one.name for one in library.list(OTHER.digest).entries] == ["other"]
    assert library.list("sha256:" + "0" * 64).entries == ()


def test_an_equal_mask_is_one_entry(library: Library) -> None:
    library.save(mask(2), "two")
    with pytest.raises(MaskError, match="in the library already, as 'two'"):
        library.save(mask(2), "again")
    assert names(library) == ["two"]


def test_rename_and_notes_leave_the_rest(library: Library) -> None:
    before = library.save(mask(2), "two", notes="n")
    library.save(mask(3), "three", fork_of=before.id)
    library.change(before.id, name="deux")
    after = library.change(before.id, notes="")
    assert (after.name, after.about.notes, after.about.created) == ("deux", "", before.about.created)
    assert library.get(before.id) == after
    assert library.get(id_of(mask(3))).about.fork_of == before.id


@pytest.mark.parametrize("name", ["", "  \n", "x" * 121])
def test_a_bad_name_is_a_sentence(library: Library, name: str) -> None:
    with pytest.raises(MaskError, match="give the mask one of 1 to 120"):
        library.save(mask(1), name)
    saved = library.save(mask(1), "x" * 120)
    with pytest.raises(MaskError, match="give the mask one of 1 to 120"):
        library.change(saved.id, name=name)
    with pytest.raises(MaskError, match="keep them to 5,000"):
        library.change(saved.id, notes="x" * 5001)


def test_deleting_can_be_undone(library: Library) -> None:
    ids = [library.save(mask(count), f"{count}", notes="n").id for count in (1, 2, 3)]
    before = library.list()
    assert library.delete([ids[0], ids[2], "0" * 12]) == (ids[0], ids[2])
    assert names(library) == ["2"]
    assert sorted(one.name for one in library.trashed().entries) == ["1", "3"]
    assert library.find(ids[0]) == mask(1)  # a link to it still means the same
    assert library.restore([ids[0], ids[2]]) == (ids[0], ids[2])
    assert library.list() == before
    assert library.trashed().entries == ()
    assert library.restore(ids) == ()


def test_restoring_does_not_replace_what_was_saved_meanwhile(library: Library) -> None:
    id = library.save(mask(1), "old").id
    library.delete([id])
    library.save(mask(1), "new")
    assert library.restore([id]) == ()
    assert names(library) == ["new"]


def test_the_trash_forgets_what_was_deleted_first(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRASHED", 2)
    for age, count in enumerate((1, 2, 3)):
        id = library.save(mask(count), f"{count}").id
        library.delete([id])
        if (path := library.trash / f"{id}{MASK}").exists():
            os.utime(path, (1_000 + age, 1_000 + age))
    assert sorted(one.name for one in library.trashed().entries) == ["2", "3"]
    assert len(list(library.trash.iterdir())) == 4  # no file of the first is left


def test_masks_to_refer_to_are_kept_without_a_name(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARED", 2)
    path = library.keep(mask(4))
    assert load_mask(path) == library.find(id_of(mask(4))) == mask(4)
    assert library.keep(mask(4)) == path
    assert names(library) == []
    os.utime(path, (1_000, 1_000))
    for count in (5, 6):
        library.keep(mask(count))
    assert library.find(id_of(mask(4))) is None
    saved = library.save(mask(7), "seven")
    assert library.keep(mask(7)) == saved.path
    assert library.find("0" * 12) is None


def damage(path: Path, how: str) -> None:
    if how == "truncated":
        path.write_text(path.read_text()[:100])
    elif how == "not JSON":
        path.write_text("what")
    elif how == "another mask":
        path.write_text(mask(9).to_json())
    elif how == "about":
        path.with_name(path.name.removesuffix(MASK) + ABOUT).write_text(json.dumps({"name": 3}))
    elif how == "huge about":
        path.with_name(path.name.removesuffix(MASK) + ABOUT).write_text(" " * 200_000)


@pytest.mark.parametrize("how", ["truncated", "not JSON", "another mask", "about", "huge about"])
def test_a_damaged_file_is_a_sentence_and_the_others_are_there(library: Library, how: str) -> None:
    bad, _ = library.save(mask(1), "bad"), library.save(mask(2), "good")
    damage(bad.path, how)
    found = library.list()
    assert [one.name for one in found.entries] == ["good"]
    (broken,) = found.broken
    assert broken.path == bad.path
    assert bad.id in broken.sentence
    assert library.delete([bad.id]) == (bad.id,)
    assert library.list().broken == ()


def test_a_mask_file_without_what_was_said_about_it_is_called_by_its_id(library: Library) -> None:
    saved = library.save(mask(1), "one")
    saved.path.with_name(f"{saved.id}{ABOUT}").unlink()
    assert names(library) == [saved.id]
    library.change(saved.id, name="one")
    assert names(library) == ["one"]


@pytest.mark.parametrize(
    "id", ["../../../etc/passwd", "", "0" * 11, "0" * 13, "G" * 12, "0123456789A\n", "١٢٣٤٥٦٧٨٩٠١٢"]
)
def test_an_id_is_never_a_path(library: Library, id: str) -> None:
    for call in (library.get, library.find, lambda one: library.delete([one]), lambda one: library.restore([one])):
        with pytest.raises(MaskError, match="is not the id of a mask"):
            call(id)
    with pytest.raises(MaskError, match="there is no mask"):
        library.get("0" * 12)


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    blocked = Library(tmp_path / "file" / "masks")
    assert blocked.list().entries == ()
    for call in (lambda: blocked.save(mask(1), "one"), lambda: blocked.keep(mask(1))):
        with pytest.raises(MaskError, match="check the workspace folder"):
            call()


def test_sessions_that_save_and_rename_at_once_lose_nothing(library: Library) -> None:
    shared = library.save(mask(1), "start")
    problems: list[Exception] = []

    def work(number: int) -> None:
        own = Library(library.folder)
        try:
            for turn in range(5):
                own.save(mask(2 + 5 * number + turn), f"{number}-{turn}")
                own.change(shared.id, **({"name": f"by {number}"} if number % 2 else {"notes": f"by {number}"}))
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(library.list().entries) == 21
    assert library.list().broken == ()
    about = library.get(shared.id).about
    assert about.name in ("by 1", "by 3")  # a change of the notes does not undo a change of the name
    assert about.notes in ("by 0", "by 2")
    assert not list(library.folder.glob(".*.tmp"))
