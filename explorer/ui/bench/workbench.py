"""Where values are removed and restored: the plot, the table, and the actions on many at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from explorer.actions import Prune
from explorer.attribution import Scores
from explorer.attribution.exact import Value
from explorer.core.keys import MatrixKey
from explorer.masks.mask import Mask
from explorer.search import lowest, mask_of, null_notice
from explorer.ui.bench import chart_data, labels, opening
from explorer.ui.components import words
from explorer.ui.components.spectrum_chart import Pick, Series, apply_picks, spectrum_chart
from explorer.ui.session import Bench, Setting, Widget, guide, session, state
from explorer.ui.session.notices import notices
from explorer.ui.shell import share

TABLE_ROWS = 200
START_COUNT = 4
AROUND = 350  # pixels above and below the plot, cards and choices of matrices among them
UNCERTAIN = "?"
_COLUMNS = {
    "matrix": st.column_config.TextColumn("matrix", width=66),
    "index": st.column_config.NumberColumn("i", help="index of the singular value", width=34),
    "sigma": st.column_config.NumberColumn("σ", format="%.4g", width=62, help="singular value"),
    "score": st.column_config.NumberColumn(
        "score", format="%.4f", width=66, help="nats per example; negative = removing it helps"
    ),
    "label": st.column_config.TextColumn("label", width=90, help="what it is called; see its card"),
    "trust": st.column_config.TextColumn(
        UNCERTAIN,
        width=28,
        help="? = what the linear score leaves out may be larger than it, so that its sign may be wrong: measure it",
    ),
}


def chart(bench: Bench, scores: Scores | None, keys: list[MatrixKey]) -> None:
    """The clickable plot with its controls."""
    with st.container(horizontal=True, vertical_alignment="center"):
        y = chart_data.choose_axis(("y", "log_y"), scored=scores is not None)
        by_block = st.toggle(
            "By block",
            value=True,
            key="by_block",
            persist_state="session",
            help="Neighbours within 1 % of each other are one degenerate block: single directions in it mean nothing.",
        )
    shown = chart_data.series(bench, chart_data.extremes_last(keys, scores), scores)
    if shown is None:
        return

    def on_pick(picks: tuple[Pick, ...]) -> None:
        opening.take_card(picks)
        if scores is not None:
            _toggle(bench, scores, shown, picks=picks, by_block=by_block)

    spectrum_chart(
        shown,
        key="prune-chart",
        state=bench.mask.state,
        y=y,
        around=AROUND,
        interactive=True if scores is not None else "cards",
        by_block=by_block,
        on_pick=on_pick,
    )


def _toggle(bench: Bench, scores: Scores, shown: list[Series], picks: tuple[Pick, ...], *, by_block: bool) -> None:
    def changed(mask: Mask) -> dict[str, frozenset[int]]:
        now = [replace(one, removed=mask.indices(MatrixKey.parse(one.matrix))) for one in shown]
        return apply_picks(now, picks, by_block=by_block)

    change(bench, scores, changed)


def change(bench: Bench, scores: Scores, changed: Callable[[Mask], Mapping[str, Iterable[int]]]) -> bool:
    """Give matrices other removed indices. They are worked out from the mask as it is when the change comes.

    Fast clicks reach the callbacks of a run that began before the last change. A mask that starts from nothing gets
    the scores' provenance.
    """

    def changed_mask(mask: Mask) -> Mask:
        start = mask if len(mask) else mask_of_lowest(bench, scores, 0, gain=mask.gain)
        return chart_data.with_removed(start, scores, changed(mask))

    return session.change_mask(bench.model, changed_mask)


def switch(bench: Bench, scores: Scores, values: Mapping[Value, bool]) -> bool:
    """Remove single values (True) and restore others (False), as `change` does."""

    def changed(mask: Mask) -> dict[str, set[int]]:
        after: dict[str, set[int]] = {}
        for (key, index), gone in values.items():
            removed = after.setdefault(str(key), set(mask.indices(key)))
            (removed.add if gone else removed.discard)(index)
        return after

    return change(bench, scores, changed)


@dataclass
class Editing:
    """The table's editor: it holds its edits itself, so it is kept while only they change the mask.

    Attributes:
        number: distinguishes it from earlier editors.
        base: the mask that its rows show, before its edits.
        setting: what its rows were scored on.
        expected: digest of the mask after its edits; another mask needs another editor.
    """

    number: int
    base: Mask
    setting: Hashable
    expected: str


def table(bench: Bench, scores: Scores) -> None:
    """The lowest-scored values and all removed ones, with a checkbox each."""
    past = words.past(bench.mask)
    editing = _editing(bench, scores)
    key = f"table-{editing.number}"
    frame = _table_frame(editing.base, scores, labels.texts(bench))

    def edited() -> None:
        rows = {int(row): bool(cells["removed"]) for row, cells in _edited_rows(key).items()}
        places = {row: (MatrixKey.parse(frame["matrix"].iloc[row]), int(frame["index"].iloc[row])) for row in rows}
        accepted = switch(bench, scores, {places[row]: gone for row, gone in rows.items()})
        editing.expected = session.history(bench.model).mask.digest if accepted else ""

    def open_card() -> None:
        row = int((Widget[Any](f"{key}-card").value or {"row": -1})["row"])
        if 0 <= row < len(frame):
            opening.want_card(MatrixKey.parse(frame["matrix"].iloc[row]), int(frame["index"].iloc[row]))

    st.data_editor(
        frame,
        key=key,
        on_change=edited,
        hide_index=True,
        height="stretch",
        disabled=[name for name in frame.columns if name != "removed"],
        column_config={
            **_COLUMNS,
            "removed": st.column_config.CheckboxColumn(past, width=80),
            "card": st.column_config.ButtonColumn(
                "card", width=40, type="tertiary", on_click=open_card, key=f"{key}-card", help="Open its card."
            ),
        },
    )
    st.caption(f"The {min(TABLE_ROWS, scores.size):,} lowest-scored of {scores.size:,} values, and all {past} ones.")
    guide.explain("Scores in nats; negative = removing it helps; ? = its sign is in doubt, measure it.")


def _editing(bench: Bench, scores: Scores) -> Editing:
    setting = (bench.model.as_loaded, scores.task, scores.scorer, scores.mode, scores.n, tuple(scores.matrices))
    now = state.find(Editing)
    if now is not None and now.expected == bench.mask.digest and now.setting == setting and _holds(now):
        return now
    number = 0 if now is None else now.number + 1
    editing = Editing(number, bench.mask, setting, expected=bench.mask.digest)
    state.put(editing)
    return editing


def _holds(editing: Editing) -> bool:
    """Whether the editor still has the edits that lead from its base to the mask: one that was away has lost them."""
    return editing.base.digest == editing.expected or bool(_edited_rows(f"table-{editing.number}"))


def _edited_rows(key: str) -> dict[int, dict[str, object]]:
    """What an editor holds: the edited cells by the number of their row."""
    rows: dict[int, dict[str, object]] = (Widget[dict[str, Any]](key).value or {}).get("edited_rows", {})
    return rows


def _table_frame(mask: Mask, scores: Scores, called: Mapping[str, Mapping[int, str]]) -> pd.DataFrame:
    ranking = scores.ranking()
    removed = {(one.key, one.index) for one in mask.removed}
    uncertain = {key: matrix.uncertain_indices for key, matrix in scores.matrices.items()}
    rows = [
        (
            (key, index) in removed,
            str(key),
            index,
            float(scores.matrices[key].s[index]),
            value,
            UNCERTAIN if index in uncertain[key] else "",
        )
        for position, (value, key, index) in enumerate(ranking)
        if position < TABLE_ROWS or (key, index) in removed
    ]
    table = pd.DataFrame(rows, columns=["removed", "matrix", "index", "sigma", "score", "trust"])
    table["card"] = ":material/arrow_outward:"
    names = [called.get(matrix, {}).get(i, "") for matrix, i in zip(table["matrix"], table["index"], strict=True)]
    if any(names):
        table["label"] = names
    return table


def actions(bench: Bench, scores: Scores) -> None:
    """Remove (or scale) the k lowest-scored values, restore all."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        state.COUNT.put(min(state.COUNT.value or START_COUNT, scores.size))
        count = st.number_input(
            "Lowest-scored", 1, scores.size, key=state.COUNT.key, persist_state="session", width=110
        )

        def remove() -> None:
            remove_lowest(bench, scores, int(state.COUNT.value or START_COUNT))

        def restore() -> None:
            session.change_mask(bench.model, Mask.without_all)

        st.button(
            f"{words.verb(bench.mask)} {count:,} lowest",
            key="remove-lowest",
            type="primary",
            on_click=remove,
            help="Replaces the current mask by the k values with the most negative scores.",
        )
        st.button(
            "Restore all",
            key="restore-all",
            disabled=not len(bench.mask),
            on_click=restore,
            help="Empties the mask: the unpruned model. Undo brings it back.",
        )


def copy(bench: Bench) -> None:
    """The removal of the lowest-scored values as code."""
    count = int(state.COUNT.value or START_COUNT)
    share.copy("lowest", bench, lambda setting: [request(setting, count)])


def request(setting: Setting, count: int) -> Prune:
    """The mask of the `count` lowest-scored values, as a file."""
    return Prune(**setting.scored, count=count, gain=setting.bench.mask.gain, out=Path(f"lowest-{count}.mask.json"))


def remove_lowest(bench: Bench, scores: Scores, count: int) -> None:
    """End a callback with the mask of the `count` lowest-scored values; the gain stays."""
    session.change_mask(
        bench.model, lambda now: mask_of_lowest(bench, scores, count, gain=now.gain), f"lowest {count:,}"
    )


def mask_of_lowest(bench: Bench, scores: Scores, count: int, gain: float = 0.0) -> Mask:
    """The mask that removes the `count` lowest-scored values, or scales them to `gain`, and nothing else."""
    with bench.views.borrow() as view:
        mask = mask_of(view, scores, lowest(scores, count), task=bench.task, gain=gain)
        if (sentence := null_notice(view, scores, mask.removed)) is not None:
            notices().append_once(sentence)
    return mask
