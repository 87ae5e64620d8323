"""Activations: one prompt through the unpruned model and through the mask."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from explorer.masks.activations import Contrast, answer_lens
from explorer.measure.tokens import encode_for, token_texts, words_notice
from explorer.plots import activations as activation_plots
from explorer.tasks import Example
from explorer.ui.activations import why as why_there
from explorer.ui.bench import inside, opening
from explorer.ui.bench.inside import TOP, choose_example, choose_head, heads, request, wrote
from explorer.ui.components import figures, words
from explorer.ui.jobs import work
from explorer.ui.session import Bench, Widget, links, session
from explorer.ui.session.tabs import tabs
from explorer.ui.shell import pages, share
from explorer.ui.streamlit_internals.elements import DeltaGenerator

SHOWN_TOKENS, MOST_LETTERS = 80, 20_000
_PERCENT = st.column_config.NumberColumn(format="%.3g %%", width=90)


def draw() -> None:
    """The prompt with its tokens, attention, the residual stream, the logit lens, and what removed values wrote."""
    opening.follow()
    bench = session.current()
    status = pages.heading("Activations", bench.model)
    if not len(bench.mask):
        st.info("Nothing is removed yet, so before and after are the same. Remove values on the Prune page.")
    with status:
        comparison = work.comparison(bench)
    example_box, prompt_box, head_box = st.columns([2, 2, 1])
    with example_box:
        place, example = choose_example(bench, comparison)
    prompt = _choose_prompt(bench, prompt_box, place, example=example)
    asked = Example(prompt, "", shown=example.shown)
    with status:
        contrast = work.contrast(bench, asked)
    with head_box:
        layer, head = choose_head(bench, contrast)
    if contrast is None:
        pages.end()
    _tokens(bench, prompt, contrast)
    # The example's own prompt was measured, so that its answer can be encoded behind it.
    own = example if comparison is not None and prompt == example.prompt else None
    _attention(bench, asked, contrast, place=(layer, head), own=own)
    left, right = st.columns(2)
    with left:
        _residual(contrast)
    with right:
        _lens(bench, contrast, own)
    st.subheader(f"What a {words.past(bench.mask)} value wrote", divider="gray", anchor=False)
    wrote(bench, asked)
    _likely(bench, contrast)


def _choose_prompt(bench: Bench, box: DeltaGenerator, place: int, example: Example) -> str:
    """The example's prompt, or one that the user writes."""
    key = f"prompt-{bench.task.digest[7:15]}-{bench.split}-{place}"
    linked = links.restore("prompt", example.prompt, links.text_up_to(MOST_LETTERS), key=key)
    shown = Widget[str](linked.key).value
    return linked.draw(
        box.text_area, "Prompt: the example's, or write your own", height="content", max_chars=MOST_LETTERS,
        on_change=session.moved(linked.key, shown, lambda _: inside.choose_for_good("example")),
    )  # fmt: skip


def _tokens(bench: Bench, prompt: str, contrast: Contrast) -> None:
    if (sentence := words_notice(bench.model.tokenizer, [prompt], "the prompt")) is not None:
        st.warning(words.literal(sentence), icon=":material/help:")
    tokens = contrast.before.tokens
    shown = " · ".join(words.literal(repr(token)) for token in tokens[:SHOWN_TOKENS])
    more = f" · and {len(tokens) - SHOWN_TOKENS:,} more" if len(tokens) > SHOWN_TOKENS else ""
    st.caption(f"{len(tokens)} tokens: {shown}{more}")


def _attention(bench: Bench, asked: Example, contrast: Contrast, place: tuple[int, int], own: Example | None) -> None:
    """One head's patterns, or those of every head."""
    layer, head = place
    copied = st.container()
    one, every, why = tabs("heads", {"one": "One head", "every": "Every head", "why": "Why there?"})
    looked_at = (layer, None if every.open else head)
    answer = None if own is None else own.answer
    if why.open:
        with why:
            why_there.draw(bench, asked, contrast, place=place, answer=answer)
        return
    with copied:
        share.copy("prompt", bench, lambda setting: [request(setting, asked, looked_at, answer=answer)])
    if every.open:
        with every:
            heads(contrast, layer)
        return
    before, after = contrast.before, contrast.after
    patterns = before.attention[layer][head], after.attention[layer][head], contrast.attention_difference(layer, head)
    for box, pattern, title in zip(one.columns(3), patterns, ("unpruned", "with the mask", "difference"), strict=True):
        figure = activation_plots.attention(
            pattern.numpy(), before.tokens, f"L{layer} head {head}: {title}", difference=title == "difference"
        )
        figures.draw(figure, f"attention-{title}", box=box)


def _residual(contrast: Contrast) -> None:
    first = contrast.first_changed_layer()
    figure = activation_plots.residual_change(contrast.residual_change().numpy(), contrast.before.tokens, first)
    figures.draw(figure, "residual")
    st.caption(
        "The residual stream is unchanged."
        if first is None
        else f"The first block whose output differs is layer {first}, in the frame."
    )


def _lens(bench: Bench, contrast: Contrast, own: Example | None) -> None:
    """How probable a token is after each layer."""
    candidates = contrast.next_tokens(TOP)
    if own is not None:
        right = encode_for(bench.model, bench.task, [own])[0].answer[0]
        candidates = list(dict.fromkeys((right, *candidates)))
    names = dict(zip(candidates, token_texts(bench.model.tokenizer, candidates), strict=True))
    token = st.selectbox(
        "Next token", candidates, format_func=lambda one: repr(names[one]), key="lens-token",
        help="The example's answer comes first, then the most likely ones.",
    )  # fmt: skip
    before, after = (answer_lens(reading, [token]) for reading in (contrast.before, contrast.after))
    figures.draw(activation_plots.lens(before, after, names[token]), "lens")


def _likely(bench: Bench, contrast: Contrast) -> None:
    st.subheader("Most likely next tokens", divider="gray", anchor=False)
    before, after = contrast.before, contrast.after
    for box, reading, other, title in zip(
        st.columns(2), (before, after), (after, before), ("Unpruned", "With the mask"), strict=True
    ):
        rows = [
            {
                "token": repr(token_texts(bench.model.tokenizer, [one])[0]),
                "probability": 100 * probability,
                "in the other": 100 * float(other.lens[-1, one].exp()),
            }
            for one, probability in reading.top(TOP)
        ]
        box.markdown(f"**{title}**")
        box.dataframe(
            pd.DataFrame(rows), hide_index=True, column_config={"probability": _PERCENT, "in the other": _PERCENT}
        )
