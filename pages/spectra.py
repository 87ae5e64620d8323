"""Spectra: the singular values of one or several matrices, coloured by score."""

import pandas as pd
import streamlit as st

from explorer import plots
from explorer.keys import MatrixKey
from explorer.svd import cumulative_energy, summarise
from explorer.ui import pages, session, spectra, work
from explorer.ui.spectrum_chart import spectrum_chart

pages.require_entry()
bench = session.current()

status = pages.heading("Spectra")
keys = spectra.every_key(bench)
with status:
    ranked = work.scores(bench)
start = ranked.ranking()[0][1] if ranked is not None else keys[0]
*boxes, compare = st.columns([1, 2.4, 1.2, 3])
first = spectra.choose_matrix(keys, start, boxes)
others = compare.multiselect(
    "Compare with",
    [str(key) for key in keys],
    persist_state="session",
    key=f"compare-{bench.model.digest[7:15]}",
    max_selections=len(plots.DASHES) - 1,
    placeholder="Type to search, such as L3.K.H1",
)
selected = tuple(dict.fromkeys((first, *map(MatrixKey.parse, others))))

with status:
    scores = work.scores(bench, selected)
with st.container(horizontal=True, vertical_alignment="center"):
    y, log_y = spectra.choose_axis(("spectra-y", "spectra-log"), scored=scores is not None)
with status:
    shown = spectra.series(bench, selected, scores)
if shown is None:
    st.stop()

left, right = st.columns([3, 2])
with left:
    spectrum_chart(shown, key="spectra-chart", y=y, log_y=log_y, interactive=False)
decompositions = {key: work.decomposition(bench, key) for key in selected}
with right:
    curves = {str(key): cumulative_energy(found.s).numpy() for key, found in decompositions.items() if found}
    st.plotly_chart(plots.energy(curves), config=plots.CONFIG, key="energy")

rows = []
for one, (key, found) in zip(shown, decompositions.items(), strict=True):
    if found is None:
        continue
    d_in, d_out = found.u.shape[0], found.vh.shape[1]
    summary = summarise(found.s, d_in, d_out)
    rows.append(
        {
            "matrix": str(key),
            "shape": f"{d_in} x {d_out}",
            "values": found.rank,
            "removed": len(one.removed),
            "largest": summary.spectral_norm,
            "Frobenius norm": summary.frobenius_norm,
            "stable rank": summary.stable_rank,
            "effective rank": summary.effective_rank,
            "null": summary.null_count,
            "degenerate blocks": ", ".join(f"{block[0]}-{block[-1]}" for block in one.blocks) or "none",
        }
    )
st.dataframe(
    pd.DataFrame(rows),
    hide_index=True,
    column_config={
        name: st.column_config.NumberColumn(format="%.4g")
        for name in ("largest", "Frobenius norm", "stable rank", "effective rank")
    },
)
st.caption(
    "Stable rank: sum of σ² over the largest σ². Effective rank: exp of the entropy of σ / Σσ. A degenerate block "
    "holds neighbours within 1 % of each other: inside it single directions are not identified."
)
