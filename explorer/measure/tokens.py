"""Text to token ids, and back: the one path, for tasks, prompts and plain text.

A prompt and its answer are tokenised together, without the tokenizer's own special tokens; what stands in front (BOS, a
chat) is said by the task's `Framing`, and a BOS never comes twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from explorer.core.errors import TaskError
from explorer.measure.chat import rendered, said
from explorer.models import Model
from explorer.tasks import AS_USUAL, Example, Framing, Task

SAMPLED = 1000  # examples whose prompts are looked at for unknown words: splits are shuffled
MAX_UNKNOWN = 0.05  # share of a text's tokens beyond which its words are said to be unknown


_DATED = "The chat template writes today's date: figures change from day to day."
_RARE = ["\U0001f9ff", "\U00010348"]  # letters that only a tokenizer of bytes knows


@dataclass(frozen=True)
class Encoded:
    """One example as token ids: what the model reads and which tokens it should say."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def length(self) -> int:
        """Number of tokens that are run: the answer's last one is not read."""
        return len(self.prompt) + len(self.answer) - 1


def encode(tokenizer: Any, example: Example, framing: Framing = AS_USUAL) -> Encoded:
    """Tokenise a prompt and its answer together, in a framing.

    Raises:
        TaskError: the tokenizer merges the end of the prompt with the start of the answer, does not know the answer,
            makes no token of the prompt where no BOS stands in front, or has no BOS token or chat template where one is
            asked for.
    """
    return encode_all(tokenizer, [example], framing)[0]


def encode_all(tokenizer: Any, examples: Sequence[Example], framing: Framing = AS_USUAL) -> list[Encoded]:
    """`encode` for many at once: a call of the tokenizer for each costs as much as running a small model on them."""
    fronts, answers = _texts(tokenizer, examples, framing)
    if _drops(tokenizer):
        for answer in dict.fromkeys(answers):
            if unknown_share(tokenizer, [answer]):
                raise TaskError(_unknown_answer(answer))
    unknown = unknown_id(tokenizer)
    texts = dict.fromkeys(text for one, answer in zip(fronts, answers, strict=True) for text in (one, one + answer))
    ids = dict(zip(texts, _ids(tokenizer, list(texts)), strict=True))
    found = []
    for example, front, answer in zip(examples, fronts, answers, strict=True):
        one = _separated(example, ids[front], ids[front + answer], unknown=unknown)
        if _unknown_count(tokenizer, unknown, one.answer, text=answer):
            raise TaskError(_unknown_answer(example.answer))
        found.append(replace(one, prompt=tuple(_begun(tokenizer, ids[front], framing))))
        if not found[-1].prompt:
            raise TaskError(
                f"the prompt {example.prompt[:40]!r} is no token for this tokenizer, and no BOS stands in front: "
                "nothing predicts the first token of its answer; ask with BOS, or leave the example out."
            )
    return found


def encode_for(model: Model, task: Task, examples: Sequence[Example]) -> list[Encoded]:
    """Examples of a task as this model reads them.

    Raises:
        TaskError: as `encode` does, and for a token that the model has no embedding of.
    """
    found = encode_all(model.tokenizer, examples, task.around)
    for example, one in zip(examples, found, strict=True):
        check_rows(model, (*one.prompt, *one.answer), example.prompt + example.answer)
    return found


def encode_prompt(tokenizer: Any, prompt: str | Example, framing: Framing = AS_USUAL) -> list[int]:
    """Token ids of a prompt, in a framing; of an example, its prompt behind what is shown before it.

    Raises:
        TaskError: no BOS token or chat template where one is asked for.
    """
    example = Example(prompt, "") if isinstance(prompt, str) else prompt
    (front,), _ = _texts(tokenizer, [example], framing)
    return _begun(tokenizer, _ids(tokenizer, [front])[0], framing)


def read_prompt_ids(model: Model, prompt: str | Example, framing: Framing = AS_USUAL) -> list[int]:
    """`encode_prompt` for a model; raises TaskError as it does, and for a token that the model has no embedding of."""
    ids = encode_prompt(model.tokenizer, prompt, framing)
    check_rows(model, ids, prompt if isinstance(prompt, str) else prompt.prompt)
    return ids


def check_rows(model: Model, ids: Sequence[int], text: str) -> None:
    """Raise TaskError, with the token and its text, for an id beyond the model's embedding."""
    rows = model.rows
    beyond = next((token for token in ids if token >= rows), None)
    if beyond is None:
        return
    name = str(model.tokenizer.convert_ids_to_tokens(beyond))
    what = "leave out BOS" if beyond == model.tokenizer.bos_token_id else "take it out of the text"
    raise TaskError(
        f"token {name!r} ({beyond}) of {text[-60:]!r} is beyond the {rows:,} rows of the model's embedding: {what}, or "
        "save the model with an embedding as large as its tokenizer."
    )


def front_tokens(model: Model) -> list[int]:
    """What stands in front of plain text: the BOS token, if the tokenizer has one and the model an embedding of it."""
    first = model.tokenizer.bos_token_id
    return [] if first is None or first >= model.rows else [int(first)]


def check_different(example: Example, encoded: Sequence[tuple[str, Encoded]]) -> None:
    """Raise TaskError if two alternatives of an example are the same tokens: neither could be chosen."""
    seen: dict[tuple[int, ...], str] = {}
    for text, one in encoded:
        other = seen.setdefault(one.answer, text)
        if other != text:
            raise TaskError(
                f"{other[:40]!r} and {text[:40]!r}, answers to {example.prompt[-40:]!r}, are the same tokens for this "
                "tokenizer: leave one out, or reword it."
            )


def unknown_share(tokenizer: Any, texts: Sequence[str]) -> float:
    """Share of some texts that a tokenizer does not know: of tokens, or of letters that it drops without a token."""
    if not _drops(tokenizer):
        unknown, ids = unknown_id(tokenizer), _ids(tokenizer, list(texts))
        found = (_unknown_count(tokenizer, unknown, one, text=text) for one, text in zip(ids, texts, strict=True))
        return sum(found) / max(1, sum(map(len, ids)))
    words = Counter(word for text in texts for word in text.split())
    lost = dict(zip(words, _lost(tokenizer, list(words)), strict=True))
    letters = sum(len(word) * count for word, count in words.items())
    return sum(lost[word] * count for word, count in words.items()) / letters if letters else 0.0


def unknown_id(tokenizer: Any) -> int | None:
    """The token for what a tokenizer does not know, whether it names it or only uses it; None if there is none."""
    if tokenizer.unk_token_id is not None:
        return int(tokenizer.unk_token_id)
    first, second = (ids[-1:] for ids in _ids(tokenizer, _RARE))
    return first[0] if first and first == second else None


def _unknown_count(tokenizer: Any, unknown: int | None, ids: Sequence[int], text: str) -> int:
    """How many tokens stand for what is not known in a text; not those that are written out, as GPT-2's EOS may be."""
    found = 0 if unknown is None else ids.count(unknown)
    if not found or tokenizer.unk_token is None:
        return found
    return max(0, found - text.count(tokenizer.unk_token))


def _drops(tokenizer: Any) -> bool:
    """Whether it passes over what it does not know, as one does that reads no bytes and uses no unknown token."""
    return not any(_ids(tokenizer, _RARE))


def _lost(tokenizer: Any, words: list[str]) -> list[int]:
    """How many letters of each word are in none of its tokens."""
    pieces = (tokenizer.convert_ids_to_tokens(ids) for ids in _ids(tokenizer, words))
    return [max(0, len(word) - sum(map(len, some))) for word, some in zip(words, pieces, strict=True)]


def unknown_sentence(share: float, what: str) -> str:
    """What to say of a text with more than MAX_UNKNOWN of unknown words."""
    return f"the model's tokenizer does not know {100 * share:.0f} % of {what}"


def task_notice(tokenizer: Any, task: Task, examples: Sequence[Example]) -> str | None:
    """What a person should know of a task: that its words are unknown, that its chat changes by day; else None."""
    texts = [text for one in examples[:SAMPLED] for text in (*(prompt for prompt, _ in one.shown), one.prompt)]
    said = words_notice(tokenizer, list(dict.fromkeys(texts)), f"the prompts of {task.name}")
    dated = task.framing.chat and "strftime_now" in str(getattr(tokenizer, "chat_template", None))
    sentences = [*([said] if said else []), *([_DATED] if dated else [])]
    return " ".join(sentences) or None


def words_notice(tokenizer: Any, texts: Sequence[str], what: str) -> str | None:
    """A sentence for a person if the tokenizer does not know the words of some texts; None if it does."""
    share = unknown_share(tokenizer, texts)
    return None if share <= MAX_UNKNOWN else f"{unknown_sentence(share, what)}: its figures say little about the model."


def known_rows(tokenizer: Any, rows: int) -> Bool[Tensor, " row"]:
    """Which rows of a vocabulary are tokens: an embedding may have more rows than the tokenizer has tokens."""
    known = torch.zeros(rows, dtype=torch.bool)
    known[[token for token in tokenizer.get_vocab().values() if token < rows]] = True
    return known


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Each token as the tokenizer cut it, decoded on its own, so that spaces show; a row that is none by its number."""
    return [_row(token) if _unnamed(tokenizer, token) else tokenizer.decode([token]) for token in ids]


def decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    """Tokens that follow each other as text; rows of the vocabulary that are no tokens by their numbers."""
    pieces = groupby(ids, lambda token: _unnamed(tokenizer, token))
    return "".join("".join(map(_row, part)) if unnamed else tokenizer.decode(list(part)) for unnamed, part in pieces)


def _unnamed(tokenizer: Any, token: int) -> bool:
    return tokenizer.convert_ids_to_tokens(token) is None


def _row(token: int) -> str:
    return f"[row {token}]"


def _texts(tokenizer: Any, examples: Sequence[Example], framing: Framing) -> tuple[list[str], list[str]]:
    """What stands before each answer, and the answers."""
    if not framing.chat:
        return [one.prompt for one in examples], [one.answer for one in examples]
    bare = [replace(one, answer="", choices=(), distractor=None) for one in examples]
    different = list(dict.fromkeys(bare))
    found = dict(zip(different, rendered(tokenizer, different, framing), strict=True)) if different else {}
    return [found[one] for one in bare], said(tokenizer, [one.answer for one in examples], framing)


def _separated(example: Example, prompt: list[int], whole: list[int], unknown: int | None) -> Encoded:
    """Prompt and answer, of which `whole` are the tokens together."""
    if whole[: len(prompt)] != prompt or len(whole) == len(prompt):
        pairs = zip(prompt, whole, strict=False)
        parted = next((place for place, (one, other) in enumerate(pairs) if one != other), len(whole) - 1)
        if unknown is not None and whole[parted : parted + 1] == [unknown]:
            space = "" if example.answer[:1].isspace() else "begin the answer with a space, or "
            raise TaskError(
                f"prompt {example.prompt[-40:]!r} and answer {example.answer[:40]!r} are together one word that the "
                f"tokenizer does not know: {space}reword them."
            )
        raise TaskError(
            f"the tokenizer cannot separate answer {example.answer[:40]!r} from prompt {example.prompt[-40:]!r}: "
            "move the space from the end of the prompt to the start of the answer, or reword it."
        )
    return Encoded(tuple(prompt), tuple(whole[len(prompt) :]))


def _unknown_answer(answer: str) -> str:
    return f"the tokenizer does not know all of the answer {answer[:40]!r}; reword it."


def _begun(tokenizer: Any, ids: list[int], framing: Framing) -> list[int]:
    first = tokenizer.bos_token_id
    if framing.bos == "always" and first is None:
        raise TaskError("this model's tokenizer has no BOS token to put in front: choose auto or never for it.")
    if framing.bos == "never" and framing.chat and first is not None and ids[:1] == [first]:
        return ids[1:]  # a chat template that writes it in letters
    wanted = framing.bos == "always" or (framing.bos == "auto" and not framing.chat)
    if framing.bos == "tokenizer" and not framing.chat:
        wanted = puts_bos(tokenizer)
    return [first, *ids] if wanted and first is not None and ids[:1] != [first] else ids


def puts_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts a BOS token in front of a text by itself."""
    first = tokenizer.bos_token_id
    return first is not None and tokenizer("", add_special_tokens=True, verbose=False)["input_ids"][:1] == [first]


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    try:
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    except Exception as error:  # a word-level tokenizer without an unknown token fails with a bare Exception
        what = " ".join(str(error).split())[:80]
        raise TaskError(f"the tokenizer cannot read these texts ({what}): give them in its own words.") from None
    return ids
