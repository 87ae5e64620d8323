"""A user's own task file: what is read, and the sentence and line number for what is not."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from explorer.core.errors import TaskError
from explorer.tasks import Example, parse, parse_jsonl, read_file
from explorer.tasks.custom import LISTED, MAX_BYTES, MAX_CHOICES
from explorer.tasks.lines import LINES, json_rows

GOOD = '{"prompt": "2 + 2 =", "answer": " 4"}'


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_lines_without_splits_are_split_by_seed(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "answer": f" a{i}"} for i in range(20)]
    path = write(tmp_path / "own.jsonl", "\n".join(map(json.dumps, rows)))
    task = read_file(path, seed=1)
    assert (len(task.train), len(task.validation), len(task.test)) == (14, 2, 4)
    assert {e.prompt for e in (*task.train, *task.validation, *task.test)} == {f"p{i}" for i in range(20)}
    assert task == read_file(path, seed=1)
    assert task.train != read_file(path, seed=2).train
    assert (task.name, task.seed) == ("own.jsonl", 1)


def test_named_splits_are_kept_in_order(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "answer": " a", "split": ["test", "train", "validation"][i % 3]} for i in range(7)]
    task = read_file(write(tmp_path / "own.jsonl", "\n".join(map(json.dumps, rows))), seed=9)
    assert [example.prompt for example in task.test] == ["p0", "p3", "p6"]
    assert [example.prompt for example in task.train] == ["p1", "p4"]
    assert [example.prompt for example in task.validation] == ["p2", "p5"]


def test_blank_lines_windows_line_ends_and_a_byte_order_mark_are_passed_over(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + f"{GOOD}\r\n\r\n  \n{GOOD.replace('4', '5')}\r\n".encode()
    task = read_file(write(tmp_path / "own.jsonl", content), seed=0)
    assert set(task.train) == {Example("2 + 2 =", " 4"), Example("2 + 2 =", " 5")}


def test_characters_that_only_look_like_line_ends_stay_inside_their_line(tmp_path: Path) -> None:
    row = {"prompt": "one\u2028two\u0085three\u2029", "answer": " ü\U0001f600"}
    task = read_file(write(tmp_path / "own.jsonl", json.dumps(row, ensure_ascii=False)), seed=0)
    assert task.train == (Example(row["prompt"], row["answer"]),)


BAD_LINES = {
    '{"prompt": "2 + 2 ="}': "no answer; give a non-empty text for `answer`",
    '{"prompt": "2 + 2 =", "answer": ""}': "no answer; give a non-empty text",
    '{"prompt": "2 + 2 =", "answer": "  "}': "no answer; give a non-empty text",
    '{"prompt": "2 + 2 =", "answer": 4}': 'the answer 4 is no text; write it in quotes, with its leading space: " 4".',
    '{"prompt": "2 + 2 =", "answer": true}': "the answer true is no text; write it in quotes",
    '{"prompt": 2.5, "answer": " 4"}': "the prompt 2.5 is no text; write it in quotes",
    '{"prompt": "a", "answer": " 4", "answer": " 5"}': "the field 'answer' comes twice; name it once",
    '{"prompt": "a", "answer": " b"}{}': "not a JSON object; expected",
    '{"answer": " 4"}': "no prompt; give a non-empty text for `prompt`",
    '{"prompt": null, "answer": " 4"}': "no prompt; give a non-empty text",
    '{"prompt": "a", "answer": " b"': "not a JSON object; expected",
    "prompt,answer": "not a JSON object; expected",
    "[" * 100_000: "not a JSON object; expected",
    '{"prompt": ' + "1" * 5000 + "}": "not a JSON object; expected",
    '["2 + 2 =", " 4"]': "a list instead of an object with `prompt` and `answer`",
    "null": "a NoneType instead of an object",
    '{"prompt": "a", "answer": " b", "choice": 1}': "unknown field 'choice': write `choices` if that is meant",
    '{"prompt": "a", "answer": " b", "label": [1]}': "the field 'label' is no text and no number",
    '{"prompt": "a", "answer": " b", "a=b": 1}': "a field cannot be called 'a=b'",
    '{"prompt": "a", "answer": " b", "choices": " b"}': f"must be a list of 2 to {MAX_CHOICES} texts, the answer among",
    '{"prompt": "a", "answer": " b", "choices": [" b"]}': f"must be a list of 2 to {MAX_CHOICES} texts",
    '{"prompt": "a", "answer": " b", "choices": [" b", 3]}': "the choices 3 is no text; write it in quotes",
    '{"prompt": "a", "answer": " b", "choices": [" b", " b"]}': "a choice comes twice in ' b', ' b': name",
    '{"prompt": "a", "answer": " b", "choices": ["b", "c"]}': "answer ' b' is not among the choices 'b', 'c': write it",
    '{"prompt": "a", "answer": " b", "distractor": " b"}': "the distractor ' b' is the answer itself: give a",
    '{"prompt": "a", "answer": " b", "distractor": 2}': "the distractor 2 is no text; write it in quotes",
    '{"prompt": "a", "answer": " b", "split": "dev"}': "split 'dev' is not known; use one of train, validation, test",
    '{"prompt": "a", "answer": " b", "split": ["test"]}': "is not known; use one of train, validation, test",
    '{"prompt": "a\\ud800", "answer": " b"}': "prompt holds half of a surrogate pair; write the whole character",
    '{"prompt": "a", "answer": " \\udfff"}': "answer holds half of a surrogate pair",
}


@pytest.mark.parametrize("line", sorted(BAD_LINES), ids=lambda line: line[:40])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "own.jsonl", f"{GOOD}\n\n{line}\n{GOOD}\n")
    with pytest.raises(TaskError) as caught:
        read_file(path, seed=0)
    assert str(caught.value).startswith("own.jsonl, line 3: ")
    assert BAD_LINES[line] in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_several_bad_lines_are_named_together(kind: str) -> None:
    good, bad = (GOOD, '{"prompt": "a"}') if kind == "jsonl" else ("2 + 2 =, 4", "a,")
    head = [] if kind == "jsonl" else ["prompt,answer"]
    lines = [*head, good, bad, "", good, *[bad] * (LISTED + 1)]
    with pytest.raises(TaskError) as caught:
        parse("\n".join(lines).encode(), name=f"own.{kind}", seed=0)
    said = str(caught.value)
    first = len(head) + 2
    numbers = [first, *range(first + 3, first + 3 + LISTED - 1)]
    assert said.startswith(f"{LISTED + 2} lines of own.{kind} are no examples. Line {first}: no answer; give a")
    assert [int(number) for number in re.findall(r"Line (\d+):", said)] == numbers
    assert said.endswith("And 2 more.")


def test_what_follows_a_broken_quote_is_not_guessed_at() -> None:
    content = 'prompt,answer\na\n"a"b, c\nd,\n'
    with pytest.raises(
        TaskError, match=r"^2 lines of own\.csv are no examples\. Line 2: 1 cells .* Line 3: not CSV \("
    ):
        parse(content.encode(), name="own.csv", seed=0)


def test_a_split_on_some_lines_only_is_refused() -> None:
    lines = [GOOD, GOOD.replace("}", ', "split": "test"}'), GOOD]
    with pytest.raises(TaskError, match="own names a split on 1 of 3 lines: name it on all of them or on none"):
        parse_jsonl(lines, name="own", seed=0)


@pytest.mark.parametrize("content", ["", "\n\n", "  \n"])
def test_a_file_without_examples_is_refused_with_an_example(tmp_path: Path, content: str) -> None:
    with pytest.raises(TaskError, match=r'own\.jsonl holds no examples: add lines such as \{"prompt": "2 \+ 2 ="'):
        read_file(write(tmp_path / "own.jsonl", content), seed=0)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="is not UTF-8 text: save it as UTF-8 JSON lines"):
        read_file(write(tmp_path / "own.jsonl", GOOD.replace("4", "ü").encode("latin-1")), seed=0)


def test_an_oversized_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.jsonl").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(TaskError, match="has 200,000,001 bytes: task files may have up to 200,000,000"):
        read_file(tmp_path / "huge.jsonl", seed=0)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"cannot be read \(Is a directory\)"):
        read_file(tmp_path, seed=0)


def test_choices_and_distractors_are_read(tmp_path: Path) -> None:
    row = {"prompt": "a", "answer": " b", "choices": [" c", " b"], "distractor": " d", "split": "test"}
    task = read_file(write(tmp_path / "own.jsonl", json.dumps(row)), seed=0)
    assert task.test == (Example("a", " b", (" c", " b"), " d"),)


def test_csv_holds_the_same_as_json_lines(tmp_path: Path) -> None:
    rows = [
        {"prompt": 'one, "two"\nthree', "answer": " b|c", "choices": [" b|c", " d"], "split": "test"},
        {"prompt": "a", "answer": " b", "choices": [" c", " b"], "distractor": " d", "split": "train"},
        {"prompt": "ü\u2028ä", "answer": " e", "split": "validation"},
    ]
    with (tmp_path / "own.csv").open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, ["split", "answer", "prompt", "choices", "distractor"])
        writer.writeheader()
        for row, choices in zip(rows, (json.dumps([" b|c", " d"]), " c| b", ""), strict=True):
            writer.writerow({**row, "choices": choices})
    expected = parse_jsonl(map(json.dumps, rows), name="own.csv", seed=0)
    assert read_file(tmp_path / "own.csv", seed=0) == expected


BAD_CSV = {
    "prompt,reply\na, b\n": "line 1: the header must name the columns, `prompt` and `answer` among them",
    "prompt,answer,answer\na, b, b\n": "line 1: the header must name the columns",
    "prompt,answer\na, b\n\na, b, c\n": "line 4: 3 cells where the header has 2; quote cells with commas",
    'prompt,answer\n"a\nb", c\nd,\n': "line 4: no answer; give a non-empty text for `answer`",
    "prompt,answer,choices\na, b,[1\n": "line 2: `choices` must be a list of 2 to",
    'prompt,answer\n"a"b, c\n': "line 2: not CSV (",
    "prompt,answer\na, b\n'2 + 2 =', 4\n": "line 3: a cell in single quotes: CSV has double quotes",
    "prompt,answer\n2 + 2 =, '4'": "line 2: a cell in single quotes: CSV has double quotes",
    "prompt,answer\n'2 + 2 =',\"4\n5\"\n": "line 3: a cell in single quotes",
    "prompt,answer\ra, b\r'2 + 2 =', 4\r": "line 3: a cell in single quotes",
    "prompt,answer,distractor\n'2, 3 =',4\n": "line 2: a cell in single quotes",
    "prompt,answer\n'it''s 2 =', 4\n": "line 2: a cell in single quotes",
    "prompt,answer\n\u201c2 + 2 =\u201d,\u201c4\u201d\n": "line 2: a cell in curly quotes",
    "prompt,answer\n2 + 2 =,\u20184\u2019\n": "line 2: a cell in curly quotes",
    "prompt,answer\n`2 + 2 =`, 4\n": "line 2: a cell in backtick quotes",
    **{
        f"prompt,answer\n2 + 2 =,{cell}\n": f"line 2: a cell in {name} quotes: CSV has double quotes"
        for name, cells in {
            "backtick": "\xb44\xb4 `4\xb4",
            "curly": "\u201f4\u201d \u201b4\u2019 \u201d4\u201d",
            "angled": "\xab4\xbb \xbb4\xab \u20394\u203a",
            "corner": "\u300c4\u300d \u300e4\u300f \uff624\uff63",
            "prime": "\u20334\u2033 \u301d4\u301e",
            "full-width": "\uff024\uff02",
            "backslashed": '\\"4\\" \\"4,5\\"',
            "formula": '="4"',
        }.items()
        for cell in cells.split()
    },
    "prompt,answer,groups\na, b,1\n": "line 2: unknown field 'groups'",
    "prompt,answer\n": "holds no examples",
    "a\0b": "line 1: the header must name the columns",
    "": "holds no examples",
}


@pytest.mark.parametrize("content", sorted(BAD_CSV))
def test_a_bad_line_of_csv_is_named(content: str) -> None:
    with pytest.raises(TaskError) as caught:
        parse(content.encode(), name="own.csv", seed=0)
    assert str(caught.value).startswith("own.csv")
    assert BAD_CSV[content] in str(caught.value)


def test_a_prompt_is_never_in_two_splits_unless_the_file_says_so() -> None:
    rows = [{"prompt": f"p{i % 20}", "answer": f" a{i}"} for i in range(60)]
    for seed in range(5):
        task = parse_jsonl(map(json.dumps, rows), name="own", seed=seed)
        assert [task.seen(split) for split in ("train", "validation", "test")] == [0, 0, 0]
        assert len(task.train) + len(task.validation) + len(task.test) == 60
    named = [{**rows[0], "split": "train"}, {**rows[0], "split": "test"}, {**rows[1], "split": "test"}]
    assert parse_jsonl(map(json.dumps, named), name="own", seed=0).seen("test") == 1


def test_a_template_puts_prompts_into_other_words() -> None:
    content = f"{GOOD}\n".encode()
    task = parse(content, name="own.jsonl", seed=0, template="Q: {prompt} {{?}}\nA:")
    assert task.train == (Example("Q: 2 + 2 = {?}\nA:", " 4"),)
    assert task.template == "Q: {prompt} {{?}}\nA:"
    with pytest.raises(TaskError, match=r"asks for \{answer\}: this task has \{prompt\}"):
        parse(content, name="own.jsonl", seed=0, template="{answer}")


PROMPTS_IN_CSV = {
    "2 + 2 =, 4": ("2 + 2 =", " 4"),
    '"2 + 2 =", 4': ("2 + 2 =", " 4"),
    ' "2 + 2 ="," 4"': ("2 + 2 =", " 4"),
    '"2 + 2 =", " 4"': ("2 + 2 =", " 4"),
    '\t"2 + 2 =",\u00a0" 4"': ("2 + 2 =", " 4"),
    '\u200b"2 + 2 =",\u2060 " 4"': ("2 + 2 =", " 4"),
    "'tis 2 + 2 =,\"say 'hi', 4\"": ("'tis 2 + 2 =", "say 'hi', 4"),
    "`2` + 2 =, 4": ("`2` + 2 =", " 4"),
    ' "2, 2\n\nand ""2"" =", " 4"': ('2, 2\n\nand "2" =', " 4"),
    '"say ""2"", \n ""3"" =", 4': ('say "2", \n "3" =', " 4"),
    '" ""2"" =", 4': (' "2" =', " 4"),
    "\"'2 + 2 ='\", 4": ("'2 + 2 ='", " 4"),
    "'tis 2 + 2 =, 4": ("'tis 2 + 2 =", " 4"),
    "2'6\" wide ='?, 4'": ("2'6\" wide ='?", " 4'"),
    '"2 +\r\n2 =", 4': ("2 +\n2 =", " 4"),
    '"2 +\r2 =", 4': ("2 +\n2 =", " 4"),
}


@pytest.mark.parametrize("line", sorted(PROMPTS_IN_CSV))
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_no_quote_and_no_windows_line_end_of_csv_becomes_part_of_a_text(line: str, end: str) -> None:
    content = end.join(["prompt,answer", line, "other, 5", ""])
    task = parse(content.encode(), name="own.csv", seed=0)
    prompt, answer = PROMPTS_IN_CSV[line]
    assert Example(prompt, answer) in (*task.train, *task.validation, *task.test)


CHOICES_IN_CSV = {
    '"["" b"", "" c""]"': (" b", " c"),
    " b| c": (" b", " c"),
    "[b]|[c]| b": ("[b]", "[c]", " b"),
    '"[""b""]|[""c""]| b"': ('["b"]', '["c"]', " b"),
    "[1]|[2]| b": ("[1]", "[2]", " b"),
}


@pytest.mark.parametrize("cell", sorted(CHOICES_IN_CSV))
def test_choices_in_csv_may_begin_with_a_bracket(cell: str) -> None:
    task = parse(f"prompt,answer,choices\na, b,{cell}\n".encode(), name="own.csv", seed=0)
    assert task.train[0].choices == CHOICES_IN_CSV[cell]


EQUAL_PROMPTS = ["caf\u00e9 =", "cafe\u0301 =", "caf\u00e9\u00a0=", "\uff43af\u00e9 ="]


def test_prompts_that_read_the_same_are_never_in_two_splits() -> None:
    rows = [{"prompt": f"{prompt} {i}", "answer": f" {i}"} for i in range(10) for prompt in EQUAL_PROMPTS]
    for seed in range(5):
        task = parse_jsonl(map(json.dumps, rows), name="own", seed=seed)
        split_of = {one.prompt[-1]: set() for one in task.train}
        for split in ("train", "validation", "test"):
            for one in getattr(task, split):
                split_of.setdefault(one.prompt[-1], set()).add(split)
        assert all(len(splits) == 1 for splits in split_of.values())
        assert len(task.train) + len(task.validation) + len(task.test) == 40
        assert [task.seen(split) for split in ("train", "validation", "test")] == [0, 0, 0]
    named = [{**rows[0], "split": "train"}, {**rows[1], "split": "test"}]
    assert parse_jsonl(map(json.dumps, named), name="own", seed=0).seen("test") == 1


def noticed(*pairs: tuple[str, str]) -> tuple[str, ...]:
    rows = [{"prompt": prompt, "answer": answer} for prompt, answer in pairs]
    return parse_jsonl(map(json.dumps, rows), name="own", seed=0).notices


def test_answers_that_begin_otherwise_than_the_others_are_noticed() -> None:
    spaced = [(f"p{i}", f" {i}") for i in range(9)]
    assert noticed(*spaced) == ()
    (said,) = noticed(*spaced, ("p9", "nine"))
    assert said == "1 of 10 answers begins without the leading space that the others have, such as 'nine'."
    (said,) = noticed(*[(prompt, answer.strip()) for prompt, answer in spaced], ("p9", " nine"), ("p10", " ten"))
    assert said.startswith("2 of 11 answers begin with a leading space that the others do not have, such as ' ")
    assert noticed(*spaced[:4], *[(f"q{i}", f"{i}") for i in range(4)]) == ()  # as many of both: a choice, no slip


def test_choices_that_begin_otherwise_than_the_others_are_noticed() -> None:
    lists = [[" yes", " no", "maybe"], [" yes", " no", "maybe"], [" yes", " no"]]
    rows = [{"prompt": f"p{i}", "answer": " yes", "choices": choices} for i, choices in enumerate(lists)]
    (said,) = parse_jsonl(map(json.dumps, rows), name="own", seed=0).notices
    assert said.startswith("2 of 8 answers begin without the leading space that the others have, such as 'maybe'")


def test_blanks_that_are_probably_not_meant_are_noticed() -> None:
    (said,) = noticed(("2 + 2 = ", " 4"), ("2 + 3 =", " 5"))
    assert said.startswith("1 of 2 prompts end with a blank, and their answers begin with one")
    (said,) = noticed(("one\r\ntwo =", " 4"), ("2 + 3 =", " 5"))
    assert said.startswith("1 of 2 prompts hold carriage returns")
    (said,) = noticed(("2 + 2 =", " 4\n"), ("2 + 3 =", " 5"))
    assert said.startswith("1 of 2 prompts have an answer that ends with a blank or a line break, which has to be said")


def test_reading_a_long_file_tells_its_progress() -> None:
    lines = "".join(f'{{"prompt": "p{i}", "answer": " {i}"}}\n' for i in range(3 * LINES))
    told: list[tuple[int, int]] = []
    parse(lines.encode(), name="own.jsonl", seed=0, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 3 * LINES + 1)
    assert told[-1] == (3 * LINES + 1, 3 * LINES + 1)
    assert told == sorted(told)
    assert len(told) == 5


LONG = [{"prompt": f"{i} + 1 =", "answer": f" {i + 1}"} for i in range(LINES)]


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ('{"prompt": "a", "answer": " b"}', ("a", " b")),
        ('{"answer": " b", "prompt": "a"}', ("a", " b")),
        ('  {"prompt": "say \\"a\\"", "answer": " \\"b\\""} ', ('say "a"', ' "b"')),
        ('{"prompt": "a\\\\", "answer": " b\\\\"}', ("a\\", " b\\")),
        ('{"prompt": "\\u00e9", "answer": " b"}', ("é", " b")),
        ('{"prompt": "a", "answer": " b", "answer": " c"}', "the field 'answer' comes twice"),
        (
            '{"prompt": "a\\\\", "prompt": "x\\\\", "answer": "\\\\", "answer": "\\\\"}',
            "the field 'prompt' comes twice",
        ),
        ('{"prompt": "a", "answer": 4}', "the answer 4 is no text"),
        ('{"prompt": "a", "answer": "  "}', "no answer"),
        ('{"prompt": "a", "reply": " b"}', "no answer"),
        ('{"prompt": "a", "answer": " b"}, {"prompt": "c", "answer": " d"}', "not a JSON object"),
        ('["a", "b"]', "a list instead of an object"),
        ('{"prompt": "a", "answer": " b"', "not a JSON object"),
    ],
)
def test_a_line_among_thousands_is_read_as_if_it_were_alone(line: str, read: tuple[str, str] | str) -> None:
    lines = [*map(json.dumps, LONG[: LINES // 2]), line, *map(json.dumps, LONG[LINES // 2 :])]
    if isinstance(read, str):
        with pytest.raises(TaskError, match=f"own, line {LINES // 2 + 1}: {read}"):
            parse_jsonl(lines, name="own", seed=0)
        return
    task = parse_jsonl(lines, name="own", seed=0)
    assert sorted((one.prompt, one.answer) for one in (*task.train, *task.validation, *task.test)) == sorted(
        [read, *((row["prompt"], row["answer"]) for row in LONG)]
    )
    alone = [row for _, row in json_rows([line])]
    assert [(row["prompt"], row["answer"]) for row in alone if isinstance(row, dict)] == [read]


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("a, b", ("a", " b")),
        ('"a, b"," c"', ("a, b", " c")),
        ('"say ""a"""," b"', ('say "a"', " b")),
        ('"a\nb"," c"', ("a\nb", " c")),
        ("é, b", ("é", " b")),
        ("a,", "no answer"),
        ("a, b, c", "3 cells where the header has 2"),
        ("'a', b", "a cell in single quotes"),
        ('a, "b"c', "not CSV"),
    ],
)
def test_a_row_among_thousands_is_read_as_if_it_were_alone(line: str, read: tuple[str, str] | str) -> None:
    rows = [f'"{row["prompt"]}"," {row["answer"].strip()}"' for row in LONG]
    text = "\n".join(["prompt,answer", *rows[: LINES // 2], line, *rows[LINES // 2 :]])
    if isinstance(read, str):
        with pytest.raises(TaskError, match=f"line {LINES // 2 + 2}: {read}"):
            parse(text.encode(), name="own.csv", seed=0)
        return
    task = parse(text.encode(), name="own.csv", seed=0)
    assert sorted((one.prompt, one.answer) for one in (*task.train, *task.validation, *task.test)) == sorted(
        [read, *((row["prompt"], row["answer"]) for row in LONG)]
    )
