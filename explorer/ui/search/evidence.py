"""The evidence beside a mask: what is asked for before a search, and the tab that shows what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import pandas as pd
import streamlit as st

from explorer.core.columns import Column, cells, names
from explorer.search.evidence import columns
from explorer.search.evidence.choice import BASELINE_NAMES, MOST_REPEATS, NULL_NAMES, EvidenceChoice
from explorer.search.report_file import SearchFile
from explorer.ui.components.words import literal
from explorer.ui.session import links
from explorer.ui.streamlit_internals.elements import DeltaGenerator

RowT = TypeVar("RowT")
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
    """The tab: the sentence, and every table that there is."""
    evidence = file.evidence
    if evidence is None:
        st.info(
            "No evidence was asked for, or nothing is removed: choose nulls, baselines, members or repeats above and "
            "start again. The search itself is not run again."
        )
        return
    claims = not evidence.sentence.startswith("This licenses no claim")
    (st.success if claims else st.warning)(literal(evidence.sentence), icon=":material/balance:")
    for sentence in columns.evidence_sentences(evidence):
        st.caption(literal(sentence))
    _table("On new examples", columns.CLUSTERED_COLUMNS, columns.clustered_rows(evidence), key="new")
    _table("Nulls and baselines", columns.RIVAL_COLUMNS, evidence.rivals.items(), key="rivals")
    _table("Other wordings", columns.WORDING_COLUMNS, evidence.wordings, key="wordings")
    if evidence.members is not None:
        _table("Members, restored one by one", columns.MEMBER_COLUMNS, evidence.members.measured, key="members")
    _table("Random subsets of the mask", columns.SUBSET_COLUMNS, evidence.subsets, key="subsets")
    if evidence.stability is not None:
        chosen = evidence.stability.chosen
        _table("Values that the searches chose", columns.CHOSEN_COLUMNS, chosen, key="chosen")


def _table(title: str, shown: Sequence[Column[RowT]], rows: Iterable[RowT], *, key: str) -> None:
    """A table under its title; nothing without rows."""
    listed = cells(shown, rows)
    if not listed:
        return
    st.markdown(f"**{title}**")
    st.dataframe(
        pd.DataFrame(listed, columns=[name or "of" for name in names(shown)]), hide_index=True,
        key=f"search-evidence-{key}",
    )  # fmt: skip
