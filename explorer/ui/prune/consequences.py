"""What else the mask does: accuracy by answer, and damage to other tasks and to plain text."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import streamlit as st

from explorer.actions import MeasureDamage, TasksChoice
from explorer.core.progress import Progress
from explorer.masks.damage import Damage, damage
from explorer.measure.evaluate import Comparison
from explorer.measure.perplexity import read_text
from explorer.models import View
from explorer.search.columns import text_sentence
from explorer.tasks.metric import METRIC_NAMES
from explorer.ui.components import comparisons
from explorer.ui.jobs.work import on_view
from explorer.ui.session import Bench, Setting, requests, state
from explorer.ui.shell import share, tasks_at_hand
from explorer.ui.shell.plain_text import reads
from explorer.ui.shell.task_reading import Reading

CLASSES, REPEATS = 12, 2  # most answers, and fewest examples of each on average, that are classes to speak of
LIMIT = 128  # examples of each other task
USUAL = ("int-sum", "int-mult")


@dataclass(frozen=True)
class _Asked:
    """What the session asked to measure the damage of: a mask, on a split of tasks, and on the text."""

    mask: str
    split: str
    tasks: tuple[Reading, ...]
    text: bool


def by_answer(comparison: Comparison) -> None:
    """Accuracy by right answer, where the examples share a few answers that come back, choices or not."""
    examples = comparison.masked.examples
    sizes = Counter(example.answer for example in examples)
    if not 1 < len(sizes) <= CLASSES or len(examples) < REPEATS * len(sizes):
        return
    rows = []
    for answer, _ in sizes.most_common():
        places = [place for place, example in enumerate(examples) if example.answer == answer]
        one = Comparison(comparison.masked.only(places), comparison.baseline.only(places))
        rows.append({"answer": answer.strip(), **comparisons.both(one), **comparisons.flipped(one)})
    st.markdown(f"**By right answer** ({METRIC_NAMES[comparison.masked.metric]})")
    comparisons.table(rows, "by-answer")


def elsewhere(bench: Bench) -> None:
    """The damage meter: other tasks and plain text with the mask and without, measured on demand."""
    offered = tasks_at_hand.readings(without=bench.task.name)
    left, right, last = st.columns([3, 1, 1], vertical_alignment="bottom")
    start = [name for name in USUAL if name in offered][:1]
    names = left.multiselect(
        "Other tasks", list(offered), default=start, key="damage-tasks", persist_state="session",
        help=tasks_at_hand.HELP,
    )  # fmt: skip
    chosen = tuple(offered[name] for name in names)
    readable = reads(bench.model)
    text = right.toggle(
        "Plain text",
        value=True,
        key="damage-text",
        persist_state="session",
        disabled=not readable,
        help="Perplexity of a text that comes with the explorer, for models that know its words.",
    )
    asked = _Asked(bench.mask.digest, bench.split, chosen, text=text and readable)
    possible = bool(len(bench.mask)) and bool(chosen or (text and readable))
    last.button(
        "Measure damage",
        key="damage",
        disabled=not possible,
        on_click=lambda: state.put(asked),
        help=f"With the mask and without it, on up to {LIMIT} examples of each task and on the text.",
    )
    share.copy(
        "damage",
        bench,
        lambda setting: [_request(setting, tasks_at_hand.choice(chosen), text=text and readable)],
        disabled=not possible,
        files=tasks_at_hand.files(chosen),
    )
    if state.find(_Asked) != asked:
        st.caption("With the mask and without it, on the same examples." if len(bench.mask) else "Nothing is removed.")
        return
    found = _damage(bench, chosen, text=text and readable)
    if found is not None:
        _tasks(found)
        if found.text is not None:
            st.markdown(text_sentence(found.text.figures))


def _request(setting: Setting, tasks: TasksChoice, *, text: bool) -> MeasureDamage | None:
    bench = setting.bench
    limit = LIMIT if bench.eval_limit is None else min(LIMIT, bench.eval_limit)
    return requests.damage(setting, bench.mask, tasks, limit=limit, text=text)


def _damage(bench: Bench, chosen: tuple[Reading, ...], *, text: bool) -> Damage | None:
    tasks = [task for one in chosen if (task := one.task()) is not None]
    if len(tasks) < len(chosen):
        return None
    contents = TasksChoice(task=tuple(task.digest for task in tasks))
    request = _request(requests.by_contents(bench), contents, text=text)
    assert request is not None

    def work(view: View, progress: Progress) -> Damage:
        return damage(
            view, bench.mask, bench.svds, tasks=tasks, text=read_text() if text else None, split=request.split,
            limit=request.limit, progress=progress,
        )  # fmt: skip

    names = tuple(task.name for task in tasks)  # the table says them
    return on_view(bench, ("damage", request, names), work, label="Measuring the damage elsewhere")


def _tasks(found: Damage) -> None:
    if found.tasks:
        rows = [
            {
                "task": one.task.name,
                "by": METRIC_NAMES[one.comparison.masked.metric],
                **comparisons.both(one.comparison),
                **comparisons.changed(one.comparison),
            }
            for one in found.tasks
        ]
        comparisons.table(rows, "damage-figures")
