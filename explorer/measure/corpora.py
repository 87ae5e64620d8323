"""Texts to look for contexts in: sequences of tokens as the model reads them, of a task or of plain text.

What a causal model makes of a token depends on the tokens up to it alone. So two tokens that have the same tokens up to
and including them are one context, and only the first of them is `fresh`: the BOS token, or what all prompts of a task
begin with, is no more than one context each. What the first block's Q, K and V read depends on the token, and where
positions have embeddings on its position, alone: of those that agree in that the first is fresh.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from jaxtyping import Bool
from torch import Tensor

from explorer.core.errors import TaskError
from explorer.core.files import digest
from explorer.core.keys import Kind, MatrixKey
from explorer.measure.perplexity import tokens_of
from explorer.measure.tokens import check_rows, encode_for, front_tokens
from explorer.models import Model, View
from explorer.tasks import Task

TOKENS, WINDOW = 8192, 128


@dataclass(frozen=True)
class Corpus:
    """Token sequences, each read for itself from its first token on.

    Attributes:
        name: what it is of: a task, or a text.
        sequences: ids.
    """

    name: str
    sequences: tuple[tuple[int, ...], ...]

    @cached_property
    def digest(self) -> str:
        """Digest of the sequences; the name is no part of it."""
        return digest([repr(self.sequences).encode()])

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """For each sequence the number of tokens before it, and at the end that of all tokens."""
        return tuple(accumulate(map(len, self.sequences), initial=0))

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.starts[-1]

    def locate(self, place: int) -> tuple[int, int]:
        """The sequence of a token, and its position there."""
        sequence = bisect_right(self.starts, place) - 1
        return sequence, place - self.starts[sequence]

    def fresh(self, view: View, key: MatrixKey) -> Bool[Tensor, " token"]:
        """Which tokens are the first with all that decides what a matrix reads there."""
        return self._first_here(view) if reads_embeddings(key) else self._first_so_far(view)

    def _first_here(self, view: View) -> Bool[Tensor, " token"]:
        placed = view.config.positional_embedding_type not in ("rotary", "alibi")
        seen: set[tuple[int, int]] = set()
        found = []
        for sequence in self.sequences:
            for position, token in enumerate(sequence):
                one = (token, position if placed else 0)
                found.append(one not in seen)
                seen.add(one)
        return torch.tensor(found, dtype=torch.bool)

    def _first_so_far(self, view: View) -> Bool[Tensor, " token"]:
        seen: dict[tuple[int, int], int] = {}
        found = []
        for sequence in self.sequences:
            node = -1 - view.side(len(sequence))  # runs on the two sides of a rotary limit differ from the first token
            for token in sequence:
                step = (node, token)
                found.append(step not in seen)
                node = seen.setdefault(step, len(seen))
        return torch.tensor(found, dtype=torch.bool)


def reads_embeddings(key: MatrixKey) -> bool:
    """Whether a matrix reads tokens before anything has mixed them."""
    return key.layer == 0 and key.kind in (Kind.Q, Kind.K, Kind.V)


def text_corpus(model: Model, text: str, name: str = "text", tokens: int | None = TOKENS) -> Corpus:
    """The first tokens of a plain text (None: all) in windows of `WINDOW`, each with what stands in front of text.

    Raises:
        TaskError: a text that this model cannot take.
    """
    front = front_tokens(model)
    ids = tokens_of(model.tokenizer, text, tokens)
    check_rows(model, [*front, *ids], text)
    room = min(WINDOW, int(model.bridge.cfg.n_ctx)) - len(front)
    return Corpus(name, tuple((*front, *ids[start : start + room]) for start in range(0, len(ids), room)))


def task_corpus(
    model: Model, task: Task, split: str = "train", limit: int | None = None, tokens: int | None = None
) -> Corpus:
    """What the model reads when a split of a task is measured: prompts and answers, but for each answer's last token.

    Args:
        model: the model.
        task: the task.
        split: `train`, `validation` or `test`.
        limit: the first so many examples only.
        tokens: only as many examples as have so many tokens together, but at least one.

    Raises:
        TaskError: an empty split, or an example that this model cannot take.
    """
    read = [(*one.prompt, *one.answer[:-1]) for one in encode_for(model, task, task.split(split, limit))]
    longest = int(model.bridge.cfg.n_ctx)
    if too_long := next((one for one in read if len(one) > longest), None):
        raise TaskError(f"an example of {task.name} has {len(too_long)} tokens: this model reads 1 to {longest}.")
    return Corpus(task.name, tuple(_cut(read, tokens)))


def _cut(sequences: Sequence[tuple[int, ...]], tokens: int | None) -> Sequence[tuple[int, ...]]:
    if tokens is None:
        return sequences
    totals = list(accumulate(map(len, sequences)))
    return sequences[: max(1, bisect_right(totals, tokens))]
