"""Prompts put into a tokenizer's own chat template, as text.

The prompt is the user's turn, and the assistant's has just begun: transformers' `apply_chat_template` with
`add_generation_prompt`, which renders templates in a sandbox. An answer is what the template would write there for an
assistant that begins with it: without the blanks that set it apart from a prompt in plain text, unless the template
writes some.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from explorer.core.errors import TaskError, in_a_line
from explorer.tasks import Example, Framing

_PROBE, _REPLY = "a", "b"  # contents of a user's and of an assistant's message; neither begins with the other
_SHOWN = 160  # letters of what a template says that are repeated


def rendered(tokenizer: Any, examples: Sequence[Example], framing: Framing) -> list[str]:
    """The text of each example's prompt in the chat, up to where its answer begins.

    Raises:
        TaskError: no chat template, one that cannot be used, or one that leaves out what it is given.
    """
    chats = [_messages(one, framing) for one in examples]
    for chat in {len(chat): chat for chat in chats}.values():
        _check_complete(tokenizer, [message["role"] for message in chat], framing)
    turn = _turn(tokenizer, framing)
    return [text + turn for text in _render(tokenizer, chats, framing)]


def said(tokenizer: Any, answers: Sequence[str], framing: Framing) -> list[str]:
    """The answers as an assistant's turn begins with them."""
    front = _front(tokenizer, framing)
    return [front + answer.lstrip() for answer in answers]


def _check_complete(tokenizer: Any, roles: Sequence[str], framing: Framing) -> None:
    """Raise TaskError for a template that leaves out, or changes, messages of a chat with these roles: marked ones."""
    chat = [{"role": role, "content": f"{_PROBE}{place}{_PROBE}"} for place, role in enumerate(roles)]
    (text,) = _render(tokenizer, [chat], framing)
    for place, message in enumerate(chat):
        if message["content"] not in text:
            other = [*chat[:place], {**message, "content": f"{_REPLY}{place}{_REPLY}"}, *chat[place + 1 :]]
            kept = _render(tokenizer, [other], framing) != [text]
            raise TaskError(
                f"the chat template of this tokenizer {'changes' if kept else 'leaves out'} the {message['role']}'s "
                f"message{', so that the model would read another text' if kept else ''}: ask without it, or without a "
                "chat."
            )


def _front(tokenizer: Any, framing: Framing) -> str:
    """The blanks that the template puts between the beginning of an assistant's turn and what it says."""
    asked = [{"role": "user", "content": _PROBE}]
    try:
        (begun,) = _render(tokenizer, [asked], framing)
        (whole,) = _render(tokenizer, [[*asked, {"role": "assistant", "content": _REPLY}]], framing, begin=False)
    except TaskError:
        return ""  # a template that takes no such turns; that of the examples is another question
    rest = whole.removeprefix(begun + _turn(tokenizer, framing))
    front = rest[: len(rest) - len(rest.lstrip(" "))]
    return front if rest != whole and rest.startswith(front + _REPLY) else ""


def _turn(tokenizer: Any, framing: Framing) -> str:
    """How the assistant's turn begins, for a template that says so in chats but does nothing when asked to begin one.

    Without the blanks at its end, which belong to what is said.
    """
    asked, marked = [{"role": "user", "content": _PROBE}], f"{_REPLY}0{_REPLY}"
    try:
        (begun,) = _render(tokenizer, [asked], framing)
        (bare,) = _render(tokenizer, [asked], framing, begin=False)
        (whole,) = _render(tokenizer, [[*asked, {"role": "assistant", "content": marked}]], framing, begin=False)
    except TaskError:
        return ""
    turn, found, _ = whole.removeprefix(begun).partition(marked)
    if begun != bare or not whole.startswith(begun) or not found:
        return ""
    return turn.rstrip(" ") if turn.strip() else ""


def _messages(example: Example, framing: Framing) -> list[dict[str, str]]:
    system = [] if framing.system is None else [("system", framing.system)]
    turns = [turn for prompt, answer in example.shown for turn in (("user", prompt), ("assistant", answer.lstrip()))]
    return [{"role": role, "content": text} for role, text in (*system, *turns, ("user", example.prompt))]


def _render(
    tokenizer: Any, chats: Sequence[Sequence[dict[str, str]]], framing: Framing, *, begin: bool = True
) -> list[str]:
    if not getattr(tokenizer, "chat_template", None):
        raise TaskError("this model's tokenizer has no chat template: ask without a chat, or take an instruct model.")
    bare = {"bos_token": ""} if framing.bos == "never" else {}
    try:
        found: list[str] = tokenizer.apply_chat_template(
            [list(chat) for chat in chats], tokenize=False, add_generation_prompt=begin, **bare
        )
    except Exception as error:  # a template may fail in any way, and refuses on purpose with jinja's own errors
        raise TaskError(
            f"the chat template of this tokenizer cannot be used like this ({in_a_line(error, _SHOWN)})."
        ) from None
    return found
