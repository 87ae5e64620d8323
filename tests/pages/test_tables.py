"""Tables sort by their numbers: no column of any table holds numbers as text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from explorer.masks.library import Library
from tests.pages.app import Engine, click, go, look, open_page, settled, upload_task
from tests.pages.test_masks import select

pytestmark = pytest.mark.usefixtures("empty_library")

# A number that stands alone, or before a unit, an error or an interval; such a column would sort as text.
NUMBER = re.compile(r"\s*[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?(?=$|[\s%\[±])")
SAYS = {"unpruned said", "now says", "unpruned chose", "now chooses"}
TEXTS = SAYS | {"prompt", "answer", "name", "notes", "id"}  # of examples and users: any text
YES_NO = [{"prompt": f"{n} x {m} =", "answer": f" {n * m % 2}"} for n in range(2, 12) for m in range(2, 12)]


def numbers_as_text(frame: pd.DataFrame) -> list[str]:
    """The columns of a table whose every cell that says something begins with a number, but is text."""
    found = []
    for name, column in frame.items():
        cells = [cell for cell in column if isinstance(cell, str) and cell.strip()]
        if name not in TEXTS and cells and all(NUMBER.match(cell) for cell in cells):
            found.append(str(name))
    return found


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        (["25.0 %", "", "100.0 %"], True),
        (["+0.123 [-0.001, +0.200]"], True),
        (["5.548 ± 0.297", "1,000"], True),
        (["128 x 32"], True),
        (["1.2e-10", "-3"], True),
        (["12", "none"], False),
        (["3-5, 7-9"], False),
        (["L0.Q.H3"], False),
        ([0.25, 1.0], False),
        (["", ""], False),
    ],
)
def test_the_rule(cells: list[object], text: bool) -> None:
    assert numbers_as_text(pd.DataFrame({"cells": cells})) == (["cells"] if text else [])


def overview(engine: Engine) -> AppTest:
    return open_page("Overview")


def changes(engine: Engine) -> AppTest:
    app = upload_task(open_page("Prune"), "\n".join(map(json.dumps, YES_NO)))
    return click(app, "remove-lowest")


def flips(engine: Engine) -> AppTest:
    return click(open_page("Prune"), "remove-lowest")


def elsewhere(engine: Engine) -> AppTest:
    return click(look(flips(engine), "Elsewhere"), "damage")


def example(engine: Engine) -> AppTest:
    return look(flips(engine), "Inside one example")


def scores(engine: Engine) -> AppTest:
    return click(open_page("Scores"), "measure-these")


def search(engine: Engine) -> AppTest:
    return open_page("Search")


def spectra(engine: Engine) -> AppTest:
    return open_page("Spectra", matrix="L0.K.H1_L2.OUT", against="bundled")


def activations(engine: Engine) -> AppTest:
    return go(flips(engine), "Activations")


def masks(engine: Engine, *rows: int) -> AppTest:
    for count in (3, 5):
        Library.default().save(engine.lowest(engine.scores(), count), f"lowest {count}")
    return select(open_page("Masks"), *rows)


def one_mask(engine: Engine) -> AppTest:
    app = masks(engine, 0)
    app = settled(app.multiselect(key="other-tasks").set_value(["int-sum"]).run())
    return click(app, "transfer")


def two_masks(engine: Engine) -> AppTest:
    return masks(engine, 0, 1)


VIEWS: dict[Callable[[Engine], AppTest], list[str]] = {  # with columns by which its tables are known
    overview: ["property", "prompt tokens"],
    flips: ["flip"],
    changes: ["answer"],
    elsewhere: ["task"],
    example: [],
    scores: ["score", "spearman"],
    search: [],
    spectra: ["stable_rank", "alpha", "u chance"],
    activations: ["probability"],
    one_mask: ["values", "loss error", "task", "repaired"],
    two_masks: ["values", "loss error"],
}


@pytest.mark.usefixtures("nothing_measured")
@pytest.mark.parametrize("view", VIEWS, ids=[view.__name__ for view in VIEWS])
def test_no_number_is_text(engine: Engine, view: Callable[[Engine], AppTest]) -> None:
    frames = [one.value for one in view(engine).dataframe]
    for column in VIEWS[view]:
        assert any(column in frame.columns for frame in frames), column
    assert {tuple(frame.columns): numbers_as_text(frame) for frame in frames if numbers_as_text(frame)} == {}
