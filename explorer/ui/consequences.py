"""What else the mask does: accuracy by answer, and damage to other tasks and to plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

import pandas as pd
import streamlit as st

from explorer.config import settings
from explorer.damage import Damage, damage
from explorer.evaluate import Comparison
from explorer.paired import mcnemar
from explorer.perplexity import read_text
from explorer.progress import Progress
from explorer.tasks import TASKS, load_task
from explorer.ui import share, words
from explorer.ui.cached import compute
from explorer.ui.plain_text import reads
from explorer.ui.recipes import Recipe
from explorer.ui.recipes import damage as damage_recipe
from explorer.ui.session import Bench

CLASSES = 12  # answers beyond which a task has no classes to speak of
LIMIT = 128  # examples of each other task
USUAL = ("int-sum", "int-mult")
_P = st.column_config.NumberColumn("p (McNemar)", format="%.3g", help="exact test on the flipped examples, two-sided")
_CHANGE = st.column_config.NumberColumn("change (points)", format="%+.1f")
_LOSS = st.column_config.TextColumn("loss change (nats)", help="paired, with its 95 % bootstrap interval")


def by_answer(comparison: Comparison) -> None:
    """Accuracy by right answer, for tasks whose examples share a few answers."""
    examples = comparison.masked.examples
    sizes = Counter(example.answer for example in examples)
    if not any(example.choices for example in examples) or not 1 < len(sizes) <= CLASSES:
        return
    rows = []
    for answer, n in sizes.most_common():
        places = [place for place, example in enumerate(examples) if example.answer == answer]
        now, before = ([one.correct[i] for i in places] for one in (comparison.masked, comparison.baseline))
        rows.append(
            {
                "answer": answer.strip(),
                "n": n,
                "unpruned": words.percent(sum(before) / n),
                "now": words.percent(sum(now) / n),
                "change": 100 * (sum(now) - sum(before)) / n,
                "p": mcnemar(now, before).p,
            }
        )
    st.markdown("**By right answer** (exact match)")
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config={"change": _CHANGE, "p": _P})


def elsewhere(bench: Bench) -> None:
    """The damage meter: other tasks and plain text with the mask and without, measured on demand."""
    names = [name for name, spec in TASKS.items() if not spec.needs_data and name != bench.task.name]
    left, right, last = st.columns([3, 1, 1], vertical_alignment="bottom")
    start = [name for name in USUAL if name in names][:1]
    chosen = left.multiselect("Other tasks", names, default=start, key="damage-tasks", persist_state="session")
    readable = reads(bench.model)
    text = right.toggle(
        "Plain text",
        value=True,
        key="damage-text",
        persist_state="session",
        disabled=not readable,
        help="Perplexity of a text that comes with the explorer, for models that know its words.",
    )
    asked = (bench.mask.digest, bench.split, tuple(chosen), text and readable)
    possible = bool(len(bench.mask)) and bool(chosen or (text and readable))
    last.button(
        "Measure damage",
        key="damage",
        disabled=not possible,
        on_click=lambda: st.session_state.update({"damage-asked": asked}),
    )
    share.copy("damage", bench, lambda: [_recipe(bench, chosen, text=text and readable)], disabled=not possible)
    if st.session_state.get("damage-asked") != asked:
        st.caption("With the mask and without it, on the same examples." if len(bench.mask) else "Nothing is removed.")
        return
    found = _damage(bench, tuple(chosen), text=text and readable)
    if found is not None:
        _tasks(found)
        _text(found)


def _recipe(bench: Bench, tasks: Sequence[str], *, text: bool) -> Recipe:
    given = share.setting(bench)
    assert given.mask is not None
    return damage_recipe(given, given.mask, tasks, _limit(bench), text=text)


def _limit(bench: Bench) -> int:
    return LIMIT if bench.eval_limit is None else min(LIMIT, bench.eval_limit)


def _damage(bench: Bench, names: tuple[str, ...], *, text: bool) -> Damage | None:
    limit = _limit(bench)

    def work(progress: Progress) -> Damage:
        tasks = [load_task(name, settings().seed) for name in names]
        with bench.views.borrow() as view:
            plain = read_text() if text else None
            return damage(view, bench.mask, bench.svds, tasks, plain, split=bench.split, limit=limit, progress=progress)

    key = ("damage", bench.model.digest, bench.mask.digest, bench.split, limit, names, text)
    return cast("Damage | None", compute(key, "Measuring the damage elsewhere", work))


def _tasks(found: Damage) -> None:
    rows = []
    for one in found.tasks:
        now, before, change = one.comparison.masked, one.comparison.baseline, one.comparison.loss_change
        low, high = one.loss_interval(settings().seed)
        rows.append(
            {
                "task": one.task.name,
                "n": now.n,
                "unpruned": words.percent(before.accuracy),
                "now": words.percent(now.accuracy),
                "change": 100 * one.comparison.accuracy_change.value,
                "p": one.accuracy_test.p,
                "loss": f"{change.value:+.3f} [{low:+.3f}, {high:+.3f}]",
            }
        )
    if rows:
        config = {"change": _CHANGE, "p": _P, "loss": _LOSS}
        st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=config)


def _text(found: Damage) -> None:
    if found.text is None:
        return
    value, (low, high) = found.text.growth
    st.markdown(
        f"**Plain text**: perplexity {found.text.baseline.value:.3f} → {found.text.masked.value:.3f}, "
        f"{100 * value:+.2f} % [{100 * low:+.2f}, {100 * high:+.2f}], {found.text.masked.tokens:,} tokens"
    )
