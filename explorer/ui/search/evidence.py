"""The evidence beside a mask: what is asked for before a search, and the tab that shows what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from explorer.search.evidence.choice import BASELINE_NAMES, MOST_REPEATS, NULL_NAMES, EvidenceChoice
from explorer.search.report_file import SearchFile
from explorer.ui.components import evidence as tables
from explorer.ui.session import links
from explorer.ui.streamlit_internals.elements import DeltaGenerator

FIELDS = ("nulls", "baselines", "repeats", "parts")  # what their keys begin with, behind `search-`
_NULLS = (
    "The same search on permuted answers, the same search in random bases, and the mask's frozen means alone. What "
    "does as well takes the claim away."
)
_BASELINES = (
    "Biases, an adapter of rank one and gains of singular values, trained on the same examples with as many numbers as "
    "the mask has values; solved examples in front (3 and 5), and the chat template."
)


def choose(mode: str, before: EvidenceChoice) -> EvidenceChoice:
    """Draw the fields in an expander; they start with the link's values, else with what was searched `before`."""
    with st.expander("Evidence: nulls, baselines, members and repeats", icon=":material/balance:"):
        first, second, third = st.columns([2, 2.4, 1])
        offered = [name for name in NULL_NAMES if mode == "freeze" or name != "mean-only"]
        nulls = _names(first, "nulls", offered, start=[name for name in before.nulls if name in offered], about=_NULLS)
        baselines = _names(second, "baselines", BASELINE_NAMES, start=before.baselines, about=_BASELINES)
        of_repeats = links.restore("search-repeats", 1, links.whole_in(1, MOST_REPEATS), start=before.repeats)
        repeats = of_repeats.draw(
            third.number_input, "Searches", min_value=1, max_value=MOST_REPEATS,
            help="With other seeds and cuts of train and validation: how often each value is chosen, and what those "
            "that all of them chose do alone.",
        )  # fmt: skip
        of_parts = links.restore("search-parts", False, {"1": True}.get, start=before.parts, text=lambda _: "1")
        parts = of_parts.draw(
            st.toggle, "Members, other wordings and program text",
            help="Restores the mask's values one by one (which are necessary) and in random subsets, and measures "
            "wordings that no search uses and the perplexity of program text.",
        )  # fmt: skip
        st.caption("Each null that searches, and each repeat, costs as much as the search itself.")
    return EvidenceChoice(tuple(nulls), tuple(baselines), repeats, parts=parts)


def _names(box: DeltaGenerator, name: str, known: Sequence[str], start: Sequence[str], about: str) -> list[str]:
    linked = links.restore(
        f"search-{name}", [], links.some_of(known), key=f"search-{name}-{len(known)}", start=list(start),
        text=links.joined_texts,
    )  # fmt: skip
    picked = linked.draw(box.multiselect, name.capitalize(), list(known), placeholder="none", help=about)
    return [one for one in known if one in picked]


def draw(file: SearchFile) -> None:
    """The tab: what was measured, or how to ask for it."""
    if file.evidence is None:
        st.info(
            "No evidence was asked for, or nothing is removed: choose nulls, baselines, members or repeats above and "
            "start again. The search itself is not run again."
        )
    else:
        tables.draw(file.evidence, key="search-evidence")
