"""Checkpoints of the model's training, drawn: how the chosen matrices moved from one to the next."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from explorer.core.keys import AnyKey
from explorer.core.progress import Progress
from explorer.models import View
from explorer.plots import training as training_plots
from explorer.spectra.training import Course, courses
from explorer.ui.components import figures, words
from explorer.ui.components.words import literal
from explorer.ui.jobs import work
from explorer.ui.session import Bench, Widget, guide, links, requests, used_models
from explorer.ui.shell import share
from explorer.ui.shell.model_choice import agree, here

LEADING = 8
MOST_LETTERS = 4000


def choose() -> tuple[str, ...]:
    """The names of earlier checkpoints, in their order; none for no section. The URL keeps them."""

    def agree_to_all() -> None:
        for name in _names(Widget[str](linked.key).text):
            agree(name)

    linked = links.restore("over", "", links.text_up_to(MOST_LETTERS))
    about = "Earlier checkpoints of this model."
    with st.popover("Training", icon=":material/timeline:", key="over-popover", help=about):
        typed = linked.draw(
            st.text_area, "Checkpoints, one per line", max_chars=MOST_LETTERS, on_change=agree_to_all,
            placeholder="steps/100\nsteps/1000",
            help="Model folders, or hub ids with @revision, from the first on; the model above is the last. Each is "
            "read matrix by matrix, without being loaded.",
        )  # fmt: skip
    return _names(typed or "")


def draw(bench: Bench, keys: Sequence[AnyKey], names: tuple[str, ...]) -> None:
    """The section of the checkpoints: a figure per matrix."""
    st.subheader("Over training", divider="gray", anchor=False)
    if bench.model.basis == "folded":
        st.info("Checkpoints are read as they are stored: choose the raw basis, or delta, in the settings.")
        return
    usable = [here(name, f"-over-{place}") for place, name in enumerate(names)]  # every one asks
    if not all(usable):
        return
    found = _courses(bench, tuple(keys), names)
    if found is None:
        return
    for one in found:
        figures.draw(training_plots.course(one), f"course-{one.key}")
    guide.explain(
        "The largest singular values at every checkpoint, and how far the leading directions span the same subspaces "
        "as at the end, and as one checkpoint before. Dotted lines are what random directions give."
    )
    asked = {"over": names, "overlap": LEADING}
    share.copy("over", bench, lambda setting: [requests.spectra(setting, keys, **asked)])


def _courses(bench: Bench, keys: tuple[AnyKey, ...], names: tuple[str, ...]) -> tuple[Course, ...] | None:
    def read(view: View, progress: Progress) -> tuple[Course, ...]:
        found = courses(view, names, keys, svds=bench.svds, k=LEADING, progress=progress)
        for name in names:
            used_models.note(name)
        return found

    request = requests.spectra(requests.by_contents(bench), keys, over=names, overlap=LEADING)
    label = f"Reading {words.count(len(names), 'checkpoint')}"
    return work.on_view(bench, ("courses", request), read, label=literal(label))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for line in text.splitlines() if (name := line.strip()))
