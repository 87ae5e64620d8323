"""A user's own task file: what is read, and the sentence and line number for what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explorer.errors import TaskError
from explorer.tasks import Example, parse_jsonl, read_jsonl
from explorer.tasks.jsonl import MAX_BYTES

GOOD = '{"prompt": "2 + 2 =", "answer": " 4"}'


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_lines_without_splits_are_split_by_seed(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "answer": f" a{i}"} for i in range(20)]
    path = write(tmp_path / "own.jsonl", "\n".join(map(json.dumps, rows)))
    task = read_jsonl(path, seed=1)
    assert (len(task.train), len(task.validation), len(task.test)) == (14, 2, 4)
    assert {e.prompt for e in (*task.train, *task.validation, *task.test)} == {f"p{i}" for i in range(20)}
    assert task == read_jsonl(path, seed=1)
    assert task.train != read_jsonl(path, seed=2).train
    assert (task.name, task.seed) == ("own.jsonl", 1)


def test_named_splits_are_kept_in_order(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "answer": " a", "split": ["test", "train", "validation"][i % 3]} for i in range(7)]
    task = read_jsonl(write(tmp_path / "own.jsonl", "\n".join(map(json.dumps, rows))), seed=9)
    assert [example.prompt for example in task.test] == ["p0", "p3", "p6"]
    assert [example.prompt for example in task.train] == ["p1", "p4"]
    assert [example.prompt for example in task.validation] == ["p2", "p5"]


def test_blank_lines_windows_line_ends_and_a_byte_order_mark_are_passed_over(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + f"{GOOD}\r\n\r\n  \n{GOOD.replace('4', '5')}\r\n".encode()
    task = read_jsonl(write(tmp_path / "own.jsonl", content), seed=0)
    assert set(task.train) == {Example("2 + 2 =", " 4"), Example("2 + 2 =", " 5")}


def test_characters_that_only_look_like_line_ends_stay_inside_their_line(tmp_path: Path) -> None:
    row = {"prompt": "one\u2028two\u0085three\u2029", "answer": " ü\U0001f600"}
    task = read_jsonl(write(tmp_path / "own.jsonl", json.dumps(row, ensure_ascii=False)), seed=0)
    assert task.train == (Example(row["prompt"], row["answer"]),)


BAD_LINES = {
    '{"prompt": "2 + 2 ="}': "no answer; give a non-empty text for `answer`",
    '{"prompt": "2 + 2 =", "answer": ""}': "no answer; give a non-empty text",
    '{"prompt": "2 + 2 =", "answer": "  "}': "no answer; give a non-empty text",
    '{"prompt": "2 + 2 =", "answer": 4}': "no answer; give a non-empty text",
    '{"answer": " 4"}': "no prompt; give a non-empty text for `prompt`",
    '{"prompt": null, "answer": " 4"}': "no prompt; give a non-empty text",
    '{"prompt": "a", "answer": " b"': "not a JSON object; expected",
    "prompt,answer": "not a JSON object; expected",
    "[" * 100_000: "not a JSON object; expected",
    '{"prompt": ' + "1" * 5000 + "}": "not a JSON object; expected",
    '["2 + 2 =", " 4"]': "a list instead of an object with `prompt` and `answer`",
    "null": "a NoneType instead of an object",
    '{"prompt": "a", "answer": " b", "label": 1}': "unknown field 'label'; the fields are prompt, answer, split",
    '{"prompt": "a", "answer": " b", "split": "dev"}': "split 'dev' is not known; use one of train, validation, test",
    '{"prompt": "a", "answer": " b", "split": ["test"]}': "is not known; use one of train, validation, test",
    '{"prompt": "a\\ud800", "answer": " b"}': "prompt holds half of a surrogate pair; write the whole character",
    '{"prompt": "a", "answer": " \\udfff"}': "answer holds half of a surrogate pair",
}


@pytest.mark.parametrize("line", sorted(BAD_LINES), ids=lambda line: line[:40])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "own.jsonl", f"{GOOD}\n\n{line}\n{GOOD}\n")
    with pytest.raises(TaskError) as caught:
        read_jsonl(path, seed=0)
    assert str(caught.value).startswith("own.jsonl, line 3: ")
    assert BAD_LINES[line] in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_split_on_some_lines_only_is_refused() -> None:
    lines = [GOOD, GOOD.replace("}", ', "split": "test"}'), GOOD]
    with pytest.raises(TaskError, match="own names a split on 1 of 3 lines: name it on all of them or on none"):
        parse_jsonl(lines, name="own", seed=0)


@pytest.mark.parametrize("content", ["", "\n\n", "  \n"])
def test_a_file_without_examples_is_refused_with_an_example(tmp_path: Path, content: str) -> None:
    with pytest.raises(TaskError, match=r'own\.jsonl holds no examples: add lines such as \{"prompt": "2 \+ 2 ="'):
        read_jsonl(write(tmp_path / "own.jsonl", content), seed=0)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="is not UTF-8 text: save it as UTF-8 JSON lines"):
        read_jsonl(write(tmp_path / "own.jsonl", GOOD.replace("4", "ü").encode("latin-1")), seed=0)


def test_an_oversized_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.jsonl").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(TaskError, match="has 50,000,001 bytes: task files may have up to 50,000,000"):
        read_jsonl(tmp_path / "huge.jsonl", seed=0)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"cannot be read \(Is a directory\)"):
        read_jsonl(tmp_path, seed=0)
