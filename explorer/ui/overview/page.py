"""Overview: a tour, the map of the model, what is loaded, what it is asked, and how well it does."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from explorer.measure.evaluate import Comparison
from explorer.measure.tokens import encode_for, token_texts
from explorer.ui.bench import chart_data, score_map
from explorer.ui.components import words
from explorer.ui.jobs import work
from explorer.ui.overview import tour
from explorer.ui.session import Bench, guide, session
from explorer.ui.shell import pages

SAMPLE = 5


def draw() -> None:
    """The tour, if explanations are wanted, the map, and tables of the model and the task."""
    bench = session.current()
    status = pages.heading("Eigenpruning", bench.model)
    if guide.shown():
        st.markdown(
            "Split each weight matrix into singular values, score every one by what removing it would do to the task's "
            "loss, remove the harmful ones, and see what the model can do without them."
        )
    with status:
        comparison = work.comparison(bench)
        scores = work.ranked(bench)
    if guide.shown():
        tour.draw(bench, scores, comparison)
    score_map.draw(bench)
    left, right = st.columns(2)
    with left:
        _model(bench)
    with right:
        _task(bench, comparison)


def _model(bench: Bench) -> None:
    """What is loaded."""
    st.subheader("Model", divider="gray", anchor=False)
    model = bench.model
    with bench.views.borrow() as view:
        config = view.config
        heads = f"{config.n_heads}, of {config.d_head} dimensions"
        grouped = getattr(config, "n_key_value_heads", None)
        if grouped and grouped != config.n_heads:
            heads += f"; {grouped} key/value heads"
        facts = {
            "name": model.source.title,
            "origin": model.source.origin,
            "architecture": model.architecture,
            "parameters": f"{model.parameters_count:,}",
            "layers": str(config.n_layers),
            "heads": heads,
            "kinds of matrix": ", ".join(dict.fromkeys(str(key.kind) for key in chart_data.every_key(bench))),
            "basis": model.basis,
            "type": model.dtype,
            "fidelity": model.fidelity.words(),
            "digest": model.digest[:19] + "…",
        }
    st.dataframe(pd.DataFrame(facts.items(), columns=["property", "value"]), hide_index=True)


def _task(bench: Bench, comparison: Comparison | None) -> None:
    """What it is asked, some examples with their tokens, and how well it does."""
    st.subheader("Task", divider="gray", anchor=False)
    model, task = bench.model, bench.task
    st.markdown(f"**{words.literal(task.name)}**: {words.literal(task.description)}")
    rows = []
    for example in task.split(bench.split)[:SAMPLE]:
        (one,) = encode_for(model, task, [example])
        pieces = [" ".join(map(repr, token_texts(model.tokenizer, ids))) for ids in (one.prompt, one.answer)]
        rows.append((example.prompt, example.answer, *pieces))
    st.dataframe(pd.DataFrame(rows, columns=["prompt", "answer", "prompt tokens", "answer tokens"]), hide_index=True)
    if comparison is None:
        return
    name = comparison.baseline.accuracy_name
    st.markdown(f"Unpruned {name}, {bench.split}: **{words.accuracy(comparison.baseline, bench.total)}**")
    if comparison.baseline.chosen_among:
        st.caption(words.beside(comparison.baseline).capitalize())
    if len(bench.mask):
        accuracy = words.accuracy(comparison.masked, bench.total)
        st.markdown(f"With {len(bench.mask):,} values {bench.mask.state}: **{accuracy}**")
