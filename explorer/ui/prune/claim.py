"""What a claim about the mask still needs: a row for each kind of evidence, with its figure or a button to measure it.

A mask made by hand is measured as the result of a search is (`explorer.search.given`). Rows ask for more and more of
one report; what was measured before is found again in the journal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from explorer.actions import MeasureEvidence
from explorer.core.progress import Progress
from explorer.core.texts import percent
from explorer.models import View
from explorer.search.columns import seen_sentences, text_sentence
from explorer.search.conductor import Watcher
from explorer.search.controls import DEFAULT, DRAWS
from explorer.search.evidence.choice import NULL_NAMES, EvidenceChoice
from explorer.search.evidence.columns import draws_text, points_text
from explorer.search.given import given_request, given_search
from explorer.search.report_file import SearchFile
from explorer.ui.components import evidence
from explorer.ui.components.words import literal
from explorer.ui.jobs import searching
from explorer.ui.jobs.work import on_view
from explorer.ui.session import Bench, Setting, requests, state
from explorer.ui.shell import pages, share

_WIDTHS = (4, 3, 1)
CONTROLS, PARTS = "controls", "parts"  # what is asked for beside nulls and baselines


@dataclass(frozen=True)
class Need:
    """One kind of evidence.

    Attributes:
        title: what it is called.
        about: what it is for.
        figure: what a report says of it; None if it was not measured.
    """

    title: str
    about: str
    figure: Callable[[SearchFile], str | None]


@dataclass(frozen=True)
class _Asked:
    """What the session asked to measure of a mask on a task."""

    of: tuple[str, ...]
    parts: frozenset[str]


@dataclass(frozen=True)
class _Known:
    """The latest report on a mask, shown while more of it is measured."""

    of: tuple[str, ...]
    file: SearchFile


def draw(bench: Bench) -> None:
    """The rows, and below them the tables and the sentence that they license."""
    if not len(bench.mask):
        st.info("Nothing is removed, so there is nothing to claim: remove a value first.", icon=":material/balance:")
        return
    of = (bench.model.as_loaded, bench.task.digest, bench.mask.digest)
    asked = state.find(_Asked)
    parts = asked.parts if asked is not None and asked.of == of else frozenset()
    known, file = state.find(_Known), None
    if parts:
        file = _measured(bench, parts)
        if file is not None:
            state.put(_Known(of, file))
    if file is None and known is not None and known.of == of:
        file = known.file
    _head(bench, file, of=of, parts=parts)
    for name, need in _needs(bench).items():
        _row(name, need, file=file, of=of, parts=parts)
    _searched()
    if file is not None and file.evidence is not None:
        evidence.draw(file.evidence, key="claim")


def _head(bench: Bench, file: SearchFile | None, *, of: tuple[str, ...], parts: frozenset[str]) -> None:
    """What is there already, and everything in one click."""
    text, buttons = st.columns([5, 2], vertical_alignment="center")
    with text:
        if file is None:
            st.caption(
                "What a reviewer asks for. Everything is measured on the test split, which scores do not see, and kept."
            )
        else:
            for sentence in seen_sentences(file.seen) if file.seen is not None else ():
                st.caption(literal(sentence))
            if file.damage is not None and file.damage.text is not None:
                st.markdown(text_sentence(file.damage.text))
        if bench.split == "test":
            st.caption(
                "Figures of the test split are on screen: a mask that is chosen by them cannot be claimed by them. "
                "Choose by train or validation examples."
            )
    missing = frozenset(_needs(bench)) - parts
    row = buttons.container(horizontal=True, horizontal_alignment="right")
    row.button(
        "Measure all", key="claim-all", disabled=not missing, on_click=_ask, args=(of, parts | missing),
        help="All that is missing, one after the other; other pages can be used meanwhile.",
    )  # fmt: skip
    with row:
        share.copy("claim", bench, lambda setting: [_request(setting, parts or missing)])


def _row(name: str, need: Need, *, file: SearchFile | None, of: tuple[str, ...], parts: frozenset[str]) -> None:
    what, said, button = st.columns(_WIDTHS, vertical_alignment="center")
    figure = None if file is None else need.figure(file)
    icon = ":material/radio_button_unchecked:" if figure is None else ":material/check_circle:"
    what.markdown(f"{icon} **{need.title}** :small[:gray[{need.about}]]")
    said.markdown(literal(figure) if figure is not None else ":gray[measuring]" if name in parts else ":gray[missing]")
    button.button(
        "Measure", key=f"claim-{name}", disabled=name in parts, on_click=_ask, width="stretch",
        args=(of, parts | {name}),
    )  # fmt: skip


def _searched() -> None:
    what, said, button = st.columns(_WIDTHS, vertical_alignment="center")
    what.markdown(
        ":material/radio_button_unchecked: **Permuted answers, random bases, other seeds** "
        ":small[:gray[whether a search finds as much there]]"
    )
    said.markdown(":gray[only a search can be run again]")
    if button.button("Search", key="claim-search", width="stretch"):
        pages.go_to("search")


def _ask(of: tuple[str, ...], parts: frozenset[str]) -> None:
    state.put(_Asked(of, parts))


def _needs(bench: Bench) -> dict[str, Need]:
    """What a claim needs, by name; what needs frozen means is left out where there are none."""
    found = {
        CONTROLS: Need("Random masks of its size", "whether chance does as well", _chance),
        "mean-only": Need("The frozen means alone", "whether removing matters at all", _rival("mean-only")),
        "bias-only": Need("Trained biases", "as many numbers, on the same examples", _rival("bias-only")),
        "lora-1": Need("A trained adapter of rank one", "as many numbers, on the same examples", _rival("lora-1")),
        "scaling": Need("Trained gains of singular values", "as many numbers, same examples", _rival("scaling")),
        "shots": Need("3 and 5 solved examples in front", "whether the ability is there at all", _rival("shots-3")),
        "chat": Need("The chat template", "whether another way of asking does as well", _rival("chat")),
        PARTS: Need("Its members, and other wordings", "which values are necessary, and how far it carries", _members),
    }
    return {name: need for name, need in found.items() if name != "mean-only" or bench.mask.mode == "freeze"}


def _chance(file: SearchFile) -> str | None:
    control = file.controls.get(DEFAULT)
    if control is None:
        return None
    return f"median {percent(control.median)} of {control.draws} draws; beats {control.percentile.accuracy:.0f} %"


def _rival(name: str) -> Callable[[SearchFile], str | None]:
    def figure(file: SearchFile) -> str | None:
        rival = None if file.evidence is None else file.evidence.rivals.get(name)
        if rival is None:
            return None
        if rival.why:
            return rival.why
        return f"{draws_text(rival)}; the mask leads by {points_text(rival.lead)} points"

    return figure


def _members(file: SearchFile) -> str | None:
    found = file.evidence
    if found is None or found.members is None:
        return None
    helped = sum(one.change.above for one in found.wordings)
    wordings = f"; helps in {helped} of {len(found.wordings)} other wordings" if found.wordings else ""
    return f"{len(found.members.necessary)} of {len(found.members.measured)} necessary{wordings}"


def _choice(parts: frozenset[str]) -> EvidenceChoice:
    named = [name for name in parts if name not in (CONTROLS, PARTS)]
    nulls = tuple(name for name in NULL_NAMES if name in named)
    return EvidenceChoice(nulls, tuple(sorted(set(named) - set(nulls))), parts=PARTS in parts)


def _request(setting: Setting, parts: frozenset[str]) -> MeasureEvidence:
    return requests.evidence(setting, setting.bench.mask, _choice(parts), controls=DRAWS if CONTROLS in parts else 0)


def _measured(bench: Bench, parts: frozenset[str]) -> SearchFile | None:
    request = given_request(
        bench.mask, limit=bench.score_limit, seed=bench.task.seed, controls=DRAWS if CONTROLS in parts else 0,
        test_limit=bench.eval_limit, evidence=_choice(parts),
    )  # fmt: skip

    def work(view: View, progress: Progress) -> SearchFile:
        watcher = Watcher(after=progress)
        return searching.conducted(bench, view, request, watcher=watcher, chosen=given_search(bench.mask)).file

    key = ("claim", bench.model.as_loaded, bench.task.digest, bench.mask.digest, request)
    return on_view(bench, key, work, label="Measuring what a claim needs")
