"""What stands around the words of a task when a model reads them: a BOS token, a chat."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from explorer.core.errors import SettingsError

Bos = Literal["auto", "always", "never", "tokenizer"]
BOS_RULES: tuple[Bos, ...] = get_args(Bos)


@dataclass(frozen=True)
class Framing:
    """How prompts become what a model reads; the same for all examples of a task.

    Attributes:
        bos: whether a BOS token stands in front. `auto`: if the tokenizer has one and the task wants one (all do but
            CB, COPA and RTE); in a chat, if the template writes one. `always`: also where it would not; a tokenizer
            that has none is refused. `never`: not even where a chat template writes one. `tokenizer`: if the tokenizer
            puts one there by itself, as the lm-evaluation-harness reads; in a chat as with `auto`.
        chat: whether the prompt is a user's turn in the tokenizer's own chat template, and the answer the beginning of
            the assistant's, without blanks in front of it; shots are earlier turns of both.
        system: the chat's system message; None leaves it to the template.

    Raises:
        SettingsError: a system message without a chat.
    """

    bos: Bos = "auto"
    chat: bool = False
    system: str | None = None

    def __post_init__(self) -> None:
        if self.system is not None and not self.chat:
            raise SettingsError("a system message belongs to a chat: ask as a chat, too, or leave it out.")

    def as_dict(self) -> dict[str, Any]:
        """`bos`, `chat` and `system`, for a report."""
        return {"bos": self.bos, "chat": self.chat, "system": self.system}

    def of_task(self, *, bos: bool | None) -> Framing:
        """The same where a task that wants BOS or not has its say: outside of a chat, with `auto`."""
        if bos or self.chat or self.bos != "auto":
            return self
        return replace(self, bos="tokenizer" if bos is None else "never")


AS_USUAL = Framing()


def as_framing(bos: str = "auto", *, chat: bool = False, system: str | None = None) -> Framing:
    """A framing from options; raises SettingsError for an unknown rule, or as `Framing` does."""
    rules: dict[str, Bos] = {rule: rule for rule in BOS_RULES}
    if bos not in rules:
        raise SettingsError(f"bos {bos[:40]!r} is not known: choose one of {', '.join(BOS_RULES)}.")
    return Framing(rules[bos], chat, system)
