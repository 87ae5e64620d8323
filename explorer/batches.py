"""Examples to tokens: one tokenisation path, padded on the right, answer positions known.

Padding on the right needs no attention mask in a causal model: no real token can see a padding token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from explorer.errors import TaskError
from explorer.models import View
from explorer.tasks import Example, Task

BATCH_SIZE, WIDE_BATCH_SIZE = 64, 16  # wide models gain nothing from more, and can be stopped sooner with less
WIDE = 512


@dataclass(frozen=True)
class Encoded:
    """One example as token ids: what the model reads and which tokens it should say."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Batch:
    """Examples run together.

    Attributes:
        tokens: prompt and answer without the answer's last token, padded on the right with 0.
        real: which tokens are not padding.
        keep: positions at which the model predicts an answer token of any example.
        rows, columns, targets: for each answer token its example in the batch, its index in `keep`, and its id.
    """

    tokens: Int[Tensor, "batch position"]
    real: Bool[Tensor, "batch position"]
    keep: Int[Tensor, " kept"]
    rows: Int[Tensor, " answer_token"]
    columns: Int[Tensor, " answer_token"]
    targets: Int[Tensor, " answer_token"]

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


def encode(tokenizer: Any, example: Example, *, bos: bool) -> Encoded:
    """Tokenise a prompt and its answer together, with one BOS in front if asked for and known to the tokenizer.

    Raises:
        TaskError: the tokenizer merges the end of the prompt with the start of the answer.
    """
    prompt = _ids(tokenizer, example.prompt)
    whole = _ids(tokenizer, example.prompt + example.answer)
    if whole[: len(prompt)] != prompt or len(whole) == len(prompt):
        raise TaskError(
            f"the tokenizer cannot separate answer {example.answer[:40]!r} from prompt {example.prompt[-40:]!r}: "
            "move the space from the end of the prompt to the start of the answer, or reword it."
        )
    start = encode_prompt(tokenizer, example.prompt, bos=bos)
    return Encoded(tuple(start), tuple(whole[len(prompt) :]))


def encode_prompt(tokenizer: Any, prompt: str, *, bos: bool) -> list[int]:
    """Token ids of a prompt, with one BOS in front if asked for, known, and not already written in the prompt."""
    ids = _ids(tokenizer, prompt)
    first = tokenizer.bos_token_id
    return [first, *ids] if bos and first is not None and ids[:1] != [first] else ids


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Each token as the tokenizer cut it, decoded on its own, so that spaces show."""
    return [tokenizer.decode([token]) for token in ids]


def batches(view: View, task: Task, examples: Sequence[Example], batch_size: int | None = None) -> tuple[Batch, ...]:
    """Cut some examples of a task, in their order, into batches for this view (by default of a size that suits it).

    Raises:
        TaskError: no examples, one that is longer than the model reads, or an inseparable answer.
    """
    if not examples:
        raise TaskError("there are no examples to run: choose a split that has some.")
    longest = int(view.config.n_ctx)
    encoded = [encode(view.model.tokenizer, example, bos=task.bos) for example in examples]
    for example, one in zip(examples, encoded, strict=True):
        length = len(one.prompt) + len(one.answer) - 1
        if not 0 < length <= longest:
            raise TaskError(
                f"the example {example.prompt[:40]!r} has {length} tokens: this model reads 1 to {longest}; shorten it."
            )
    size = batch_size or (WIDE_BATCH_SIZE if view.config.d_model >= WIDE else BATCH_SIZE)
    return tuple(_batch(encoded[i : i + size]).to(view.device) for i in range(0, len(encoded), size))


def answer_logits(view: View, batch: Batch) -> Float[Tensor, "answer_token vocabulary"]:
    """The view's logits for every answer token of the batch; the unembedding runs on answer positions only."""
    return view.logits(batch.tokens, batch.keep)[batch.rows, batch.columns]


def _batch(encoded: Sequence[Encoded]) -> Batch:
    sequences = [(*one.prompt, *one.answer[:-1]) for one in encoded]
    tokens = torch.zeros(len(sequences), max(map(len, sequences)), dtype=torch.long)
    real = torch.zeros_like(tokens, dtype=torch.bool)
    rows, positions, targets = [], [], []
    for row, (sequence, one) in enumerate(zip(sequences, encoded, strict=True)):
        tokens[row, : len(sequence)] = torch.tensor(sequence)
        real[row, : len(sequence)] = True
        for offset, target in enumerate(one.answer):
            rows.append(row)
            positions.append(len(one.prompt) - 1 + offset)
            targets.append(target)
    keep = sorted(set(positions))
    columns = [keep.index(position) for position in positions]
    return Batch(tokens, real, *map(torch.tensor, (keep, rows, columns, targets)))
