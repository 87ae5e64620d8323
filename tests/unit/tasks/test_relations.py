"""Relations: word pairs as tasks, from files and fetched."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from explorer.core.config import settings
from explorer.core.errors import TaskError
from explorer.tasks import SPLITS, Cases, load_task, parse, parse_relation, read_in_search, relations, seen
from explorer.tasks.relations import PublishedPairs, fetch_relations, fetched, pairs_digest
from tests.commands import refused, report

PAIRS = [(f"walk{i}", f"walked{i}") for i in range(40)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "past.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("input", "output"), *PAIRS])
    return path


@pytest.mark.parametrize("prefix", ["", "relation:"])
def test_pairs_are_asked_in_the_usual_words(file: Path, prefix: str) -> None:
    task = load_task(f"{prefix}{file}")
    found = {(one.prompt, one.answer) for split in SPLITS for one in task.split(split)}
    assert found == {(f"Q: {given}\nA:", f" {output}") for given, output in PAIRS}
    assert [len(task.split(split)) for split in SPLITS] == [28, 4, 8]
    assert task.name == "relation:past.csv"
    assert task.description == "40 pairs of the relation past"


def test_wordings_are_held_out_and_templates_are_ones_own(file: Path) -> None:
    task = load_task(f"relation:{file}", cases=Cases(hold_out="wordings", wordings=4))
    templates = (relations.TEMPLATE, *relations.WORDINGS)
    starts = {re.sub(r"walk\d+", "#", one.prompt) for one in (*task.train, *task.validation)}
    assert starts == {one.replace("{input}", "#") for one in templates}
    assert len(relations.UNSEEN) >= 2
    unseen = {one.replace("{input}", "#") for one in relations.UNSEEN}
    assert {re.sub(r"walk\d+", "#", one.prompt) for one in task.test} == unseen
    assert not unseen & starts
    own = load_task(f"relation:{file}", template="Yesterday I {input}:")
    assert all(one.prompt.startswith("Yesterday I walk") for one in own.train)
    with pytest.raises(TaskError, match=r"asks for \{prompt\}: this task has \{input\}"):
        load_task(f"relation:{file}", template="{prompt}!")


def test_operands_and_answers_can_be_held_out(tmp_path: Path) -> None:
    path = tmp_path / "sport.csv"
    path.write_text("input,output\n" + "".join(f"person {i},sport {i % 15}\n" for i in range(90)))
    task = load_task(f"relation:{path}", cases=Cases(hold_out="answers"))
    assert not {one.answer for one in task.test} & {one.answer for one in (*task.train, *task.validation)}
    usual = load_task(f"relation:{path}")
    found = seen(read_in_search(usual), usual.test)
    assert not any(found.prompts)
    known = {one.answer for one in (*usual.train, *usual.validation)}
    assert found.answers == tuple(one.answer in known for one in usual.test)
    assert any(found.answers)


def test_named_splits_and_groups_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "named.csv"
    path.write_text("input,output,split,group\na,b,train,x\nc,d,validation,\ne,f,test,x\ng,h,test,\n")
    task = load_task(f"relation:{path}")
    assert [one.answer for one in task.test] == [" f", " h"]
    assert seen(read_in_search(task), task.test).twins == (True, False)
    with pytest.raises(TaskError, match=r"relation:named\.csv comes in splits of its own"):
        load_task(f"relation:{path}", cases=Cases(hold_out="answers"))
    grouped = tmp_path / "grouped.csv"
    grouped.write_text("input,output,group\n" + "".join(f"i{i},o{i},g{i // 3}\n" for i in range(60)))
    task = load_task(f"relation:{grouped}")
    groups = [{int(one.answer[2:]) // 3 for one in task.split(split)} for split in SPLITS]
    assert sum(map(len, groups)) == 20


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("input,output\n", "bad.csv holds no pairs"),
        ("input,output\na\n", "bad.csv, line 2: 1 cells where the header has 2"),
        ("input,output,odd\na,b,c\n", "bad.csv, line 2: unknown field 'odd'; a relation has input, output"),
        ("input,output\na, \n", "bad.csv, line 2: a relation has an input and an output on every line"),
        ("input,output,split\na,b,dev\n", "bad.csv, line 2: split 'dev' is not known"),
        ("input,output,split\na,b,test\nc,d,\n", "bad.csv names a split on 1 of 2 lines"),
        ("prompt,answer\na, b\n", "the header must name the columns, `input` and `output` among them"),
    ],
)
def test_what_is_no_relation_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(TaskError, match=re.escape(words)):
        load_task(f"relation:{path}")


def test_the_header_tells_a_relation_from_a_task_file(file: Path) -> None:
    content = file.read_bytes()
    assert parse_relation(content, name="past.csv", seed=0).digest == load_task(str(file)).digest
    with pytest.raises(TaskError, match="`prompt` and `answer` among them"):
        parse(content, name="past.csv", seed=0)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A repository with one relation of more pairs than are taken, and the table that names it."""
    monkeypatch.setenv("EIGENPRUNE_CACHE", str(tmp_path / "own-cache"))
    settings.cache_clear()  # isolated folders clear it again
    folder = tmp_path / "repository"
    folder.mkdir()
    whole = [{"input": f" {given} ", "output": output} for given, output in [*PAIRS, ("more", "than")]]
    (folder / "present_past.json").write_text(json.dumps(whole))
    monkeypatch.setattr(relations, "REPOSITORY", folder.as_uri())
    monkeypatch.setattr(relations, "MOST_PAIRS", len(PAIRS))
    known = {"present-past": PublishedPairs("present_past.json", pairs_digest(PAIRS))}
    monkeypatch.setattr(relations, "KNOWN", known)
    return folder


def test_relations_are_fetched_once_and_then_tasks(published: Path) -> None:
    assert fetched() == ()
    assert "run `eigenprune tasks fetch relations`" in refused("tasks", "show", "relation:present-past")
    found = report("tasks", "fetch", "relations")
    assert found["pairs"] == {"relation:present-past": 40}
    assert fetched() == ("present-past",)
    for path in published.iterdir():
        path.unlink()
    task = load_task("relation:present-past")
    assert {one.answer for split in SPLITS for one in task.split(split)} == {f" {output}" for _, output in PAIRS}
    shown = report("tasks", "show", "relation:present-past", "--hold-out", "wordings", "--split", "test")
    assert (shown["task"], shown["hold_out"], shown["n"]) == ("relation:present-past", "wordings", 8)
    assert "'superglue' cannot be fetched: give relations" in refused("tasks", "fetch", "superglue")


def test_relations_come_from_a_folder_too(published: Path, tmp_path: Path, file: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file.rename(folder / "present-past.csv")
    assert fetch_relations(folder) == {"present-past": 40}
    assert load_task("relation:present-past").digest == load_task("relation:present-past", data=folder).digest


def test_other_pairs_and_a_repository_that_cannot_be_had_are_refused(published: Path, tmp_path: Path) -> None:
    path = published / "present_past.json"
    path.write_text(path.read_text().replace("walk7", "swim"))
    with pytest.raises(TaskError, match=r"the relation present-past holds other pairs \([0-9a-f]{16}\) than expected"):
        fetch_relations()
    path.unlink()
    with pytest.raises(TaskError, match=r"could not be had from file:.*: check the network, or give a folder"):
        fetch_relations()
    with pytest.raises(TaskError, match="cannot be read"):
        fetch_relations(tmp_path / "nowhere")
    assert fetched() == ()
    with pytest.raises(
        TaskError, match=r"'no-such' is not a relation: give relation:FILE\.csv, or one of present-past"
    ):
        load_task("relation:no-such")
