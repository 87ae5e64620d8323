"""Inside one example: attention of a head that the mask touches, and the logit lens of the answer, before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import streamlit as st

from explorer import plots
from explorer.activations import answer_lens
from explorer.batches import encode
from explorer.evaluate import Comparison
from explorer.keys import Kind
from explorer.ui import work
from explorer.ui.session import Bench

T = TypeVar("T", int, tuple[int, int])


def inside(bench: Bench, comparison: Comparison) -> None:
    """One example, by default the first that flipped; follows the mask."""
    examples = comparison.masked.examples
    flipped = dict.fromkeys((*comparison.repaired, *comparison.broken))
    order = [*flipped, *(i for i in range(len(examples)) if i not in flipped)]
    example_box, head_box = st.columns([2, 1])
    with example_box:
        chosen = _following(
            "Example",
            order,
            "example",
            lambda i: examples[i].prompt + examples[i].answer + (" (flipped)" if i in flipped else ""),
            about="Flipped examples come first, and the first one is shown until you choose.",
        )
    with head_box:
        layer, head = choose_head(bench)
    contrast = work.contrast(bench, examples[chosen].prompt)
    if contrast is None:
        return
    answer = encode(bench.model.tokenizer, examples[chosen], bos=bench.task.bos).answer
    before, after, lens = st.columns(3)
    for box, reading, name in ((before, contrast.before, "unpruned"), (after, contrast.after, "with the mask")):
        pattern = reading.attention[layer][head].numpy()
        figure = plots.attention(pattern, reading.tokens, f"L{layer} head {head}, {name}")
        box.plotly_chart(figure, config=plots.CONFIG, key=f"inside-{name}")
    text = bench.model.tokenizer.decode([answer[0]])
    figure = plots.lens(answer_lens(contrast.before, answer), answer_lens(contrast.after, answer), text)
    lens.plotly_chart(figure, config=plots.CONFIG, key="inside-lens")


def choose_head(bench: Bench) -> tuple[int, int]:
    """A query head to look at: the first that the mask touches, if it touches one, until the user chooses."""
    with bench.views.borrow() as view:
        n_layers, n_heads = int(view.config.n_layers), int(view.config.n_heads)
        groups = n_heads // int(getattr(view.config, "n_key_value_heads", None) or n_heads)
    touched = _touched(bench, n_heads, groups)
    every = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    options = [*touched, *(place for place in every if place not in touched)]
    return _following(
        "Attention head",
        options,
        "head",
        lambda place: f"L{place[0]} head {place[1]}" + (" (touched)" if place in touched else ""),
        about="Heads of which the mask removes something come first, and the first one is shown until you choose.",
    )


def _touched(bench: Bench, n_heads: int, groups: int) -> dict[tuple[int, int], None]:
    """(layer, query head) of every removed value, in canonical order; K and V heads serve `groups` query heads."""
    touched: dict[tuple[int, int], None] = {}
    for key in bench.mask.by_matrix:
        if not key.kind.has_heads:
            continue
        scale = groups if key.kind in (Kind.K, Kind.V) else 1
        first, last = (0, n_heads) if key.head is None else (key.head * scale, (key.head + 1) * scale)
        touched |= {(key.layer, head): None for head in range(first, last)}
    return touched


def _following(label: str, options: Sequence[T], key: str, text: Callable[[T], str], about: str) -> T:
    """A selectbox that shows its first option until the user chooses, and again if the choice is no longer there."""
    if not st.session_state.get(f"{key}-chosen") or st.session_state.get(key) not in options:
        st.session_state[key] = options[0]
    chosen: T = st.selectbox(
        label,
        options,
        format_func=text,
        key=key,
        help=about,
        on_change=lambda: st.session_state.update({f"{key}-chosen": True}),
    )
    return chosen
