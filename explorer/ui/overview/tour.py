"""The Overview's tour: find what harms the task, remove it, check it against chance. Three clicks, measured figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import streamlit as st

from explorer.attribution import Scores
from explorer.masks.apply import empty_mask
from explorer.measure.evaluate import Comparison
from explorer.ui.bench.measured import controlled, failure, want_controls
from explorer.ui.bench.workbench import START_COUNT, mask_of_lowest
from explorer.ui.components import words
from explorer.ui.jobs import work
from explorer.ui.session import Bench, state
from explorer.ui.session.session import change_mask
from explorer.ui.shell import pages

_HIDDEN = (
    "This small model has learnt to multiply, and was then given the habit of reading `x` as `+`. "
    "Three clicks find the habit, take it out, and check the result."
)
_GENERAL = "Three clicks: find the values that harm the task most, remove them, check the result against chance."


@dataclass(frozen=True)
class _Found:
    """The model and task whose worst values the user has asked for."""

    place: tuple[str, str]


@dataclass(frozen=True)
class _Step:
    """One box: what it says, and its button; `page` is the link to look closer. `done`: its figures are there."""

    name: str
    text: str
    button: str
    act: Callable[[], None]
    ready: bool
    done: bool
    page: tuple[str, str]


def draw(bench: Bench, scores: Scores | None, comparison: Comparison | None) -> None:
    """Three boxes; the next one stands out, those behind say what was found."""
    planted = (bench.model.source.name, bench.task.name) == ("bundled", "int-mult") and {"Q", "K"} <= set(bench.kinds)
    st.markdown(_HIDDEN if planted else _GENERAL)
    place = (bench.model.as_loaded, bench.task.digest)
    found, checked = state.find(_Found) == _Found(place), controlled(bench)
    current = 0 if not found and not len(bench.mask) else 1 if not len(bench.mask) else 3 if checked else 2
    with st.container(key="tour"):
        boxes = st.columns(3, border=True)
    with boxes[0]:
        find = _find(bench, scores, found=found)
        _box(0, find, current)
    with boxes[1]:
        _box(1, _remove(bench, scores, comparison), current)
    with boxes[2]:
        _box(2, _check(bench, scores, comparison, checked=checked), current)


def _box(position: int, step: _Step, current: int) -> None:
    now = position == current
    badge = " :primary-badge[next]" if now else " :gray-badge[:material/check: done]" * step.done
    st.markdown(f"**{position + 1}. {step.name}**{badge}")
    st.markdown(step.text)
    with st.container(horizontal=True, vertical_alignment="center"):
        if now or (position < current and not step.done):  # a mask made by hand passes over the first step
            st.button(
                step.button,
                key=f"tour-{position + 1}",
                type="primary" if now else "secondary",
                disabled=not step.ready,
                on_click=step.act,
            )
        label, what = step.page
        pages.link(what, label)


def _find(bench: Bench, scores: Scores | None, *, found: bool) -> _Step:
    """The worst values by score and, after the click, by measurement."""

    def act() -> None:
        state.put(_Found((bench.model.as_loaded, bench.task.digest)))

    measured = _measured(bench, scores) if found and scores is not None else None
    text = words.literal(work.scores_failure(bench) or "Scoring every singular value.")
    if scores is not None:
        harmful = sum(int((matrix.score < 0).sum()) for matrix in scores.matrices.values())
        text = (
            f"**{harmful:,} of {scores.size:,}** {' and '.join(bench.kinds)} values are predicted to harm this task. "
        )
        text += (measured or "") if found else "Measure the four worst, one by one."
    look = ("See their spectrum", "matrix")
    return _Step(
        "Find",
        text,
        "Find the worst",
        act=act,
        ready=scores is not None and scores.size >= START_COUNT and not found,
        done=measured is not None,
        page=look,
    )


def _measured(bench: Bench, scores: Scores) -> str | None:
    lowest = scores.ranking()[:START_COUNT]
    effects = work.effects(bench, tuple((key, index) for _, key, index in lowest), empty_mask(bench.model, bench.mode))
    if effects is None:
        return None
    lines = [
        f"- {key}, value {index}: {predicted:+.2f} → **{effects[key, index].value:+.2f}**"
        for predicted, key, index in lowest
    ]
    return "Look at how far predicted and measured change of the loss (nats) are apart:\n\n" + "\n".join(lines)


def _remove(bench: Bench, scores: Scores | None, comparison: Comparison | None) -> _Step:
    """The accuracy before and, once something is removed, after."""

    def act() -> None:
        if scores is not None:
            change_mask(bench.model, lambda _: mask_of_lowest(bench, scores, START_COUNT))

    text = words.literal(problem) if (problem := failure(bench)) else "Measuring the unpruned model."
    if comparison is not None:
        before, after = comparison.baseline, comparison.masked
        share = f"**{words.percent(before.accuracy)}** of {before.n:,} {bench.split} examples"
        text = f"Unpruned, the model answers {share} correctly. Remove the four worst together; you can undo it."
        if len(bench.mask):
            text = (
                f"With {len(bench.mask):,} {bench.mask.state}, accuracy went from {words.percent(before.accuracy)} to "
                f"**{words.percent(after.accuracy)}** of {before.n:,} {bench.split} examples. " + _example(comparison)
            )
    elif len(bench.mask) and problem is None:
        text = f"Measuring {words.chosen(bench.mask)}."
    ready = scores is not None and scores.size >= START_COUNT and not len(bench.mask)
    done, look = bool(len(bench.mask)) and comparison is not None, ("Choose by hand", "mask")
    return _Step("Remove", text, f"Remove these {START_COUNT}", act=act, ready=ready, done=done, page=look)


def _example(comparison: Comparison) -> str:
    """One answer that the mask repaired, to look at."""
    if not comparison.repaired:
        return "No wrong answer became right."
    i = comparison.repaired[0]
    prompt, before, now = (
        words.literal(text) for text in (
            comparison.masked.examples[i].prompt, comparison.baseline.says(i), comparison.masked.says(i),
        )
    )  # fmt: skip
    if comparison.masked.metric == "exact":
        return f"Look at **{prompt}**: it said {before}, now it says **{now}**."
    first = f"it chose {before}" if before else "several choices were equally probable"
    return f"Look at **{prompt}**: {first}, now it chooses **{now}**."


def _check(bench: Bench, scores: Scores | None, comparison: Comparison | None, *, checked: bool) -> _Step:
    """The random control: as many values by chance."""
    text = "An edit this small could be luck: remove as many of the same matrices by chance, twenty times, and compare."
    ready = scores is not None and comparison is not None and bool(len(bench.mask)) and not checked
    controls = None
    if checked and scores is not None and comparison is not None:
        controls = work.controls(bench)
        text = "Measuring random masks."
        if controls is not None:
            beaten = sum(one < comparison.masked.accuracy for one in controls)
            low, high = (words.percent(end) for end in (min(controls), max(controls)))
            text = (
                f"Random masks of as many in each matrix reach {words.percent(median(controls))} ({low} to "
                f"{high}): look how this mask's **{words.percent(comparison.masked.accuracy)}** beats **{beaten} of "
                f"{len(controls)}**."
            )
    return _Step(
        "Check",
        text,
        "Check against chance",
        act=want_controls,
        ready=ready,
        done=controls is not None,
        page=("Look inside", "example"),
    )
