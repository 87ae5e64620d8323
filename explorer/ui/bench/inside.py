"""Inside one example, before and after: attention, the logit lens of the answer, what the removed values wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import streamlit as st

from explorer.actions import ReadActivations
from explorer.core.keys import Kind
from explorer.core.progress import Progress
from explorer.masks.activations import Contrast, Written, answer_lens, written
from explorer.masks.mask import Removed
from explorer.measure.evaluate import Comparison
from explorer.measure.tokens import encode_for, token_texts
from explorer.models import View
from explorer.plots import activations as activation_plots
from explorer.tasks import Example
from explorer.ui.bench import labels, opening
from explorer.ui.components import figures, words
from explorer.ui.jobs import work
from explorer.ui.session import Bench, Setting, Widget, links, requests, session, state
from explorer.ui.shell import share

T = TypeVar("T", int, tuple[int, int])
TOP = 10  # most likely next tokens
VALUES = 200  # removed values to choose from
MANY_TOKENS = 64  # beyond which the patterns of all heads are not drawn


@dataclass
class _Chosen:
    """The keys of the widgets that show what the user chose, not what comes first."""

    widgets: set[str] = field(default_factory=set)


def choose_for_good(key: str) -> None:
    """What the widget shows is the user's choice, and stays as long as there is such an option."""
    state.of(_Chosen).widgets.add(key)


def inside(bench: Bench, comparison: Comparison) -> None:
    """One example, by default the first that flipped; follows the mask."""
    example_box, head_box = st.columns([2, 1])
    with example_box:
        _, example = choose_example(bench, comparison)
    contrast = work.contrast(bench, example)
    with head_box:
        layer, head = choose_head(bench, contrast)
    if contrast is None:
        return
    answer = encode_for(bench.model, bench.task, [example])[0].answer
    before, after, lens = st.columns(3)
    for box, reading, name in ((before, contrast.before, "unpruned"), (after, contrast.after, "with the mask")):
        pattern = reading.attention[layer][head].numpy()
        figure = activation_plots.attention(pattern, reading.tokens, f"L{layer} head {head}, {name}")
        figures.draw(figure, f"inside-{name}", box=box)
    (text,) = token_texts(bench.model.tokenizer, answer[:1])
    figure = activation_plots.lens(answer_lens(contrast.before, answer), answer_lens(contrast.after, answer), text)
    figures.draw(figure, "inside-lens", box=lens)
    share.copy("inside", bench, lambda setting: [request(setting, example, (layer, head), answer=example.answer)])


def request(setting: Setting, prompt: Example, place: tuple[int, int | None], *, answer: str | None) -> ReadActivations:
    """A prompt with the current mask.

    Args:
        setting: what it is about.
        prompt: of an example, with what is shown before it.
        place: layer and query head whose attention is looked at; no head for all of the layer's.
        answer: what should follow, whose first token comes first in the logit lens.
    """
    head = f"L{place[0]}" + ("" if place[1] is None else f".H{place[1]}")
    return requests.read_prompt(setting, prompt, setting.bench.mask, head=(head,), top=TOP, answer=answer)


def choose_example(bench: Bench, comparison: Comparison | None) -> tuple[int, Example]:
    """An example of the bench's split with its place in it: the first that flipped, until the user chooses."""
    examples = bench.task.split(bench.split, bench.eval_limit)
    flips = {} if comparison is None else dict.fromkeys(comparison.broken, "right → wrong")
    flips = (dict.fromkeys(comparison.repaired, "wrong → right") if comparison is not None else {}) | flips
    order = [*flips, *(place for place in range(len(examples)) if place not in flips)]
    chosen = following(
        "Example",
        order,
        "example",
        text=lambda i: (
            words.one_line(examples[i].prompt + examples[i].answer) + (f" ({flips[i]})" if i in flips else "")
        ),
        about="Flipped examples come first, and the first one is shown until you choose.",
        link=str,
    )
    return chosen, examples[chosen]


def choose_head(bench: Bench, contrast: Contrast | None = None) -> tuple[int, int]:
    """A query head to look at: the first that the mask touches, if it touches one, until the user chooses."""
    with bench.views.borrow() as view:
        n_layers, n_heads = int(view.config.n_layers), int(view.config.n_heads)
        groups = n_heads // int(getattr(view.config, "n_key_value_heads", None) or n_heads)
    touched = _touched(bench, n_heads, groups)
    every = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    options = [*touched, *(place for place in every if place not in touched)]
    most = None if contrast is None else contrast.most_changed_head()

    def text(place: tuple[int, int]) -> str:
        marks = [word for word, applies in (("touched", place in touched), ("most changed", place == most)) if applies]
        return f"L{place[0]} head {place[1]}" + (f" ({', '.join(marks)})" if marks else "")

    return following(
        "Attention head",
        options,
        "head",
        text=text,
        about="Heads that the mask touches come first, and the first one is shown until you choose. "
        "The most changed one moved the largest share of its attention to other tokens.",
        link=lambda place: f"{place[0]}.{place[1]}",
    )


def heads(contrast: Contrast, layer: int) -> None:
    """The attention of all heads: how much each one moved, and the patterns of one layer."""
    before, after = (reading.attention[layer].float() for reading in (contrast.before, contrast.after))
    left, right = st.columns([1, 2])
    most = contrast.most_changed_head()
    with left:
        figure = activation_plots.head_changes(contrast.head_changes().double().numpy())
        figures.draw(figure, "head-changes")
        st.caption(
            "No attention moved." if most is None else f"L{most[0]} head {most[1]} moved most; it is in the frame."
        )
    with right:
        which = st.segmented_control(
            "Show", ["unpruned", "with the mask", "difference"], default="difference", required=True,
            key="heads-which", persist_state="session", label_visibility="collapsed",
        )  # fmt: skip
        if len(contrast.before.tokens) > MANY_TOKENS:
            st.info(f"The patterns of all heads are drawn for prompts of up to {MANY_TOKENS} tokens: shorten it.")
            return
        shown = {"unpruned": before, "with the mask": after, "difference": after - before}[str(which)]
        figure = activation_plots.every_head(
            shown.double().numpy(), contrast.before.tokens, f"L{layer}, every head: {which}",
            difference=which == "difference",
        )  # fmt: skip
        figures.draw(figure, "every-head")


def wrote(bench: Bench, prompt: Example) -> None:
    """What one removed value wrote at every token, and what stands there now."""
    if not len(bench.mask):
        st.caption("Nothing is removed.")
        return
    found = _written(bench, prompt)
    if found is None:
        return
    order, called = found.by_change()[:VALUES], labels.texts(bench)
    chosen = following(
        f"{words.past(bench.mask).capitalize()} value",
        order,
        "wrote",
        text=lambda place: _named(found.values[place], called),
        about="Those first whose writing the mask changes most on this prompt; the first is shown until you choose.",
    )
    before, after = (one[chosen].double().numpy() for one in (found.before, found.after))
    figure = activation_plots.written(
        before, after, found.tokens, title=f"Written by {_named(found.values[chosen], called)}"
    )
    figures.draw(figure, "wrote-figure")
    more = f" The {VALUES:,} most changed of {len(found.values):,} can be chosen." * (len(found.values) > VALUES)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"(x · u) s at each token, along v; with the mask it is {_instead(bench, float(after[0]))}.{more}")
        value = found.values[chosen]
        st.button(
            "Open its card", key="card-wrote", icon=":material/arrow_outward:", on_click=opening.want_card,
            args=(value.key, value.index),
        )  # fmt: skip


def _instead(bench: Bench, after: float) -> str:
    """What stands in the place of a value under the mask; `after` is that at the first token."""
    if bench.mask.gain:
        rest = f" and {100 * (1 - bench.mask.gain):.4g} % of its frozen mean" if bench.mode == "freeze" else ""
        return f"{100 * bench.mask.gain:.4g} % of that{rest}"
    return f"{'its frozen mean' if bench.mode == 'freeze' else 'nothing'}, {after:.4g}, at every token"


def _written(bench: Bench, prompt: Example) -> Written | None:
    def read(view: View, progress: Progress) -> Written:
        return written(view, bench.mask, bench.svds, prompt=prompt, framing=bench.task.around)

    key = ("written", requests.read_prompt(requests.by_contents(bench), prompt, bench.mask))
    return work.on_view(bench, key, read, label=f"Reading what the {words.past(bench.mask)} values wrote")


def _named(one: Removed, called: Mapping[str, Mapping[int, str]]) -> str:
    label = called.get(one.matrix, {}).get(one.index)
    return f"{one.matrix} value {one.index}, σ = {one.sigma:.4g}" + (f", {label}" if label else "")


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


def following(
    label: str,
    options: Sequence[T],
    key: str,
    text: Callable[[T], str],
    about: str,
    link: Callable[[T], str] | None = None,
) -> T:
    """A selectbox that shows its first option until the user chooses, and again if the choice is no longer there.

    With `link`, the text of an option in a URL, what the user has chosen is in the URL.
    """
    widget: Widget[T] = Widget(key)
    if link is not None and (asked := links.asked(key)) is not None:
        texts = {link(one): one for one in options}
        state.of(_Chosen).widgets.discard(key)
        if asked in texts:
            choose_for_good(key)
            widget.put(texts[asked])
        elif asked:
            links.refuse(key, asked)
    if key not in state.of(_Chosen).widgets or widget.value not in options:
        widget.put(options[0])
    chosen: T = st.selectbox(
        label,
        options,
        format_func=text,
        key=key,
        persist_state="session",
        help=about,
        on_change=session.moved(key, widget.value, lambda _: choose_for_good(key)),
    )
    if link is not None:
        links.keep(key, chosen if key in state.of(_Chosen).widgets else None, None, text=lambda _: link(chosen))
    return chosen
