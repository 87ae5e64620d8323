"""The workbench: remove and restore singular values, watch what it does to the task."""

import streamlit as st

from explorer.core.keys import MatrixKey
from explorer.ui.bench import chart_data, measured, painting, workbench
from explorer.ui.bench.inside import inside
from explorer.ui.components import matrix_steps, words
from explorer.ui.prune import consequences, measures, removing
from explorer.ui.session import links, session, work
from explorer.ui.session.tabs import tabs
from explorer.ui.shell import pages, recipes, share

pages.require_entry()
bench = session.current()

panel = measures.panel(bench)
scores = panel.found.scores

keys = chart_data.scored_keys(bench)
worst = scores.ranking()[0][1] if scores is not None else keys[0]
plot_key = f"matrices-{bench.model.digest[7:15]}-{bench.kinds}-{bench.per_head}-{scores is None}"
if scores is not None and (asked := links.asked_matrices("plot", set(map(str, keys)))) is not None:
    st.session_state[plot_key] = list(asked) or [str(worst)]
st.session_state.setdefault(plot_key, [str(worst)])
left, right = st.columns([3, 2])
with left:
    row = st.container(horizontal=True, vertical_alignment="bottom")
    chosen = row.multiselect(
        f"Matrices: click a point to {words.verb(bench.mask).lower()} or restore it",
        [str(key) for key in keys],
        persist_state="session",
        key=plot_key,
        help="Starts with the matrix that holds the lowest score. Box and lasso take many points at once.",
    )
    if scores is not None:
        with row:
            matrix_steps.buttons(
                list(dict.fromkeys(str(key) for _, key, _ in scores.ranking())),
                lambda: next(iter(st.session_state.get(plot_key, chosen)), None),
                lambda name: st.session_state.update({plot_key: [name]}),
                what="by its most harmful score",
            )
        links.follow_matrices("plot", chosen, [worst])
    if chosen:
        workbench.chart(bench, scores, [MatrixKey.parse(name) for name in chosen])
    else:
        st.info("Choose a matrix to see its singular values.")
with right:
    if scores is not None:
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


def changed() -> share.Recipes:
    given = share.setting(bench)
    return [recipes.evaluate(given), recipes.controls(given, work.CONTROL_DRAWS) if given.mask else None]


measures.finish(bench, panel)
tab_changes, tab_elsewhere, tab_example = tabs(
    "section", {"changes": "What changed", "elsewhere": "Elsewhere", "example": "Inside one example"}
)
if tab_elsewhere.open:
    with tab_elsewhere:
        consequences.elsewhere(bench)


@st.fragment(key=measures.CONSEQUENCES)
def of_measured() -> None:
    """What is seen of the measured examples."""
    if tab_elsewhere.open:
        return
    found = measured.known(bench, scores)
    if found.best is None:
        st.caption("Waits for the measurement." if found.problem is None else "There is no measurement.")
    elif tab_changes.open:
        measures.changes(found.best, found.controls)
        consequences.by_answer(found.best)
        share.copy("changes", bench, changed)
    else:
        inside(bench, found.best)


with tab_changes if tab_changes.open else tab_example:
    painting.pause()
    of_measured()
