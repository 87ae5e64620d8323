"""What is asked on Try it: prompts or a chat, and how tokens are taken; all of it is in the URL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from explorer.actions import FramingChoice, Generate
from explorer.masks.belonging import source_task
from explorer.measure.generation import Decoding
from explorer.tasks import Example, Framing
from explorer.tasks.template import as_typed, typed
from explorer.ui.session import Bench, Setting, links, state

MOST_LETTERS, MOST_PROMPTS, MOST_TOKENS, MOST_TURNS = 20_000, 50, 512, 40
LEAST_P = 0.01
FIRST = 4  # prompts of the split that are offered where there may be several
ONE, LINES = "one prompt", "one per line"
_USUAL = Decoding()


@dataclass(frozen=True)
class Asked:
    """What the model is to go on from, and how."""

    prompts: tuple[str, ...]
    turns: tuple[tuple[str, str], ...]
    framing: Framing
    decoding: Decoding

    @property
    def examples(self) -> list[Example]:
        """The prompts behind the chat's earlier turns."""
        return [Example(prompt, "", shown=self.turns) for prompt in self.prompts]

    def request(self, setting: Setting, controls: int = 0) -> Generate:
        """The same as a request, with so many random masks; the bench's task is theirs if the mask names none."""
        framing, mask = self.framing, setting.bench.mask
        other = setting.task.task if controls and len(mask) and source_task(mask) is None else None
        return Generate(
            model=setting.model, prompt=self.prompts, mask=setting.mask(mask), **vars(self.decoding),
            around=FramingChoice(framing.bos, framing.chat, framing.system),
            turn=tuple(text for turn in self.turns for text in turn), controls=controls if len(mask) else 0,
            control_task=other,
        )  # fmt: skip


@dataclass
class Talk:
    """The earlier turns of the session's chat, as (prompt, reply)."""

    turns: tuple[tuple[str, str], ...] = ()


def draw(bench: Bench) -> Asked | None:
    """The form; None while it asks for nothing."""
    left, right = st.columns([3, 2])
    with right:
        chat, system = _chat(bench)
        decoding = _decoding()
    turns = _talk(chat=chat)
    with left:
        _earlier(turns)
        prompts = _prompts(bench, chat=chat)
    if not prompts:
        return None
    framing = Framing(bench.task.around.bos, chat=chat, system=system if chat and system else None)
    return Asked(prompts, turns if chat else (), framing=framing, decoding=decoding)


def go_on(prompt: str, reply: str) -> None:
    """Make a reply the chat's last turn, and wait for the next prompt; for callbacks."""
    talk = state.of(Talk)
    talk.turns = (*talk.turns, (prompt, reply))[-MOST_TURNS:]
    for widget in state.widgets_named("try-prompt-"):
        widget.put("")


def start_over() -> None:
    """Forget the chat's earlier turns; for callbacks."""
    state.take(Talk)


def _prompts(bench: Bench, *, chat: bool) -> tuple[str, ...]:
    """What is typed: one prompt, or one in each line."""
    examples = bench.task.split(bench.split, FIRST)
    how = links.restore("prompts", ONE, links.one_of([ONE, LINES]), key="try-prompts").draw(
        st.segmented_control, "Prompts", [ONE, LINES], required=True, label_visibility="collapsed"
    )
    start = examples[0].prompt if how == ONE else "\n".join(as_typed(one.prompt) for one in examples)
    key = f"try-prompt-{bench.task.digest[7:15]}-{bench.split}-{how == ONE}"
    linked = links.restore("say", start, links.text_up_to(MOST_LETTERS), key=key)
    text = linked.draw(
        st.text_area, "The user says" if chat else "Goes on from", height=120, max_chars=MOST_LETTERS,
        help="At first the first examples of the task's split." + (
            "" if how == ONE else f" Up to {MOST_PROMPTS} lines; \\n in a line breaks the prompt's line."
        ),
    )  # fmt: skip
    if how == ONE:
        return (text,) if text.strip() else ()
    lines = [typed(line) for line in text.split("\n") if line.strip()]
    if len(lines) > MOST_PROMPTS:
        st.caption(f"The first {MOST_PROMPTS} of {len(lines)} lines; more in the shell, with a file of --prompts.")
    return tuple(lines[:MOST_PROMPTS])


def _chat(bench: Bench) -> tuple[bool, str]:
    """Whether it is a chat, and its system message."""
    able = bool(getattr(bench.model.tokenizer, "chat_template", None))
    usual = able and bench.task.framing.chat
    chat_box, system_box = st.columns([1, 2], vertical_alignment="bottom")
    with chat_box:
        linked = links.restore("talk", usual, {"True": True, "False": False}.get, key=f"try-chat-{usual}-{able}")
        chat = linked.draw(
            st.toggle, "Chat", disabled=not able,
            help="Through the tokenizer's chat template." if able else "This model's tokenizer has no chat template.",
        ) and able  # fmt: skip
    with system_box:
        system = links.restore("system-says", "", links.text_up_to(MOST_LETTERS), key="try-system").draw(
            st.text_input, "System message", disabled=not chat, max_chars=MOST_LETTERS,
            placeholder="the template's own", help="Stands before the chat; empty leaves it to the template.",
        )  # fmt: skip
    return chat, system.strip()


def _decoding() -> Decoding:
    """How tokens are taken."""
    first, second = st.columns(3), st.columns(2)
    tokens = _number(first[0], "tokens", "Tokens", usual=_USUAL.new_tokens, least=1, most=MOST_TOKENS)
    warmth = links.restore("warmth", _USUAL.temperature, links.number_in(0.0, 10.0), key="try-warmth").draw(
        first[1].number_input, "Temperature", min_value=0.0, max_value=10.0, step=0.1, format="%.2f",
        help="0 takes the most probable token. Above, tokens are drawn, with the same seed for both sides: sides with "
        "the same distributions say the same.",
    )  # fmt: skip
    seed = _number(first[2], "draw", "Seed", usual=_USUAL.seed, least=0, most=10**9, disabled=not warmth)
    k = _number(second[0], "top-k", "Top k (0: all)", usual=_USUAL.top_k, least=0, most=10**6, disabled=not warmth)
    p = links.restore("top-p", _USUAL.top_p, links.number_in(LEAST_P, 1.0), key="try-top-p").draw(
        second[1].number_input, "Top p", min_value=LEAST_P, max_value=1.0, step=0.05, format="%.2f", disabled=not warmth
    )
    if not warmth:
        return Decoding(tokens)
    return Decoding(tokens, float(warmth), k, top_p=max(float(p), LEAST_P), seed=seed)


def _number(box: Any, name: str, label: str, *, usual: int, least: int, most: int, disabled: bool = False) -> int:
    linked = links.restore(name, usual, links.whole_in(least, most), key=f"try-{name}")
    return int(linked.draw(box.number_input, label, min_value=least, max_value=most, step=1, disabled=disabled))


def _talk(*, chat: bool) -> tuple[tuple[str, str], ...]:
    """The chat's earlier turns, from the session or the URL, which says them."""
    asked = links.asked("turns")
    if asked:
        turns = _read_turns(asked)
        if turns is None:
            links.refuse("turns", asked)
        else:
            state.of(Talk).turns = turns
    turns = state.of(Talk).turns if chat else ()
    links.keep("turns", turns, (), text=lambda one: json.dumps(one, ensure_ascii=False))
    return turns


def _read_turns(text: str) -> tuple[tuple[str, str], ...] | None:
    """Pairs of texts from JSON; None for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    sound = isinstance(found, list) and len(found) <= MOST_TURNS and all(
        isinstance(one, list) and len(one) == 2 and all(isinstance(part, str) for part in one) for one in found
    )  # fmt: skip
    return tuple((one[0], one[1]) for one in found) if sound else None


def _earlier(turns: Sequence[tuple[str, str]]) -> None:
    """The chat so far, and a way out of it."""
    for prompt, reply in turns:
        for name, text in (("user", prompt), ("assistant", reply)):
            with st.chat_message(name):
                st.text(text)
    if turns:
        st.button("Start over", key="try-over", icon=":material/restart_alt:", on_click=start_over)
