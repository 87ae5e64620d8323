"""The ranking on the Scores page: filters, the table, and what can be done with the selected rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal, cast

import pandas as pd
import streamlit as st

from explorer.attribution import SCORERS, Scores
from explorer.attribution.exact import Value
from explorer.core.keys import Kind
from explorer.masks.mask import Mask
from explorer.ui.bench import opening, workbench
from explorer.ui.components import words
from explorer.ui.scores.value_rows import DOUBT, DOUBTS, ROWS, SIGNS, Filters, values
from explorer.ui.session import Bench, Widget, links, requests
from explorer.ui.shell import share

BOOTSTRAP = 100
_NUMBER = st.column_config.NumberColumn
_COLUMNS: dict[str, Any] = {
    "matrix": st.column_config.TextColumn("matrix", pinned=True, width=70),
    "index": _NUMBER("i", width=36, help="index of the singular value"),
    "predicted": None,
    "score": _NUMBER("score", format="%+.4f", width=66, help="nats per example; negative = removing it helps"),
    "stderr": _NUMBER("±", format="%.4f", width=58, help="bootstrap standard error over the train examples"),
    "at_mask": _NUMBER(
        "at the mask",
        format="%+.4f",
        width=90,
        help="what flipping it would do now: removing (or scaling) it, or restoring it",
    ),
    "exact": _NUMBER("exact", format="%+.4f", width=72, help="measured change of the loss, nats per example"),
    "exact_stderr": _NUMBER("± exact", format="%.4f", width=62, help="standard error over the train examples"),
    "error": _NUMBER("off by", format="%.4f", width=66, help="|predicted - exact|, nats per example"),
    "doubt": st.column_config.TextColumn(DOUBT, width=30, help="? = its sign is in doubt: measure it"),
    "removed": st.column_config.CheckboxColumn("in mask", width=70, help="the mask removes it, or scales it"),
    "label": st.column_config.TextColumn("label", width=120, help="what it is called; see its card"),
    "sigma": _NUMBER("σ", format="%.4g", width=62, help="singular value"),
    "kind": st.column_config.TextColumn("kind", width=44),
    "layer": _NUMBER("layer", width=48),
    "head": _NUMBER("head", width=46),
}


def choose_scores(bench: Bench) -> tuple[int, Mask | None]:
    """Resamples for standard errors (0 for none), and the mask to score at (None for the unpruned model)."""
    spec = SCORERS[bench.scorer]
    errors, here = (links.restore(key, False, links.one_of([True])) for key in ("score-errors", "score-at-mask"))
    with_errors = errors.draw(
        st.toggle, "Standard errors", disabled=not spec.bootstraps,
        help=f"{BOOTSTRAP} resamples of the train examples; gradient, integrated and curvature know them.",
    )  # fmt: skip
    at_mask = here.draw(
        st.toggle, "At the current mask", disabled=not spec.at_mask or not len(bench.mask),
        help="What flipping each value would do now. Effects do not add up, so scores change as the mask grows.",
    )  # fmt: skip
    possible = at_mask and spec.at_mask and bool(len(bench.mask))
    return BOOTSTRAP if with_errors and spec.bootstraps else 0, bench.mask if possible else None


def code(bench: Bench, *, every: bool, resamples: int, at_mask: bool) -> None:
    """The ranking as command and as Python."""
    mask = bench.mask if at_mask else None
    share.copy("ranking", bench, lambda setting: [requests.score(setting, every=every, bootstrap=resamples, mask=mask)])


def choose_filters(table: pd.DataFrame) -> Filters:
    """The filters' widgets, with what there is to choose from."""
    kinds = [kind for kind in Kind if (table["kind"] == kind).any()]
    layers, heads = (sorted(int(one) for one in table[name].dropna().unique()) for name in ("layer", "head"))
    signs = links.restore("score-sign", SIGNS[0], links.one_of(SIGNS))
    doubts = links.restore("score-doubt", DOUBTS[0], links.one_of(DOUBTS))
    leasts = links.restore("score-least", 0.0, links.number_in(0.0, sys.float_info.max))

    def pick(box: Any, label: str, options: Sequence[Any]) -> tuple[Any, ...]:
        name, about = label.lower(), f"Only values of these {label.lower()}; all if none is chosen."
        linked: links.Linked[list[Any]] = links.restore(
            f"score-{name}", [], links.some_of(options), text=links.joined_texts
        )
        widget = Widget[list[Any]](linked.key)
        if gone := [one for one in widget.value or [] if one not in options]:  # one of another model must not linger
            widget.put([one for one in widget.value or [] if one not in gone])
        return tuple(linked.draw(box.multiselect, label, options, placeholder="all", help=about))

    boxes = st.columns(6, vertical_alignment="bottom")
    about_sign = "Negative: removing the value is predicted to lower the loss."
    about_doubt = (
        "Doubtful: what is left out of the linear estimate may be larger than the score, so that its sign may be wrong."
    )
    return Filters(
        kinds=pick(boxes[0], "Kinds", kinds),
        layers=pick(boxes[1], "Layers", layers),
        heads=pick(boxes[2], "Heads", heads),
        sign=signs.draw(boxes[3].selectbox, "Sign", SIGNS, help=about_sign),
        doubt=doubts.draw(boxes[4].selectbox, "Score is", DOUBTS, help=about_doubt),
        least=leasts.draw(
            boxes[5].number_input, "At least, nats", min_value=0.0, step=0.01, format="%.3g",
            help="Smallest absolute score.",
        ),
    )  # fmt: skip


def ranking(shown: pd.DataFrame, total: int) -> tuple[Value, ...]:
    """The table of all rows that passed the filters; gives the selected values."""
    cut = shown.head(ROWS)
    chosen = _select(cut, "ranking", height=420, order=None)
    more = f" The table holds the {ROWS:,} lowest of them; filter to see others." if len(shown) > ROWS else ""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{len(shown):,} of {total:,} values, most harmful first. Nats per example.{more}")
        st.download_button(
            "CSV",
            data=lambda: shown.drop(columns="predicted").to_csv(index=False).encode(),
            file_name="scores.csv",
            mime="text/csv",
            icon=":material/download:",
            on_click="ignore",
            key="scores-csv",
        )
    return chosen


def worst(offenders: pd.DataFrame) -> tuple[Value, ...]:
    """The table of the predictions that are furthest off; gives the selected values."""
    order = ["matrix", "index", "predicted", "exact", "exact_stderr", "error", "doubt", "removed"]
    order += [] if _empty(offenders, "label") else ["label"]
    return _select(offenders, "offenders", height="auto", order=order)


def _select(
    table: pd.DataFrame, name: str, height: int | Literal["auto"], order: list[str] | None
) -> tuple[Value, ...]:
    """A table whose rows can be selected; other rows make it another table, since it knows them by position only."""
    columns = dict(_COLUMNS)
    if order is None:
        order = [column for column in _COLUMNS if column not in ("predicted", "error") and not _empty(table, column)]
    else:
        columns["predicted"] = _NUMBER("predicted", format="%+.4f", width=74)
    rows = hash(tuple(zip(table["matrix"], table["index"], strict=True)))
    event = st.dataframe(
        table,
        key=f"{name}-{rows:x}",
        hide_index=True,
        height=height,
        column_order=order,
        column_config=columns,
        on_select="rerun",
        selection_mode="multi-row",
        placeholder="",
    )
    places = [row for row in cast("Any", event)["selection"]["rows"] if 0 <= row < len(table)]
    return values(table.iloc[places])


def _empty(table: pd.DataFrame, column: str) -> bool:
    if column == "label":
        return not bool((table[column] != "").any())
    return column in ("stderr", "at_mask", "exact", "exact_stderr", "head") and bool(table[column].isna().all())


def actions(bench: Bench, scores: Scores, chosen: Sequence[Value]) -> None:
    """Remove, restore or open the selected values."""
    gone = [value for value in chosen if value[1] in bench.mask.indices(value[0])]
    kept = [value for value in chosen if value not in gone]

    def switch(values: Sequence[Value], remove: bool) -> None:
        workbench.switch(bench, scores, dict.fromkeys(values, remove))

    with st.container(horizontal=True, vertical_alignment="center", key="score-actions"):
        label = f"{words.verb(bench.mask)} {len(kept):,}"
        st.button(label, key="remove-selected", type="primary", disabled=not kept, on_click=switch, args=(kept, True))
        label = f"Restore {len(gone):,}"
        st.button(label, key="restore-selected", disabled=not gone, on_click=switch, args=(gone, False))
        first = chosen[0] if chosen else ()
        for label, key, icon, ask in (
            ("Open in Spectra", "open-selected", "bar_chart", opening.want),
            ("Open its card", "card-selected", "arrow_outward", opening.want_card),
        ):
            st.button(label, key=key, icon=f":material/{icon}:", disabled=not chosen, on_click=ask, args=first)
        st.caption(f"{len(chosen):,} selected" if chosen else "Select rows or points to act on them.")
