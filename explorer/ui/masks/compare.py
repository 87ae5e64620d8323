"""Two masks side by side: what they hold, how they do, which examples tell them apart; and one on other tasks."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from explorer.actions import DiffMasks, MeasureDamage, Request
from explorer.core.errors import MaskError
from explorer.core.keys import MatrixKey
from explorer.masks.belonging import names
from explorer.masks.mask import Mask
from explorer.masks.sets import MaskOverlap, overlaps
from explorer.measure.evaluate import Comparison, Evaluation
from explorer.plots import masks as mask_plots
from explorer.ui.components import comparisons, figures, words
from explorer.ui.components.words import literal
from explorer.ui.masks import outcomes
from explorer.ui.session import Bench, Setting, requests
from explorer.ui.shell import share, tasks_at_hand


def two(bench: Bench, first: tuple[str, Mask], second: tuple[str, Mask]) -> None:
    """Everything about a pair of named masks."""
    st.subheader(literal(f"{first[0]} and {second[0]}"), divider="gray", anchor=False)
    try:
        shared = overlaps(first[1], second[1])
    except MaskError as error:
        st.error(literal(str(error)), icon=":material/error:")
        return
    left, right = st.columns([2, 3])
    with left:
        _venn(shared, first[0], second[0])
    with right:
        if first[1].model.digest not in names(bench.model):
            st.info("These masks belong to another model: load it to measure them.")
            return
        share.copy("pair", bench, lambda setting: pair(setting, first[1], second[1]))
        found = outcomes.pair(bench, first[1], second[1])
        if found is not None:
            _figures(found, bench, first[0], second=second[0])
            _differing(found)


def pair(setting: Setting, first: Mask, second: Mask) -> list[Request]:
    """What two masks share, where both remove something, and how the second does beside the first."""
    one, other = setting.mask(first), setting.mask(second)
    beside = replace(requests.evaluate(setting, second), against=one)
    return [DiffMasks(first=one, second=other), beside] if one and other else [beside]


def beside(bench: Bench, mask: Mask) -> tuple[str, Mask]:
    """What a single mask is compared with: the current one or, if that is no other, the unpruned model."""
    if mask.digest != bench.mask.digest and len(bench.mask):
        return "the current mask", bench.mask
    return "the unpruned model", bench.mask.without_all()


def _venn(shared: dict[MatrixKey, MaskOverlap], first: str, second: str) -> None:
    whole = sum(shared.values(), MaskOverlap(0, 0, 0))
    st.markdown(
        f"**{whole.both:,}** values in both, **{whole.only_first:,}** only in the first, "
        f"**{whole.only_second:,}** only in the second; Jaccard index {whole.jaccard:.2f}."
    )
    if not shared:
        return
    figure = mask_plots.shared_values({str(key): one for key, one in shared.items()}, first[:30], second[:30])
    figures.draw(figure, "shared-values")
    if len(shared) > mask_plots.MATRICES:
        st.caption(f"The {mask_plots.MATRICES} matrices with the most of them, of {len(shared):,}.")


def _figures(comparison: Comparison, bench: Bench, first: str, second: str) -> None:
    pairs = ((first, comparison.baseline), (second, comparison.masked))
    comparisons.table([{"mask": name, **comparisons.measured(one)} for name, one in pairs], "pair-figures")
    where = f"the same {comparison.masked.n:,} {bench.split} examples of {literal(bench.task.name)}"
    st.markdown(comparisons.sentence(comparison, "the first", "the second", where=where))


def _differing(found: Comparison) -> None:
    before, after = found.baseline, found.masked
    places = [i for i in range(after.n) if before.says(i) != after.says(i)]
    if not places:
        st.caption("Both give the same answer to every example.")
        return
    more = f"; the first {comparisons.ANSWERS:,} are shown" if len(places) > comparisons.ANSWERS else ""
    st.markdown(f"**{len(places):,} answers differ**{more}")
    ordered = sorted(places, key=lambda i: (before.correct[i] == after.correct[i], i))
    columns = {"first says": lambda i: _said(before, i), "second says": lambda i: _said(after, i)}
    comparisons.answers(found, ordered, columns, key="differing")


def _said(evaluation: Evaluation, place: int) -> str:
    return f"{'✓' if evaluation.correct[place] else '✗'} {words.said(evaluation, place)}"


def elsewhere(bench: Bench, name: str, mask: Mask) -> None:
    """One mask beside the unpruned model on other tasks of the list."""
    st.subheader("On other tasks", divider="gray", anchor=False)
    offered = tasks_at_hand.readings()
    chosen = st.multiselect(
        f"Tasks to measure {literal(name)} on",
        list(offered),
        key="other-tasks",
        persist_state="session",
        placeholder="Choose tasks",
        help=f"On the {bench.split} split, as many examples as the settings say, beside the unpruned model. "
        f"{tasks_at_hand.HELP}",
    )

    readings = [offered[one] for one in chosen]

    def request(setting: Setting) -> list[MeasureDamage | None]:
        tasks = tasks_at_hand.choice(readings)
        return [requests.damage(setting, mask, tasks, limit=bench.eval_limit, text=False)]

    share.copy("elsewhere", bench, request, disabled=not chosen, files=tasks_at_hand.files(readings))
    rows = []
    for one in chosen:
        task = offered[one].task()
        found = None if task is None else outcomes.pair(bench, mask.without_all(), mask, task=task)
        if found is not None:
            rows.append({"task": one, **comparisons.both(found), **comparisons.changed(found)})
    if rows:
        comparisons.table(rows, "other-tasks-figures")
