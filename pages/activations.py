"""Activations: one prompt through the unpruned model and through the mask."""

import pandas as pd
import streamlit as st

from explorer import plots
from explorer.activations import answer_lens
from explorer.batches import token_texts
from explorer.ui import pages, session, words, work
from explorer.ui.inside import choose_head

TOP, SHOWN_TOKENS = 10, 80

pages.require_entry()
bench = session.current()

status = pages.heading("Activations")
if not len(bench.mask):
    st.info("Nothing is removed yet, so before and after are the same. Remove values on the Prune page.")
example = bench.task.split(bench.split)[0]
prompt_box, head_box = st.columns([2, 1])
prompt = prompt_box.text_input(
    "Prompt", example.prompt, key=f"prompt-{bench.task.digest[7:15]}", max_chars=2000, persist_state="session"
)
with head_box:
    layer, head = choose_head(bench)
with status:
    contrast = work.contrast(bench, prompt)
if contrast is None:
    st.stop()
before, after = contrast.before, contrast.after
tokens = before.tokens
st.caption(f"{len(tokens)} tokens: " + " · ".join(words.literal(repr(token)) for token in tokens[:SHOWN_TOKENS]))

for box, pattern, title, difference in zip(
    st.columns(3),
    (before.attention[layer][head], after.attention[layer][head], contrast.attention_difference(layer, head)),
    ("unpruned", "with the mask", "difference"),
    (False, False, True),
    strict=True,
):
    figure = plots.attention(pattern.numpy(), tokens, f"L{layer} head {head}: {title}", difference=difference)
    box.plotly_chart(figure, config=plots.CONFIG, key=f"attention-{title}")

left, right = st.columns(2)
with left:
    change = contrast.residual_change().numpy()
    st.plotly_chart(plots.residual_change(change, tokens), config=plots.CONFIG, key="residual")
    first = contrast.first_changed_layer()
    st.caption(
        "The residual stream is unchanged."
        if first is None
        else f"The first block whose output differs is layer {first}."
    )
with right:
    candidates = list(dict.fromkeys(token for reading in (after, before) for token, _ in reading.top(TOP)))
    names = dict(zip(candidates, token_texts(bench.model.tokenizer, candidates), strict=True))
    token = st.selectbox("Next token", candidates, format_func=lambda one: repr(names[one]), key="lens-token")
    figure = plots.lens(answer_lens(before, [token]), answer_lens(after, [token]), names[token])
    st.plotly_chart(figure, config=plots.CONFIG, key="lens")

st.subheader("Most likely next tokens", divider="gray", anchor=False)
for box, reading, other, title in zip(
    st.columns(2), (before, after), (after, before), ("Unpruned", "With the mask"), strict=True
):
    rows = [
        {
            "token": repr(bench.model.tokenizer.decode([one])),
            "probability": probability,
            "in the other": float(other.lens[-1, one].exp()),
        }
        for one, probability in reading.top(TOP)
    ]
    box.markdown(f"**{title}**")
    percent = st.column_config.NumberColumn(format="percent")
    box.dataframe(pd.DataFrame(rows), hide_index=True, column_config={"probability": percent, "in the other": percent})
