"""Why a head looks there: its score for two tokens, and what it moves, by pairs of singular directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import pandas as pd
import streamlit as st

from explorer.actions import SplitAttention
from explorer.attribution.exact import Value
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress
from explorer.masks.activations import Contrast
from explorer.masks.head_split import Directions, HeadPlace, HeadSplit, Pair, Split, TermSide, first_tokens, head_split
from explorer.masks.mask import Mask
from explorer.models import View
from explorer.plots.head_split import pair_map
from explorer.tasks import Example
from explorer.ui.bench import inside, labels, value_buttons
from explorer.ui.components import figures, words
from explorer.ui.jobs import work
from explorer.ui.session import Bench, Setting, guide, links, requests
from explorer.ui.shell import share

PAIRS = 100  # rows of a table
MOST_LETTERS = 200
MASKED, UNPRUNED = "with the mask", "unpruned"
_MEANING: Mapping[Directions, str] = {
    "head": "the head's own",
    "stacked": "all heads' together",
    "product": "QK and OV",
}
_NUMBER = st.column_config.NumberColumn
_COLUMNS: Mapping[str, Any] = {
    "adds": _NUMBER(format="%+.4f", width=76, help="to this number; all pairs and terms add up to the model's own"),
    "elsewhere": _NUMBER("at other keys", format="%+.4f", width=96, help="on average over the other keys in sight"),
    "apart": _NUMBER(format="%+.4f", width=76, help="adds, minus at other keys: what sets this key apart"),
}


@dataclass(frozen=True)
class Question:
    """What is asked: a prompt, a head with two positions, directions, a token's text or none, and under which mask."""

    prompt: Example
    place: HeadPlace
    directions: Directions
    toward: str
    mask: Mask

    def request(self, setting: Setting) -> SplitAttention:
        """The same as a request."""
        asked = requests.read_prompt(setting, self.prompt, self.mask)
        place = self.place
        return SplitAttention(
            head=f"L{place.layer}.H{place.head}", model=asked.model, prompt=asked.prompt, query=place.query,
            key=place.key, directions=self.directions, toward=self.toward or None, mask=asked.mask,
            around=asked.around, turn=asked.turn,
        )  # fmt: skip

    def split(self, bench: Bench) -> HeadSplit | None:
        """The answer, as a job."""

        def found(view: View, progress: Progress) -> HeadSplit:
            texts, framing = [self.toward] if self.toward else [], bench.task.around
            return head_split(
                view, self.mask, bench.svds, prompt=self.prompt, place=self.place, directions=self.directions,
                toward=first_tokens(view, self.prompt, texts, framing=framing), framing=framing,
            )  # fmt: skip

        key = ("attention", self.request(requests.by_contents(bench)))
        return work.on_view(bench, key, found, label=f"Splitting the score of L{self.place.layer}.H{self.place.head}")


def draw(bench: Bench, prompt: Example, contrast: Contrast, place: tuple[int, int], answer: str | None) -> None:
    """The choice of tokens and directions, and the score beside what is moved, each as a map and a table."""
    asked = _ask(bench, prompt, contrast, place=place, answer=answer)
    found = asked.split(bench)
    with st.container(horizontal=True, vertical_alignment="center"):
        apart = links.restore("why-apart", True, links.one_of([False])).draw(
            st.toggle, "Beyond the other keys",
            help="Colours show what a pair adds here minus its mean over the other tokens in sight: softmax takes no "
            "notice of what is the same for all of them.",
        )  # fmt: skip
        share.copy("why", bench, lambda setting: [asked.request(setting)])
    if found is None:
        return
    at = found.visible.index(asked.place.key or 0)
    share_of = words.percent(found.attention[at])
    looks, moves = st.columns(2, gap="medium")
    chosen: list[Value] = []
    with looks:
        st.markdown(
            f"**Score {found.score.own:+.4f}**, attention {share_of}; the {len(found.visible) - 1:,} other tokens in "
            f"sight have {found.score.own_elsewhere:+.4f} on average."
        )
        chosen += _side(bench, found.score, "Score before softmax", name="score", apart=apart)
    with moves:
        st.markdown(
            f"**Moves {found.moved.own:+.4f}** along {words.literal(found.toward)} (length {found.length:.4g}); from "
            f"the other tokens {found.moved.own_elsewhere:+.4f} on average."
        )
        chosen += _side(bench, found.moved, "What is moved", name="moved", apart=apart)
    value_buttons.draw(bench, list(dict.fromkeys(chosen)), name="why", none="Select pairs to remove their directions.")
    guide.explain(
        "Rows are directions of the first matrix, columns of the second; what is no direction has its own name. A pair "
        "says what the number is made of, not what the task needs: measure that on a direction's card."
    )


def _ask(bench: Bench, prompt: Example, contrast: Contrast, place: tuple[int, int], answer: str | None) -> Question:
    layer, head = place
    boxes = st.columns([3, 3, 3, 2, 2], vertical_alignment="bottom")
    under = links.restore("why-under", MASKED, links.one_of([UNPRUNED]))
    with boxes[4]:
        masked = bool(len(bench.mask)) and under.draw(st.selectbox, "Under", [MASKED, UNPRUNED]) == MASKED
    reading = contrast.after if masked else contrast.before
    names = [f"{at} {token!r}" for at, token in enumerate(reading.tokens)]
    with boxes[0]:
        query = inside.following(
            "Looks from", list(range(len(names)))[::-1], "query", text=names.__getitem__, link=str,
            about="The last token until you choose.",
        )  # fmt: skip
    shares = reading.attention[layer][head][query].double()
    order = [at for at in shares.argsort(descending=True, stable=True).tolist() if at <= query and float(shares[at])]
    with boxes[1]:
        key = inside.following(
            "to", order or [query], "key", link=str,
            text=lambda at: f"{names[at]}, {words.percent(float(shares[at]))}",
            about="The token that gets most attention until you choose.",
        )  # fmt: skip
    usual: Directions = "head" if bench.per_head else "stacked"
    directions = links.restore("directions", usual, links.one_of(get_args(Directions)))
    toward = links.restore("toward", answer or "", links.text_up_to(MOST_LETTERS), key=f"toward-{answer}")
    return Question(
        prompt,
        HeadPlace(layer, head, query, key=key),
        directions=directions.draw(
            boxes[3].selectbox, "Directions of", get_args(Directions), format_func=_MEANING.__getitem__
        ),
        toward=toward.draw(
            boxes[2].text_input, "Moved along the logit of", max_chars=MOST_LETTERS, placeholder="its own length",
            help="Of this text's first token, with its space in front: what is added directly, past later layers.",
        ),
        mask=bench.mask if masked else bench.mask.without_all(),
    )  # fmt: skip


def _side(bench: Bench, split: Split, title: str, *, name: str, apart: bool) -> list[Value]:
    """A split as a map and as a table; gives the directions of the selected pairs that a mask can hold."""
    called = labels.texts(bench)
    texts = tuple(called.get(side.matrix, {}) for side in (split.first, split.second))
    figure = pair_map(split, title, apart=apart, called=(texts[0], texts[1]))
    figures.draw(figure, f"why-{name}", alt=f"{title}, by pairs of directions")
    pairs = split.pairs(PAIRS)
    table = _table(split, pairs, texts)
    rows = hash((split.first, split.second, tuple((one.first, one.second) for one in pairs)))
    event = st.dataframe(
        table, hide_index=True, height=320, column_config=dict(_COLUMNS), on_select="rerun",
        selection_mode="multi-row", key=f"why-{name}-{rows:x}",
    )  # fmt: skip
    st.caption(_sums(split, pairs))
    selected = [pairs[row] for row in event.selection.rows if row < len(pairs)]
    return [one for pair in selected for one in _values(split, pair)]


def _table(split: Split, pairs: Sequence[Pair], texts: Sequence[Mapping[int, str]]) -> pd.DataFrame:
    sides = (split.first, split.second)
    rows = []
    for pair in pairs:
        places = (pair.first, pair.second)
        row: dict[str, Any] = {side.matrix if side is split.first else _second(split): side.terms[at]
                               for side, at in zip(sides, places, strict=True)}  # fmt: skip
        row |= {"adds": pair.here, "elsewhere": pair.elsewhere, "apart": pair.here - pair.elsewhere}
        if any(texts):
            row["label"] = " × ".join(called[at] for called, at in zip(texts, places, strict=True) if called.get(at))
        rows.append(row)
    return pd.DataFrame(rows)


def _second(split: Split) -> str:
    """The second column's name; a product is on both sides."""
    return split.second.matrix if split.second.matrix != split.first.matrix else f"{split.second.matrix} (v)"


def _sums(split: Split, pairs: Sequence[Pair]) -> str:
    rest = float(split.here.sum()) - sum(one.here for one in pairs)
    more = split.here.numel() - len(pairs)
    parts = [f"{more:,} more pairs add {rest:+.4f}"] if more else []
    parts += [f"{one.name} {one.here:+.4f}" for one in split.further]
    parts.append(f"all add up to {split.total:+.4f}; the model's own is {split.own:+.4f}")
    return f"{'; '.join(parts)}."


def _values(split: Split, pair: Pair) -> list[Value]:
    def value(side: TermSide, at: int) -> list[Value]:
        known = at < side.count and split.first.matrix != split.second.matrix
        return [(MatrixKey.parse(side.matrix), at)] if known else []

    return [*value(split.first, pair.first), *value(split.second, pair.second)]
