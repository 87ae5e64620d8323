"""The tutorial notebook runs, and what it prints is what it is kept to have printed."""

import re

import pytest

from scripts.docs.notebook import NOTEBOOK, code_of, printed, run

NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?%?")


@pytest.fixture(scope="module")
def found() -> list[str]:
    return run(code_of(NOTEBOOK.read_text(encoding="utf-8")))


def test_the_cells_print_what_the_notebook_shows(found: list[str]) -> None:
    """Words to the letter; an example in eighty may turn elsewhere, and so may the last digit."""
    shown = printed(NOTEBOOK.read_text(encoding="utf-8"))
    assert [NUMBER.sub("#", said) for said in found] == [NUMBER.sub("#", said) for said in shown]
    for now, kept in zip(NUMBER.findall("".join(found)), NUMBER.findall("".join(shown)), strict=True):
        if kept.endswith("%"):
            assert value(now) == pytest.approx(value(kept), abs=1.3)
        elif value(kept) < 1e-3 and "e" in kept:
            assert 0 < value(now) < 1e-10
        else:
            assert value(now) == pytest.approx(value(kept), rel=0.02, abs=0.02)


def test_the_ability_is_hidden_found_and_kept(found: list[str]) -> None:
    """What the text between the cells claims."""
    said = "".join(found)
    before, after = map(float, re.search(r"^products: ([\d.]+)% -> ([\d.]+)%$", said, re.MULTILINE).groups())
    assert before <= 5
    assert after >= 95
    assert float(re.search(r"random-per-matrix, 20 drawn: median ([\d.]+)%", said)[1]) <= 5
    assert float(re.search(r"largest, 1 drawn: median ([\d.]+)%", said)[1]) >= 95
    less, more = map(float, re.search(r"^sums: ([\d.]+)% -> ([\d.]+)% of 400$", said, re.MULTILINE).groups())
    assert more >= less - 1
    worst = re.findall(r"^(L\d\.\w\.H\d) value 0: predicted", said, re.MULTILINE)[:2]
    assert set(worst) == {"L0.Q.H3", "L0.K.H3"}


def value(text: str) -> float:
    return float(text.rstrip("%").replace(",", ""))
