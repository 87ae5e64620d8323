"""How the removals of up to 32 values act together: pairs beside sums, what goes together, and the best order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import pandas as pd
import streamlit as st

from explorer.actions import MeasureInteractions
from explorer.attribution import Scores
from explorer.attribution.interactions import EXACT, MOST, ORDERS, Interactions, interactions
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress
from explorer.masks.mask import Mask
from explorer.measure.batches import batches
from explorer.models import View
from explorer.plots import interactions as interaction_plots
from explorer.plots.interactions import Shown
from explorer.ui.bench import labels, opening, workbench
from explorer.ui.components import figures, words
from explorer.ui.jobs.work import on_view
from explorer.ui.session import Bench, Setting, Widget, guide, links, requests, session, state
from explorer.ui.shell import share

EXAMPLES = 64  # train examples that are measured on at first
OWN, LOWEST = "the mask's", "the lowest-scored"
START = 8
_NUMBER = st.column_config.NumberColumn
_COLUMNS = {
    "alone": _NUMBER(format="%+.4f", width=76, help="effect of removing it alone, nats per example"),
    "± alone": _NUMBER("±", format="%.4f", width=62, help="standard error over the examples"),
    "share": _NUMBER("Shapley value", format="%+.4f", width=96, help="its fair share of the effect of all together"),
    "± share": _NUMBER("±", format="%.4f", width=62, help="standard error over the orders; none where it is exact"),
    "so far": _NUMBER(format="%+.4f", width=76, help="effect of it and all rows above together"),
    "cluster": st.column_config.TextColumn(width=62, help="values of one letter are linked: see the marks of the map"),
    "i": _NUMBER(width=40),
}


@dataclass(frozen=True)
class _Asked:
    """What the session asked to measure: the values of a mask on the first so many train examples."""

    mask: str
    limit: int


def draw(bench: Bench, scores: Scores | None) -> None:
    """Which values, on how many examples; then the map, the order and the table."""
    row = st.container(horizontal=True, vertical_alignment="bottom")
    with row:
        mask = _choose(bench, scores)
        train = len(bench.task.split("train", bench.score_limit))
        limit = links.restore("together-examples", min(EXAMPLES, train), links.whole_in(2, train)).draw(
            st.number_input, "Train examples", min_value=2, max_value=train, width=130,
            help="The first so many are measured on.",
        )  # fmt: skip
    n = 0 if mask is None else len(mask)
    possible = mask is not None and 2 <= n <= MOST
    asked = None if mask is None else _Asked(mask.digest, int(limit))
    with row:
        st.button(
            "Measure", key="measure-together", type="primary", disabled=not possible,
            on_click=lambda: state.put(asked), help="Every value, every pair, the best order and fair shares.",
        )  # fmt: skip
        share.copy(
            "together", bench, lambda setting: [] if mask is None else [request(setting, mask, int(limit))],
            disabled=not possible,
        )  # fmt: skip
    if mask is None or not possible:
        st.caption(f"For 2 to {MOST} values; these are {n:,}." if mask is not None else "Needs scores.")
        return
    if state.find(_Asked) != asked:
        st.caption(f"At most {_masks(n):,} masks on {int(limit):,} examples, all of the same {n} values.")
        return
    found = _measured(bench, mask, int(limit))
    if found is not None:
        _show(bench, mask, found)


def _choose(bench: Bench, scores: Scores | None) -> Mask | None:
    """The mask whose values are looked at; None for lowest-scored values without scores."""
    start = OWN if 2 <= len(bench.mask) <= MOST else LOWEST
    which = links.restore("together-values", start, links.one_of([OWN, LOWEST])).draw(
        st.selectbox, "Values", [OWN, LOWEST], width=180
    )
    if which == OWN:
        return bench.mask
    count = links.restore("together-count", START, links.whole_in(2, MOST)).draw(
        st.number_input, "How many", min_value=2, max_value=MOST, width=110
    )
    return None if scores is None else workbench.mask_of_lowest(bench, scores, min(int(count), scores.size))


def request(setting: Setting, mask: Mask, limit: int) -> MeasureInteractions:
    """The values of a mask on the first train examples."""
    return MeasureInteractions(model=setting.model, task=setting.task, mask=setting.file(mask), limit=limit)


def _masks(n: int) -> int:
    """How many sets of values are measured at most."""
    return 2**n - 1 if n <= EXACT else n + n * (n - 1) + ORDERS * (n - 1) + 1


def _measured(bench: Bench, mask: Mask, limit: int) -> Interactions | None:
    def work(view: View, progress: Progress) -> Interactions:
        return interactions(
            view, batches(view, bench.task, bench.task.split("train", limit)), bench.svds, removed=mask.removed,
            mode=mask.mode, seed=bench.task.seed, progress=progress,
        )  # fmt: skip

    key = ("interactions", request(requests.by_contents(bench), mask, limit))
    return on_view(bench, key, work, label="Measuring pairs and orders")


def _show(bench: Bench, mask: Mask, found: Interactions) -> None:
    called = labels.texts(bench)
    names = [" ".join(filter(None, (one.matrix, str(one.index), called.get(one.matrix, {}).get(one.index, ""))))
             for one in found.values]  # fmt: skip
    value, stderr = found.together
    total = sum(one.effect for one in found.values)
    st.markdown(
        f"**All {len(names)} together: {value:+.3f} ± {stderr:.3f} nats.** Their single effects add up to "
        f"{total:+.3f}: {'they do not add up' if abs(value - total) > 2 * stderr else 'within two standard errors'} "
        f"(n = {found.n:,}, {found.masks:,} masks, {mask.mode})."
    )
    left, right = st.columns(2, gap="medium")
    with left:
        shown: Shown = links.restore("together-shown", get_args(Shown)[0], links.one_of(get_args(Shown))).draw(
            st.selectbox, "Pairs show", get_args(Shown), width=200, label_visibility="collapsed"
        )
        figure = interaction_plots.pair_effects(found, names, shown)
        figures.draw(figure, "together-pairs", alt="Pairs of values")
        for cluster in found.clusters:
            st.caption(words.literal(f"Go together: {', '.join(names[place] for place in cluster)}."))
    with right:
        _keep_best(bench, mask, found)
        figures.draw(interaction_plots.orders(found, names), "together-order", alt="The greedy order")
    _table(bench, found)
    guide.explain(
        "Beyond the sum: what both do together, minus what each does alone; • = beyond chance over all pairs, and at "
        "least a twentieth of the largest effect. "
        "A removal is worth its single effect only where nothing is beyond the sum. The order was chosen on these "
        "train examples: measure the mask that it leads to on others."
    )


def _keep_best(bench: Bench, mask: Mask, found: Interactions) -> None:
    """The shortest beginning of the greedy order that is as good as any, as the mask."""
    best = interaction_plots.shortest(found)
    chosen = [mask.removed[one.value] for one in found.greedy[:best]]
    base = mask.without_all()

    def keep() -> None:
        session.change_mask(
            bench.model, lambda now: base.with_removed(chosen).scaled(now.gain), f"best {best} of order"
        )

    label = f"{words.verb(bench.mask)} only the first {best}"
    st.button(
        label,
        key="keep-best",
        on_click=keep,
        help="The shortest beginning of the order within one standard error of its lowest loss. Undo goes back.",
    )


def _table(bench: Bench, found: Interactions) -> None:
    letters = {place: chr(65 + at) for at, cluster in enumerate(found.clusters) for place in cluster}
    called = labels.texts(bench)
    rows: list[dict[str, Any]] = []
    for step in found.greedy:
        one = found.values[step.value]
        row = {"matrix": one.matrix, "i": one.index, "alone": one.effect, "± alone": one.stderr, "share": one.share}
        row |= {"± share": one.share_stderr, "so far": step.effect, "cluster": letters.get(step.value, "")}
        row |= {"label": called.get(one.matrix, {}).get(one.index, ""), "card": ":material/arrow_outward:"}
        rows.append(row)
    table = pd.DataFrame(rows)
    if not any(table["label"]):
        table = table.drop(columns="label")

    def open_card() -> None:
        at = int((Widget[Any]("together-card").value or {"row": -1})["row"])
        if 0 <= at < len(rows):
            opening.want_card(MatrixKey.parse(rows[at]["matrix"]), int(rows[at]["i"]))

    card = st.column_config.ButtonColumn(
        "card", width=44, type="tertiary", on_click=open_card, key="together-card", help="Open its card."
    )
    st.dataframe(table, hide_index=True, column_config={**_COLUMNS, "card": card}, key="together-table")
