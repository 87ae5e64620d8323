"""Which cases share a split, what is held out, and what a search has seen: against brute force over pairs."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from explorer.core.errors import SettingsError, TaskError
from explorer.tasks import SPLITS, TASKS, Cases, Example, Task, as_cases, load_task, read_in_search, seen, with_shots
from explorer.tasks.cases import split_by_operands, split_items, split_related

ARITHMETIC = ("int-sum", "int-mult", "int-mult-12")
SYMMETRIC = sorted(name for name, spec in TASKS.items() if spec.symmetric)
WHOLE = sorted(name for name, spec in TASKS.items() if not spec.comes_split)
WORDED = sorted(name for name, spec in TASKS.items() if spec.unseen)
# Of the splits of before, which are the published ones: masks, cells and searches of before are of these.
PUBLISHED = {
    "int-sum": "sha256:36e6e551",
    "int-mult": "sha256:aefa6c66",
    "int-mult-12": "sha256:f7345e14",
    "ioi": "sha256:91e5e5d8",
    "capitals": "sha256:cd9ea800",
    "greater-than": "sha256:63b40fee",
    "induction": "sha256:04b6b939",
}
# With a twin in train or validation, counted in the splits of before.
MIRRORED = {"int-mult-12": (26, 29), "int-mult": (70, 80), "int-sum": (1631, 2000)}


def searched(task: Task) -> tuple[Example, ...]:
    return (*task.train, *task.validation)


def numbers(example: Example) -> tuple[int, int]:
    first, second = map(int, re.findall(r"\d+", example.prompt))
    return first, second


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_published_splits_are_those_of_before(name: str) -> None:
    assert load_task(name, cases=Cases("published")).digest.startswith(PUBLISHED[name])
    same = load_task(name).digest.startswith(PUBLISHED[name])
    assert same != TASKS[name].symmetric


@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_no_pair_has_its_mirror_in_another_split(name: str, seed: int) -> None:
    task = load_task(name, seed)
    where = {numbers(one): split for split in SPLITS for one in task.split(split)}
    assert all(where[j, i] == split for (i, j), split in where.items())
    sizes = Counter(where.values())
    assert [round(sizes[split] / len(where), 1) for split in SPLITS] == [0.7, 0.1, 0.2]
    assert set(where) == set(product(range(max(where)[0] + 1), repeat=2))


def test_the_same_question_with_the_names_in_the_other_order_is_in_the_same_split() -> None:
    task = load_task("ioi")
    where: dict[tuple[str, ...], set[str]] = {}
    for split in SPLITS:
        for one in task.split(split):
            names = sorted(set(re.findall(r"\b[A-Z][a-z]+\b", one.prompt)) & set(_names()))
            rest = [word for word in re.findall(r"\w+", one.prompt) if word in _things()]
            where.setdefault((*names, one.answer, *sorted(rest)), set()).add(split)
    assert all(len(splits) == 1 for splits in where.values())


def _names() -> tuple[str, ...]:
    from explorer.tasks.ioi import NAMES

    return NAMES


def _things() -> tuple[str, ...]:
    from explorer.tasks.ioi import OBJECTS, PLACES

    return (*PLACES, *OBJECTS)


@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize("seed", [0, 3])
def test_held_out_operands_are_in_no_train_example_and_not_in_validation(name: str, seed: int) -> None:
    task = load_task(name, seed, cases=Cases(hold_out="operands"))
    parts = {split: {number for one in task.split(split) for number in numbers(one)} for split in SPLITS}
    known = parts["train"] | parts["validation"]
    assert all(set(numbers(one)) - known for one in task.test)
    assert all(set(numbers(one)) - parts["train"] for one in task.validation)
    everything = [numbers(one) for split in SPLITS for one in task.split(split)]
    assert len(everything) == len(set(everything)) == len(parts["train"] | parts["validation"] | parts["test"]) ** 2
    assert 0.1 < len(task.test) / len(everything) < 0.31


@pytest.mark.parametrize("name", WHOLE)
def test_held_out_answers_are_in_no_other_split(name: str) -> None:
    task = load_task(name, cases=Cases(hold_out="answers"))
    answers = [{one.answer for one in task.split(split)} for split in SPLITS]
    assert not answers[2] & (answers[0] | answers[1])
    assert not answers[0] & answers[1]
    assert sum(len(task.split(split)) for split in SPLITS) == sum(len(load_task(name).split(split)) for split in SPLITS)


@pytest.mark.parametrize("name", WORDED)
def test_test_examples_are_asked_in_words_that_no_search_reads(name: str) -> None:
    spec = TASKS[name]
    assert len(spec.searched) >= 3
    assert len(spec.unseen) >= 2
    assert len({*spec.searched, *spec.unseen}) == len(spec.searched) + len(spec.unseen)
    task = load_task(name, cases=Cases(hold_out="wordings", wordings=len(spec.searched)))

    def pattern(template: str) -> re.Pattern[str]:
        return re.compile(re.sub(r"\\\{\w+\\\}", "(.+?)", re.escape(template)))

    known, unseen = [pattern(one) for one in spec.searched], [pattern(one) for one in spec.unseen]
    assert all(any(one.fullmatch(example.prompt) for one in known) for example in searched(task))
    assert all(any(one.fullmatch(example.prompt) for one in unseen) for example in task.test)
    assert not any(one.fullmatch(example.prompt) for one in unseen for example in searched(task))
    usual = load_task(name)
    assert {one.case.item for one in task.test} == {one.case.item for one in usual.test}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_has_five_wordings_at_least_and_two_that_no_search_uses(name: str) -> None:
    assert len(TASKS[name].searched) + len(TASKS[name].unseen) >= 5


def test_several_wordings_are_taken_in_turn_and_no_case_counts_twice() -> None:
    usual, several = load_task("int-mult"), load_task("int-mult", cases=Cases(wordings=3))
    for split in SPLITS:
        assert [one.case for one in several.split(split)] == [one.case for one in usual.split(split)]
        assert [one.answer for one in several.split(split)] == [one.answer for one in usual.split(split)]
    kinds = Counter(re.sub(r"\d+", "#", one.prompt) for one in several.train)
    assert set(kinds) == {"# x # =", "# * # =", "# times # is"}
    assert max(kinds.values()) - min(kinds.values()) <= 1
    assert several.digest != usual.digest


@pytest.mark.parametrize(
    ("name", "cases", "words"),
    [
        ("int-mult", {"wordings": 9}, "searches can use 4 of the wordings of int-mult, not 9"),
        ("induction", {"hold_out": "wordings"}, "induction has no wording to hold out"),
        ("int-mult", {"splits": "published", "hold_out": "answers"}, "the published splits hold nothing out"),
        ("int-mult", {"splits": "mirror"}, "splits 'mirror' are not known: choose one of twins, published"),
        ("int-mult", {"hold_out": "tests"}, "'tests' cannot be held out: choose one of operands, answers, wordings"),
        ("int-mult", {"wordings": 0}, "0 wordings cannot be taken: give 1 to 100"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(name: str, cases: dict[str, object], words: str) -> None:
    with pytest.raises((TaskError, SettingsError), match=re.escape(words)):
        load_task(name, cases=as_cases(**cases))  # type: ignore[arg-type]


def test_a_template_is_one_wording_and_may_be_the_one_to_search_with() -> None:
    with pytest.raises(TaskError, match="a template is one wording"):
        load_task("int-mult", template="{i}*{j}=", cases=Cases(wordings=2))
    task = load_task("int-mult", template="{i}*{j}=", cases=Cases(hold_out="wordings"))
    assert all(re.fullmatch(r"\d+\*\d+=", one.prompt) for one in searched(task))
    assert not any(re.fullmatch(r"\d+\*\d+=", one.prompt) for one in task.test)


def test_a_file_that_names_its_splits_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "named.csv"
    path.write_text("prompt,answer,split\na, b,train\nc, d,validation\ne, f,test\n")
    with pytest.raises(TaskError, match=r"named\.csv names its splits itself: answers cannot be held out"):
        load_task(str(path), cases=Cases(hold_out="answers"))
    with pytest.raises(TaskError, match=r"named\.csv has one wording"):
        load_task(str(path), cases=Cases(wordings=2))


@pytest.mark.parametrize("held_out", ["operands", "wordings"])
def test_a_file_has_no_operands_or_wordings_to_hold_out(tmp_path: Path, held_out: str) -> None:
    path = tmp_path / "plain.csv"
    path.write_text("prompt,answer\n" + "".join(f"p{i}, a{i}\n" for i in range(30)))
    with pytest.raises(TaskError, match=f"a file does not say what its {held_out} are"):
        load_task(str(path), cases=as_cases(hold_out=held_out))
    task = load_task(str(path), cases=Cases(hold_out="answers"))
    assert not {one.answer for one in task.test} & {one.answer for one in searched(task)}


def test_rows_of_one_group_and_prompts_of_the_same_words_stay_together(tmp_path: Path) -> None:
    path = tmp_path / "grouped.csv"
    rows = [f"p{i}, a{i},g{i % 12}" for i in range(60)] + [f"{i} + {i + 1} =, {2 * i + 1}," for i in range(30)]
    rows += [f"{i + 1} + {i} =, {2 * i + 1}," for i in range(30)]
    path.write_text("prompt,answer,group\n" + "\n".join(rows) + "\n")
    task = load_task(str(path), 5)
    group = {f"p{i}": f"g{i % 12}" for i in range(60)}
    for one in searched(task):
        for other in task.test:
            assert one.prompt not in group or group[one.prompt] != group.get(other.prompt)
            assert sorted(one.prompt.split()) != sorted(other.prompt.split())
    assert seen(read_in_search(task), task.test).new_cases == tuple(range(len(task.test)))


def test_a_planted_twin_in_a_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "planted.csv"
    path.write_text(
        "prompt,answer,group,split\n"
        "3 * 11 =, 33,,train\n7 * 2 =, 14,,train\ncapital of France, Paris,f,train\n1 * 5 =, 5,,validation\n"
        "11 * 3 =, 33,,test\nthe seat of France, Paris,f,test\n7 * 2 =, 14,,test\n2 * 7 =, 15,,test\n"
        "20 - 6 =, 14,,test\n9 * 9 =, 81,,test\n"
    )
    task = load_task(str(path))
    found = seen(read_in_search(task), task.test)
    assert found.prompts == (False, False, True, False, False, False)
    assert found.twins == (True, True, False, False, False, False)
    assert found.answers == (True, True, True, False, True, False)
    assert [task.test[place].prompt for place in found.new_cases] == ["2 * 7 =", "20 - 6 =", "9 * 9 ="]
    assert [task.test[place].prompt for place in found.new_answers] == ["2 * 7 =", "9 * 9 ="]


@pytest.mark.parametrize("name", sorted(MIRRORED))
def test_mirrored_examples_are_counted_as_by_hand(name: str) -> None:
    task = load_task(name, cases=Cases("published"))
    found = seen(read_in_search(task), task.test)
    known = {numbers(one) for one in searched(task)}
    assert found.twins == tuple((j, i) in known and i != j for i, j in map(numbers, task.test))
    assert (sum(found.twins), len(task.test)) == MIRRORED[name]
    answers = {one.answer for one in searched(task)}
    assert found.answers == tuple(one.answer in answers for one in task.test)
    assert not any(found.prompts)
    clean = load_task(name)
    assert not any(seen(read_in_search(clean), clean.test).twins)


def test_cases_are_the_same_in_other_words_with_shots_and_in_a_chat() -> None:
    from explorer.tasks import as_framing

    plain, published = load_task("int-mult"), Cases("published")
    others = [
        load_task("int-mult", template="{i} and {j}:"),
        load_task("int-mult", shots=2),
        load_task("int-mult", shots=2, framing=as_framing(chat=True)),
        load_task("int-mult", cases=Cases(wordings=2)),
    ]
    for other in others:
        assert [one.case for one in other.test] == [one.case for one in plain.test]
    across = seen(read_in_search(load_task("int-mult", template="{i} and {j}:", cases=published)), plain.test)
    known = {numbers(one) for one in searched(load_task("int-mult", cases=published))}
    assert across.prompts == tuple(numbers(one) in known for one in plain.test)


def test_shots_of_a_file_leave_its_cases_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("prompt,answer\n" + "".join(f"{i} + {i + 1} =, {2 * i + 1}\n" for i in range(40)))
    task = load_task(str(path))
    assert [one.case for one in with_shots(task, 3).test] == [one.case for one in task.test]


def test_only_what_a_search_scores_counts_as_read() -> None:
    task = load_task("int-mult")
    assert read_in_search(task, 10) == (*task.train[:10], *task.validation)
    assert read_in_search(load_task("int-mult", shots=3), 1)[:4] == load_task("int-mult", shots=3).train[:4]


def test_groups_too_large_for_test_and_validation_are_trained_on() -> None:
    items = [("a", i) for i in range(50)] + [(f"b{i}", i) for i in range(50)]
    train, validation, test = split_related(items, 0, lambda one: (one[0],), what="letters")
    assert {one for one in items if one[0] == "a"} <= set(train)
    assert (len(train), len(validation), len(test)) == (70, 10, 20)
    with pytest.raises(TaskError, match="too few different letters to hold some out"):
        split_related(items[:50], 0, lambda one: (one[0],), what="letters")
    with pytest.raises(TaskError, match="too few different operands"):
        split_by_operands(["x", "y"], 0, lambda one: (one,))


def test_relations_over_several_keys_join_groups() -> None:
    chain = [(i, i + 1) for i in range(30)]  # each shares a number with the next
    with pytest.raises(TaskError, match="too few"):
        split_related(chain, 0, lambda one: one, what="links")
    apart = [(2 * i, 2 * i + 1) for i in range(30)]
    assert [len(part) for part in split_related(apart, 0, lambda one: one, what="links")] == [21, 3, 6]
    assert [len(part) for part in split_items(apart, 0, lambda one: one)] == [21, 3, 6]
