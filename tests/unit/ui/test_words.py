"""Numbers and foreign text as the pages write them."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.measure.evaluate import Evaluation
from explorer.measure.metrics import Mean
from explorer.tasks import Example
from explorer.ui.components import words


def test_percent_and_points() -> None:
    assert words.percent(0.125) == "12.5 %"
    assert words.points(Mean(0.0375, 0.01, 40)) == "+3.8 points"
    assert words.points(Mean(-0.5, 0.01, 40)) == "-50.0 points"


def test_accuracy_has_its_interval_and_n() -> None:
    examples = (Example("a", " b"),) * 1200
    evaluation = Evaluation(examples, (1.0,) * 1200, (True,) * 600 + (False,) * 600, (" b",) * 1200)
    assert words.accuracy(evaluation) == "50.0 % [47.2, 52.8], n = 1,200"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "+0.000 nats"),
        (-2.44112, "-2.441 nats"),
        (17.5, "+17.500 nats"),
        (-0.0123456, "-0.0123 nats"),
        (0.000012345, "+0.000012 nats"),
        (1e-12, "+0.000000 nats"),
    ],
)
def test_nats_keep_three_digits_that_count(value: float, text: str) -> None:
    assert words.nats(value) == text


def test_spread() -> None:
    assert words.spread(Mean(5.5484, 0.2971, 40)) == "5.548 ± 0.297"
    assert words.spread(Mean(5.5484, 0.2971, 40), signed=True) == "+5.548 ± 0.297"
    assert words.spread(Mean(5.5484, math.nan, 1)) == "5.548"


def test_foreign_text_is_no_markup() -> None:
    hostile = "![x](http://e.example/x.png) <b>*a*</b> `b` _c_ $d$ :red[e] \\f"
    shown = words.literal(hostile)
    assert shown == ("\\!\\[x\\](http\\:\u2060//e.example/x.png) " r"\<b\>\*a\*\</b\> \`b\` \_c\_ \$d\$ \:red\[e\] \\f")


@given(st.text())
def test_foreign_text_says_the_same_after_markdown_has_read_it(text: str) -> None:
    """A backslash before punctuation vanishes in Markdown; line breaks and runs of spaces are one space."""
    shown = words.literal(text)
    plain, escaped = "", False
    for letter in shown:
        if letter == "\\" and not escaped:
            escaped = True
            continue
        assert escaped or letter not in "`*_[]<>$~#|!&:"
        plain, escaped = plain + letter, False
    assert not escaped
    assert plain.replace("\u2060", "") == " ".join(text.split()).replace("\u2060", "")


@pytest.mark.parametrize(
    "address", ["http://x", "HTTPS://x.example/a_b", "www.x.example", "a@b.example", "mailto:a@b.c"]
)
def test_no_address_is_left_that_markdown_would_make_a_link(address: str) -> None:
    shown = words.literal(f"the model {address} is not there")
    assert not re.search(r"(?i)https?\\?://|www\.|\w@\w|mailto\\?:\w", shown)
    assert shown.replace("\u2060", "").replace("\\", "") == f"the model {address} is not there"


@pytest.mark.parametrize(("n", "text"), [(0, "0 matrices"), (1, "1 matrix"), (2000, "2,000 matrices")])
def test_one_is_singular(n: int, text: str) -> None:
    assert words.count(n, "matrix", "matrices") == text
    assert words.count(n, "value") == text.replace("matrices", "values").replace("matrix", "value")
