"""Overview: what is loaded, what it is asked, how well it does, and what to do next."""

import pandas as pd
import streamlit as st

from explorer.batches import encode, token_texts
from explorer.ui import pages, session, spectra, words, work

SAMPLE = 5

pages.require_entry()
bench = session.current()
model, task = bench.model, bench.task

status = pages.heading("Eigenpruning")
st.markdown(
    "Split each weight matrix into singular values, score every one by what removing it would do to the task's loss, "
    "remove the harmful ones, and see what the model can do without them."
)
with status:
    comparison = work.comparison(bench)
    scores = work.scores(bench)

find = remove = check = "…"
if scores is not None:
    harmful = sum(int((matrix.score < 0).sum()) for matrix in scores.matrices.values())
    lowest, matrix, index = scores.ranking()[0]
    find = (
        f"**{harmful:,} of {scores.size:,}** {' and '.join(bench.kinds)} values are predicted to harm this task. The "
        f"worst, number {index} of {matrix}, should change the loss by {words.nats(lowest)} if it is removed."
    )
if comparison is not None:
    remove = (
        f"Unpruned, the model answers **{words.percent(comparison.baseline.accuracy)}** of "
        f"{comparison.baseline.n:,} {bench.split} examples correctly. Click values in the plot, or remove the "
        "lowest-scored ones together; everything can be undone."
    )
    check = "Nothing is removed yet. Afterwards, look at what the mask does inside the model, prompt by prompt."
    if len(bench.mask):
        check = (
            f"With {len(bench.mask):,} removed: **{words.percent(comparison.masked.accuracy)}** correct, "
            f"{len(comparison.repaired):,} repaired, {len(comparison.broken):,} broken. See what the mask does inside "
            "the model, prompt by prompt."
        )
pages.steps(
    (("Find", find, "Spectra"), ("Remove", remove, "Prune"), ("Look inside", check, "Activations")),
    current=2 if len(bench.mask) else int(pages.visited("Spectra")),
)

left, right = st.columns(2)
with left:
    st.subheader("Model", divider="gray", anchor=False)
    with bench.views.borrow() as view:
        config = view.config
        heads = f"{config.n_heads}, of {config.d_head} dimensions"
        grouped = getattr(config, "n_key_value_heads", None)
        if grouped and grouped != config.n_heads:
            heads += f"; {grouped} key/value heads"
        facts = {
            "name": model.source.name,
            "origin": model.source.origin,
            "architecture": model.architecture,
            "parameters": f"{model.parameters_count:,}",
            "layers": str(config.n_layers),
            "heads": heads,
            "kinds of matrix": ", ".join(dict.fromkeys(str(key.kind) for key in spectra.every_key(bench))),
            "basis": model.basis,
            "digest": model.digest[:19] + "…",
        }
    st.dataframe(pd.DataFrame(facts.items(), columns=["property", "value"]), hide_index=True)
with right:
    st.subheader("Task", divider="gray", anchor=False)
    st.markdown(f"**{words.literal(task.name)}**: {words.literal(task.description)}")
    rows = []
    for example in task.split(bench.split)[:SAMPLE]:
        one = encode(model.tokenizer, example, bos=task.bos)
        pieces = [" ".join(map(repr, token_texts(model.tokenizer, ids))) for ids in (one.prompt, one.answer)]
        rows.append((example.prompt, example.answer, *pieces))
    st.dataframe(pd.DataFrame(rows, columns=["prompt", "answer", "prompt tokens", "answer tokens"]), hide_index=True)
    if comparison is not None:
        st.markdown(f"Unpruned accuracy, {bench.split}: **{words.accuracy(comparison.baseline)}**")
        if len(bench.mask):
            st.markdown(f"With {len(bench.mask):,} values removed: **{words.accuracy(comparison.masked)}**")
