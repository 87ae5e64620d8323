"""Templates: what may stand in them, and that nothing else is ever looked up."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.errors import TaskError
from explorer.tasks import TASKS, load_task
from explorer.tasks import template as templates

NAMES = ("i", "j")


@given(st.text(), st.text(), st.text())
def test_values_are_put_in_as_they_are(before: str, i: str, j: str) -> None:
    text = before.replace("{", "{{").replace("}", "}}") + "{i}{j}{i}"
    templates.check(text, NAMES)
    assert templates.fill(text, {"i": i, "j": j}) == before + i + j + i


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{k} =", "asks for {k}: this task has {i}, {j}"),
        ("{} =", "asks for {}"),
        ("{0} =", "asks for {0}"),
        ("{i.__class__} =", "asks for {i.__class__}"),
        ("{i[0]} =", "asks for {i[0]}"),
        ("{i!r} =", "asks for {i!r}"),
        ("{i:>5} =", "asks for {i:>5}"),
        ("{i:{j}} =", "asks for {i:{j}}"),
        ("{i =", "has unbalanced braces"),
        ("i} =", "has unbalanced braces"),
        ("what?", "would ask the same every time: use {i}, {j} in it"),
        ("{{i}}", "would ask the same every time"),
        ("", "would ask the same every time"),
    ],
)
def test_what_cannot_be_filled_is_refused(template: str, reason: str) -> None:
    with pytest.raises(TaskError, match=re.escape(reason)):
        load_task("int-mult", template=template)


def test_a_template_changes_the_words_and_nothing_else() -> None:
    own, other = load_task("int-mult", seed=3), load_task("int-mult", seed=3, template="What is {i} times {j}?")
    for one, two in zip(own.test, other.test, strict=True):
        i, j = one.prompt.split()[0], one.prompt.split()[2]
        assert (two.prompt, two.answer) == (f"What is {i} times {j}?", one.answer)
    assert own.digest != other.digest
    assert (own.template, other.template) == (None, "What is {i} times {j}?")


def test_a_template_that_hides_what_tells_examples_apart_is_refused() -> None:
    with pytest.raises(TaskError, match=r"makes 20 prompts of 400 different examples: use more of \{i\}, \{j\}"):
        load_task("int-mult", template="{i} times?")


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_default_template_can_be_filled(name: str) -> None:
    templates.check(TASKS[name].template, TASKS[name].placeholders)


@pytest.mark.parametrize("text", ["{a}\nb", r"{a}\nb", r"C:\new {a}", "\\", r"\\n{a}", "{a}\\\n", r"\t{a}", ""])
def test_a_template_survives_being_typed_in_one_line(text: str) -> None:
    line = templates.as_typed(text)
    assert "\n" not in line
    assert templates.typed(line) == text


def test_a_backslash_and_an_n_typed_in_one_line_are_a_line_break() -> None:
    assert templates.typed(r"Q: {a}\nA:") == "Q: {a}\nA:"
    assert templates.typed(r"Q: {a}\\nA:") == r"Q: {a}\nA:"
    assert templates.typed(r"\d{a}\t") == r"\d{a}\t"
