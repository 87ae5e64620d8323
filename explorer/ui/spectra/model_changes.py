"""What a second model changed, drawn: the difference, its singular values, the leading directions; all in a table."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from explorer.core.keys import AnyKey
from explorer.plots import comparison as diff_plots
from explorer.spectra.comparison import SpectrumDiff, SubspaceOverlap
from explorer.ui.bench import second_model
from explorer.ui.bench.second_model import Common
from explorer.ui.components import figures
from explorer.ui.components.words import literal, percent
from explorer.ui.session import Bench, guide, requests
from explorer.ui.shell import share
from explorer.ui.spectra.measure_tables import COUNTS, energy_cells

LEADING = 8
_NUMBER = st.column_config.NumberColumn
_COLUMNS = {
    "size": _NUMBER("size of W' - W", format="percent", help="its Frobenius norm over that of W"),
    "spectral_norm": _NUMBER("largest", format="%.4g", help="largest singular value of W' - W"),
    "stable_rank": _NUMBER("stable rank", format="%.4g", help="of W' - W"),
    "effective_rank": _NUMBER("effective rank", format="%.4g", help="of W' - W"),
    **{name: _NUMBER(f"{name} energy", help=f"fewest values of W' - W that carry {name} of Σσ²") for name in COUNTS},
    "values": _NUMBER("of", help="singular values that W' - W has"),
    "u": _NUMBER("overlap u", format="%.3f", help="mean squared cosine between the leading input directions"),
    "u chance": _NUMBER("chance", format="%.3f", help="of random subspaces of this size: k / d_in"),
    "v": _NUMBER("overlap v", format="%.3f", help="mean squared cosine between the leading output directions"),
    "v chance": _NUMBER("chance ", format="%.3f", help="of random subspaces of this size: k / d_out"),
}


def draw(bench: Bench, other: Bench, found: Common) -> None:
    """The section of the second model: figures of the first matrix, a table of all."""
    names = " and ".join(literal(second_model.short_name(one)) for one in (bench, other))
    st.subheader(f"What changed between {names}", divider="gray", anchor=False)
    if found.problems:
        more = f" And {len(found.problems) - 1:,} more like it." if len(found.problems) > 1 else ""
        st.warning(literal(f"{found.problems[0]}{more}"), icon=":material/compare_arrows:")
    if not found.alike:
        return
    if bench.model.parts.weights == other.model.parts.weights:
        st.info("Both models have the same weights.")
    changes = second_model.changes(bench, other, found.alike)
    if changes is None:
        return
    first = found.alike[0]
    r = changes[first].base.rank
    left, right = st.columns([1, 4], vertical_alignment="center")
    with left:
        k = st.number_input(
            "Leading directions k", min_value=1, max_value=r, value=min(LEADING, r),
            key=f"overlap-k-{r}", persist_state="session",
            help="How many of the largest singular values' directions are compared.",
        )  # fmt: skip
    with right:
        st.markdown(_told(changes[first], first, changes[first].overlap(int(k))))
    _figures(changes[first], int(k))
    table = pd.DataFrame(_rows(changes, int(k)), columns=["matrix", *_COLUMNS])
    st.dataframe(table, hide_index=True, column_config=_COLUMNS, key="changes")
    guide.explain(
        "W is the matrix in the first model, W' in the second. Small changes of singular values can hide large "
        "rotations of their directions, which the overlap shows; chance is what random directions give."
    )
    second = {"against": other.model.source.name, "overlap": int(k)}
    share.copy("against", bench, lambda setting: [requests.spectra(setting, found.alike, **second)])


def _told(found: SpectrumDiff, key: AnyKey, overlap: SubspaceOverlap) -> str:
    """The answer to "is it low-rank?", in a line."""
    half, most, _ = found.rank.energy_counts
    cut = " k ends inside a degenerate block, so these subspaces are arbitrary." if overlap.cuts_block else ""
    return (
        f"**{key}**: W' - W has {percent(found.size)} of W's norm; {half:,} of its {len(found.difference):,} values "
        f"carry half of it (squared), {most:,} carry 90 %. SubspaceOverlap of the leading directions: "
        f"u {overlap.left.similarity:.3f} (chance {overlap.left.chance_similarity:.3f}), "
        f"v {overlap.right.similarity:.3f} (chance {overlap.right.chance_similarity:.3f}).{cut}"
    )


def _figures(found: SpectrumDiff, k: int) -> None:
    shown = (
        (diff_plots.difference(found), "difference"),
        (diff_plots.changes(found), "relative-change"),
        (diff_plots.overlaps(found.overlap(k)), "overlap"),
    )
    for box, (figure, name) in zip(st.columns(3), shown, strict=True):
        figures.draw(figure, name, box=box)


def _rows(changes: Mapping[AnyKey, SpectrumDiff], k: int) -> list[dict[str, object]]:
    rows = []
    for key, found in changes.items():
        rank, overlap = found.rank, found.overlap(min(k, found.base.rank))
        rows.append(
            {
                "matrix": str(key),
                "size": found.size,
                **vars(rank),
                **energy_cells(rank),
                "values": len(found.difference),
                "u": overlap.left.similarity,
                "u chance": overlap.left.chance_similarity,
                "v": overlap.right.similarity,
                "v chance": overlap.right.chance_similarity,
            }
        )
    return rows
