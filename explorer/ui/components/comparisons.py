"""What masks do, as tables and in a sentence.

Number columns hold numbers, so that they sort: a unit stands in the format or in the head, the bounds of an interval
in columns of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd
import streamlit as st

from explorer.core.config import settings
from explorer.measure.evaluate import Comparison, Evaluation
from explorer.ui.components import words

ANSWERS = 200  # rows of a table of answers
_LOSS_CHANGE = "loss change (nats)"
_ACCURACY = "exact match, or how often the most probable choice is right, as the sidebar says"
_NUMBER = st.column_config.NumberColumn
_PERCENT = "%.1f\u00a0%%"
_WILSON = "95 % Wilson interval of the accuracy, in percent"
_BOOTSTRAP = "paired 95 % bootstrap interval of the loss change, in nats"
_COLUMNS: dict[str, Any] = {
    "mask": st.column_config.TextColumn("mask", width=128),
    "task": st.column_config.TextColumn("task", width=96),
    "answer": st.column_config.TextColumn("answer", width=120),
    "slice": st.column_config.TextColumn("slice", width=110),
    "by": st.column_config.TextColumn("by", width=90, help="what counts as right"),
    "n": _NUMBER("n", width=44, help="examples, the same with the mask and without"),
    **{
        f"{side}accuracy": _NUMBER(label, format=_PERCENT, width=66, help=_ACCURACY)
        for side, label in (("", "accuracy"), ("unpruned ", "unpruned"), ("masked ", "masked"))
    },
    **{
        f"{side}{bound}": _NUMBER(bound, format="%.1f", width=48, help=_WILSON)
        for side in ("", "unpruned ", "masked ")
        for bound in ("low", "high")
    },
    "loss": _NUMBER("loss (nats)", format="%.3f", width=74, help="mean over the examples"),
    "loss error": _NUMBER("±", format="%.3f", width=52, help="standard error of the loss, in nats"),
    "change": _NUMBER("points", format="%+.1f", width=54, help="change of the accuracy in percentage points"),
    "repaired": _NUMBER("repaired", width=60, help="wrong in the unpruned model, right with the mask"),
    "broken": _NUMBER("broken", width=56, help="right in the unpruned model, wrong with the mask"),
    "p": _NUMBER("p", format="%.2g", width=62, help="McNemar's exact test on repaired and broken, two-sided"),
    "p, Holm": _NUMBER("p, Holm", format="%.2g", width=62, help="adjusted for all slices of the table"),
    "loss change": _NUMBER(
        "Δ loss", format="%+.3f", width=58, help="mean change of the loss on the same examples, in nats"
    ),
    "loss low": _NUMBER("low", format="%+.3f", width=58, help=_BOOTSTRAP),
    "loss high": _NUMBER("high", format="%+.3f", width=58, help=_BOOTSTRAP),
}


def table(rows: Iterable[dict[str, object]], key: str) -> None:
    """A table of cells that come from the functions below, and `mask`, `task` or `answer` to name its rows.

    A cell that a row lacks stays empty.
    """
    st.dataframe(pd.DataFrame(rows), hide_index=True, key=key, column_config=_COLUMNS, placeholder="")


def choose(rows: Iterable[dict[str, object]], key: str) -> int | None:
    """Such a table of which a row can be selected; gives its place."""
    event = st.dataframe(
        pd.DataFrame(rows), hide_index=True, key=key, column_config=_COLUMNS, placeholder="", on_select="rerun",
        selection_mode="single-row",
    )  # fmt: skip
    return next(iter(event.selection.rows), None)


def measured(one: Evaluation) -> dict[str, object]:
    """Accuracy and loss of one evaluation."""
    return {"n": one.n, **_accuracy(one), "loss": one.mean_loss.value, "loss error": one.mean_loss.stderr}


def both(found: Comparison) -> dict[str, object]:
    """Accuracy without the mask and with it."""
    unpruned, masked = _accuracy(found.baseline, "unpruned "), _accuracy(found.masked, "masked ")
    return {"n": found.masked.n, **unpruned, **masked}


def flipped(found: Comparison) -> dict[str, object]:
    """What changed in the accuracy, with its paired test."""
    test, points = found.accuracy_test, 100 * found.accuracy_change.value
    return {"change": points, "repaired": test.repaired, "broken": test.broken, "p": test.p}


def changed(found: Comparison) -> dict[str, object]:
    """What changed: accuracy with its paired test, loss with its bootstrap interval (ten thousand draws)."""
    low, high = found.loss_interval(settings().seed)
    return {**flipped(found), "loss change": found.loss_change.value, "loss low": low, "loss high": high}


def _accuracy(one: Evaluation, side: str = "") -> dict[str, object]:
    low, high = one.accuracy_interval
    return {f"{side}accuracy": 100 * one.accuracy, f"{side}low": 100 * low, f"{side}high": 100 * high}


def sentence(found: Comparison, first: str, second: str, where: str) -> str:
    """What changed from the first to the second; all names are Markdown."""
    test, (low, high) = found.accuracy_test, found.loss_interval(settings().seed)
    accuracy, loss = words.points(found.accuracy_change), words.nats(found.loss_change.value)
    return (
        f"From {first} to {second}, on {where}: accuracy **{accuracy}**, McNemar p = {test.p:.2g} "
        f"({test.repaired:,} repaired, {test.broken:,} broken); loss **{loss}**, "
        f"95 % bootstrap interval \\[{low:+.3f}, {high:+.3f}\\]."
    )


def answers(found: Comparison, places: Sequence[int], columns: Mapping[str, Callable[[int], str]], key: str) -> None:
    """Examples at some places, what columns say of each, and the change of its loss; the first `ANSWERS` of them."""
    before, after = found.baseline, found.masked
    rows = [
        {
            "prompt": after.examples[place].prompt,
            "answer": after.examples[place].answer,
            **{name: text(place) for name, text in columns.items()},
            _LOSS_CHANGE: after.loss[place] - before.loss[place],
        }
        for place in places[:ANSWERS]
    ]
    formats = {_LOSS_CHANGE: _NUMBER(format="%+.3f")}
    height: Literal["content"] | int = 320 if len(rows) > 8 else "content"
    st.dataframe(pd.DataFrame(rows), hide_index=True, key=key, height=height, column_config=formats)
