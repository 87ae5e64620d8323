"""Prune: the workbench. Remove and restore singular values, watch what it does to the task."""

from __future__ import annotations

import streamlit as st

from explorer.actions import Evaluate
from explorer.attribution import Scores
from explorer.core.keys import MatrixKey
from explorer.ui.bench import chart_data, measured, opening, workbench
from explorer.ui.bench.inside import inside
from explorer.ui.components import matrix_steps, painting, words
from explorer.ui.jobs import work
from explorer.ui.prune import cards, claim, consequences, interactions, removing, sliced
from explorer.ui.session import Bench, Setting, Widget, links, requests, session
from explorer.ui.session.tabs import tabs
from explorer.ui.shell import pages, share

_SECTIONS = {
    "changes": "What changed",
    "slices": "By slice",
    "elsewhere": "Elsewhere",
    "together": "Interactions",
    "claim": "For a claim",
    "example": "Inside one example",
}


def draw() -> None:
    """The figures, the plot beside the table and its actions, and below what it does to the examples."""
    opening.follow()
    bench = session.current()
    panel = cards.panel(bench)
    scores = panel.found.scores
    if scores is not None and not scores.size:
        st.info(
            "No value of the chosen matrices can be removed: the fine-tuning changed none of them. Choose other kinds "
            "in the settings.",
            icon=":material/tune:",
        )
        pages.end()
    left, right = st.columns([3, 2])
    with left:
        _plot(bench, scores)
    with right:
        if scores is not None:
            _actions(bench, scores)
    cards.finish(bench, panel)
    changes, by_slice, elsewhere, together, proof, example = tabs("section", _SECTIONS)
    if elsewhere.open:
        with elsewhere:
            consequences.elsewhere(bench)
    if together.open:
        with together:
            interactions.draw(bench, scores)
    if proof.open:
        with proof:
            claim.draw(bench)
    shown = next((name for name, tab in (("changes", changes), ("slices", by_slice)) if tab.open), "example")
    with {"changes": changes, "slices": by_slice, "example": example}[shown]:
        painting.pause()
        _of_measured(bench, scores, shown=shown, hidden=bool(elsewhere.open or together.open or proof.open))


def _plot(bench: Bench, scores: Scores | None) -> None:
    """The clickable plot, and which matrices it shows."""
    keys = chart_data.scored_keys(bench)
    worst = scores.ranking()[0][1] if scores is not None else keys[0]
    scored = f"{bench.model.digest[7:15]}-{bench.kinds}-{bench.per_head}-{scores is None}"
    shown: Widget[list[str]] = Widget(f"matrices-{scored}")
    if scores is not None and (asked := links.asked_matrices("plot", set(map(str, keys)))) is not None:
        shown.put(list(asked) or [str(worst)])
    shown.start([str(worst)])
    row = st.container(horizontal=True, vertical_alignment="bottom")
    chosen = row.multiselect(
        f"Matrices: click a point to {words.verb(bench.mask).lower()} or restore it, with Shift to open its card",
        [str(key) for key in keys],
        persist_state="session",
        key=shown.key,
        help="Starts with the matrix that holds the lowest score. Box and lasso take many points at once.",
    )
    if scores is not None:
        with row:
            matrix_steps.buttons(
                list(dict.fromkeys(str(key) for _, key, _ in scores.ranking())),
                lambda: next(iter(chosen if shown.value is None else shown.value), None),
                lambda matrix: shown.put([matrix]),
                what="by its most harmful score",
            )
        links.follow_matrices("plot", chosen, [worst])
    if chosen:
        workbench.chart(bench, scores, [MatrixKey.parse(one) for one in chosen])
    else:
        st.info("Choose a matrix to see its singular values.")


def _actions(bench: Bench, scores: Scores) -> None:
    """Many values at once, and the table."""
    workbench.actions(bench, scores)
    removing.along(bench, scores)
    softer, whole = st.columns(2, vertical_alignment="bottom")
    with softer:
        removing.gain(bench)
    with whole:
        removing.whole(bench, scores)
    painting.pause()
    workbench.table(bench, scores)
    painting.pause()
    workbench.copy(bench)


@st.fragment(key=cards.CONSEQUENCES)
def _of_measured(bench: Bench, scores: Scores | None, *, shown: str, hidden: bool) -> None:
    """What is seen of the measured examples: what changed, slices, or the inside of one; nothing where none is open."""
    if hidden:
        return
    found = measured.known(bench, scores)
    if found.best is None:
        st.caption("Waits for the measurement." if found.problem is None else "There is no measurement.")
    elif shown == "slices":
        if found.whole is None:
            st.caption("Waits for the whole split.")
        else:
            sliced.draw(bench, found.whole, (Widget("section"), _SECTIONS["example"]))
    elif shown == "changes":
        cards.changes(found.best, found.controls)
        cards.seen_in_search(bench, found.best)
        consequences.by_answer(found.best)
        share.copy("changes", bench, _measured)
    else:
        inside(bench, found.best)


def _measured(setting: Setting) -> list[Evaluate]:
    """The mask on the bench's examples, alone and beside random masks of its size."""
    mask = setting.bench.mask
    return [requests.evaluate(setting, mask, draws) for draws in ((0, work.CONTROL_DRAWS) if len(mask) else (0,))]
