"""Try it: prompts and chats, answered with the mask and without, side by side, while they are said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import pandas as pd
import streamlit as st

from explorer.core.columns import cells, names
from explorer.core.progress import Progress
from explorer.experiments.reply_controls import DRAWS, ReplyControls, controls_sentence, reply_controls
from explorer.masks.apply import apply
from explorer.masks.belonging import source_task
from explorer.masks.replies import (
    REPLY_COLUMNS,
    Reply,
    ReplyPair,
    ReplyToken,
    parting_sentence,
    replies,
    summary_sentence,
)
from explorer.measure.generation import prompt_ids
from explorer.measure.tokens import words_notice
from explorer.models import View
from explorer.ui.components import coloured, painting, ticker, words
from explorer.ui.jobs import cached, work
from explorer.ui.jobs.runner import JobState, Key, tell
from explorer.ui.session import Bench, guide, requests, session, state
from explorer.ui.shell import pages, share
from explorer.ui.try_it import form
from explorer.ui.try_it.form import Asked

STRONGEST = 3.0  # nats between the two sides, at which a token's colour is strongest
_LONG = ("prompt", "unpruned reply", "reply with the mask")  # columns of texts of any length
_FAINT = 1e-12  # a probability that is as good as none


@dataclass(frozen=True)
class _Wanted:
    """What the session has asked the model to go on from, and whether random masks are to speak, too."""

    asked: Asked
    chance: bool = False


def draw() -> None:
    """The form, and below both replies, which follow the mask."""
    bench = session.current()
    pages.heading("Try it", bench.model)
    if not len(bench.mask):
        st.info("Nothing is removed yet: the unpruned model speaks alone. Remove values on the Prune page.")
    asked = form.draw(bench)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Generate", key="try-generate", type="primary", icon=":material/play_arrow:", disabled=asked is None,
            on_click=_start, args=(bench, asked), help="Again whenever the mask changes, until you ask something else.",
        )  # fmt: skip
        share.copy(
            "generate", bench,
            lambda setting: [None if asked is None else asked.request(setting, DRAWS if _chance(asked) else 0)],
            disabled=asked is None,
        )  # fmt: skip
    if asked is None:
        st.caption("Type something to go on from.")
        return
    if (sentence := words_notice(bench.model.tokenizer, asked.prompts, "the prompts")) is not None:
        st.warning(words.literal(sentence), icon=":material/help:")
    wanted = state.find(_Wanted)
    if wanted is None or wanted.asked != asked:
        st.caption("Both sides read the same, and say their tokens the same way. Generate starts them.")
        return
    _replies(bench, asked)
    if len(bench.mask):
        _beside_chance(bench, asked)
    guide.explain(
        "In the frame: the first token that differs. Colour: how much more probable (orange) or less probable (blue) a "
        f"token is to the side that says it than to the other behind the same words, strongest from {STRONGEST:g} nats "
        "on; the tooltip has both probabilities."
    )


def _chance(asked: Asked) -> bool:
    """Whether random masks are to go on from the same."""
    wanted = state.find(_Wanted)
    return wanted is not None and wanted.chance and wanted.asked == asked


def _start(bench: Bench, asked: Asked | None) -> None:
    """Ask; what was stopped begins anew."""
    if asked is not None:
        state.put(_Wanted(asked, _chance(asked)))
        cached.runner().forget(_key(bench, asked))


def _key(bench: Bench, asked: Asked) -> Key:
    """The session's own: it may stop what it has asked for, but nobody else's."""
    return "replies", asked.request(requests.by_contents(bench)), session.token()


@st.fragment
def _replies(bench: Bench, asked: Asked) -> None:
    """What has been said so far, again and again until all has been said."""
    key = _key(bench, asked)
    cached.only("replies", key)

    def speak(progress: Progress) -> tuple[ReplyPair, ...]:
        with bench.views.borrow() as first, bench.views.borrow() as second:
            return replies(
                (first, second), bench.mask, bench.svds, prompts=asked.examples, framing=asked.framing,
                decoding=asked.decoding, progress=progress, so_far=tell,
            )  # fmt: skip

    found = cached.compute(key, "Generating", speak, wait=painting.BEHIND)
    job = cached.runner().find(key)
    cached.shown_here(key)
    if (problem := cached.failure(key)) is not None:
        st.error(words.literal("Stopped before a word was said." if problem == "stopped" else problem))
        return
    going = found is None and job is not None and job.active
    if job is not None and going:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Stop", key="try-stop", icon=":material/stop:", on_click=job.stop)
            st.progress(job.share, text=words.literal(f"{job.label} ({cached.progress_text(job)})"))
        ticker.mount("look-replies", lambda: None)
    elif found is None and job is not None and job.state is JobState.DONE:
        found = cast("tuple[ReplyPair, ...]", job.result)
    pairs = found or (cast("tuple[ReplyPair, ...] | None", job.so_far) if job is not None else None) or ()
    if pairs:
        _draw(bench, asked, pairs, going=going)


@st.fragment
def _beside_chance(bench: Bench, asked: Asked) -> None:
    """What random masks of the same size do, once they are wanted and all has been said."""
    if not _chance(asked):
        st.button(
            f"Beside {DRAWS} random masks", key="try-chance", icon=":material/casino:",
            on_click=state.put, args=(_Wanted(asked, chance=True),),
            help="Masks of the same size, drawn by chance, go on from the same prompts, on every change from now on. "
            "Any mask makes a long reply part: how soon says something beside chance only.",
        )  # fmt: skip
        return
    key = _key(bench, asked)
    found = cast("tuple[ReplyPair, ...] | None", work.held(key))
    if found is None:
        if cached.failure(key) is None:
            st.caption("Random masks wait until both sides have spoken.")
            ticker.mount("look-chance", lambda: None)
        return

    def control(view: View, progress: Progress) -> ReplyControls:
        apply(view, bench.mask.without_all(), bench.svds)
        prompts = [prompt_ids(view, one, asked.framing) for one in asked.examples]
        return reply_controls(
            view, bench.mask, bench.svds, task=source_task(bench.mask) or bench.task, decoding=asked.decoding,
            heard=list(zip(prompts, found, strict=False)), progress=progress,
        )  # fmt: skip

    request = asked.request(requests.by_contents(bench), DRAWS)
    if any("stopped" in (one.baseline.ended, one.masked and one.masked.ended) for one in found):
        st.caption("Random masks are compared with whole replies: these were stopped.")
        return
    measured = work.on_view(bench, ("reply-controls", request), control, label=f"{DRAWS} random masks speak")
    if measured is not None:
        st.markdown(words.literal(controls_sentence(measured)))


def _draw(bench: Bench, asked: Asked, pairs: tuple[ReplyPair, ...], *, going: bool) -> None:
    """All replies as a table where there are several, and one pair side by side."""
    pair = pairs[0]
    if len(asked.prompts) > 1:
        if len(bench.mask):
            st.markdown(words.literal(summary_sentence(pairs)))
        columns = REPLY_COLUMNS if len(bench.mask) else (REPLY_COLUMNS[0], REPLY_COLUMNS[-2])
        table = pd.DataFrame(cells(columns, pairs), columns=names(columns))
        widths = {name: st.column_config.TextColumn(width="medium") for name in _LONG}
        st.dataframe(table, hide_index=True, key="try-table", column_config=widths)
        chosen = st.selectbox(
            "Side by side", range(len(asked.prompts)), key="try-pair", persist_state="session",
            format_func=lambda place: words.one_line(asked.prompts[place])[:80],
        )  # fmt: skip
        pair = pairs[min(chosen, len(pairs) - 1)]
    boxes = st.columns(2) if pair.masked is not None else [st.container()]
    parted = None if pair.parting is None else pair.parting.at
    for box, name, reply in zip(
        boxes, ("Unpruned", f"With the mask: {words.chosen(bench.mask)}"), (pair.baseline, pair.masked), strict=False
    ):
        if reply is None:
            continue
        with box:
            _reply(name, reply, parted)
            if asked.framing.chat and len(asked.prompts) == 1 and not going and reply.text.strip():
                st.button(
                    "Go on from this reply", key=f"try-on-{name[:4]}", icon=":material/reply:", on_click=form.go_on,
                    args=(pair.prompt, reply.text), help="It becomes the chat's last turn, for both sides.",
                )  # fmt: skip
    if pair.masked is not None and not (going and pair is pairs[-1]):
        st.markdown(words.literal(parting_sentence(pair)))


def _reply(name: str, reply: Reply, parted: int | None) -> None:
    """One side's reply, token by token."""
    st.markdown(f"**{name}**")
    line = coloured.line(
        [one.text for one in reply.tokens], [_lead(one) for one in reply.tokens],
        at=-1 if parted is None else parted, scale=STRONGEST, titles=[_odds(one) for one in reply.tokens], breaks=True,
    )  # fmt: skip
    with st.container(border=True):
        st.html(coloured.block(line or "…", name))
    said = [words.count(len(reply.tokens), "token")]
    if reply.ended is not None:
        said.append(f"ended: {reply.ended}")
    if reply.loss is not None:
        said.append(f"{reply.loss:.3f} nats per token")
    if reply.loss_elsewhere is not None:
        said[-1] += f", {reply.loss_elsewhere:.3f} to the other side"
    st.caption("; ".join(said))


def _lead(token: ReplyToken) -> float:
    """How much more probable a token is to its own side than to the other, nats; 0 while that is not known."""
    if token.elsewhere is None:
        return 0.0
    return math.log(max(token.probability, _FAINT) / max(token.elsewhere, _FAINT))


def _odds(token: ReplyToken) -> str:
    other = "" if token.elsewhere is None else f", {words.percent(token.elsewhere)} to the other side"
    return f"{words.percent(token.probability)}{other}"
