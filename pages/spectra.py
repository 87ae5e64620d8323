"""Spectra: the singular values of one or several matrices, coloured by score, and the tokens they read and write."""

import streamlit as st

from explorer import plots
from explorer.keys import AnyKey, MatrixKey, parse_key
from explorer.spectrum import QUANTILES, cumulative_energy
from explorer.ui import links, measure_tables, pages, readouts, recipes, session, share, spectra, work
from explorer.ui.spectrum_chart import spectrum_chart

pages.require_entry()
bench = session.current()

status = pages.heading("Spectra")
matrices = spectra.every_key(bench)
keys: tuple[AnyKey, ...] = (*matrices, *spectra.every_product(bench))
with status:
    ranked = work.scores(bench)
start = ranked.ranking()[0][1] if ranked is not None else matrices[0]
*boxes, compare = st.columns([0.9, 4, 1.1, 2.2])
links.show_asked_matrices(bench.model.digest, keys, start, scored=ranked is not None)
first = spectra.choose_matrix(keys, start, boxes)
others = compare.multiselect(
    "Compare with",
    [str(key) for key in keys],
    persist_state="session",
    key=links.compare_key(bench.model.digest),
    max_selections=len(plots.DASHES) - 1,
    placeholder="Type to search, such as L3.K.H1",
)
selected = tuple(dict.fromkeys((first, *map(parse_key, others))))
if ranked is not None:
    links.follow_matrices("matrix", selected, [start])
scorable = tuple(key for key in selected if isinstance(key, MatrixKey))

with status:
    scores = work.scores(bench, scorable) if scorable else None
with st.container(horizontal=True, vertical_alignment="center"):
    y, log_y = spectra.choose_axis(("spectra-y", "spectra-log"), scored=scores is not None)
    share.copy("spectra", bench, lambda: [recipes.spectra(share.setting(bench, unpruned=True), selected)])
with status:
    shown = spectra.series(bench, selected, scores, edges=True)
if shown is None:
    st.stop()

left, right = st.columns([3, 2])
with left:
    spectrum_chart(shown, key="spectra-chart", state=bench.mask.state, y=y, log_y=log_y, interactive=False)
decompositions = {key: found for key in selected if (found := work.decomposition(bench, key)) is not None}
with right:
    curves = {str(key): cumulative_energy(found.s).numpy() for key, found in decompositions.items()}
    st.plotly_chart(plots.energy(curves, QUANTILES), config=plots.CONFIG, key="energy")
measure_tables.draw(shown, decompositions)
if isinstance(first, MatrixKey) and (note := readouts.product_note(selected)):
    st.caption(note)
readouts.draw(bench, first, decompositions[first], scores)
