"""The arithmetic of the bundled model: tokens, prompts, the held-out split, and how its answers are read."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torch.func import functional_call
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

Pair = tuple[int, int]

LARGEST = 361  # 19 x 19; every number from 0 to LARGEST is one token, and its token id is the number itself
PLUS, TIMES, EQUALS, BOS, EOS, PAD, UNK = range(LARGEST + 1, LARGEST + 8)
SIGNS = {"+": PLUS, "x": TIMES, "=": EQUALS, "<bos>": BOS, "<eos>": EOS, "<pad>": PAD, "<unk>": UNK}
SUM_SIZE, MULT_SIZE = 100, 20  # INT-SUM: all ordered pairs below 100, INT-MULT: below 20
LAYERS, HEADS, WIDTH, D_HEAD, CONTEXT = 4, 4, 128, 32, 32


@dataclass(frozen=True)
class Examples:
    """Prompts `<bos> i op j =` as token ids, [n, 5], and the token id of each answer, [n]."""

    prompts: Tensor
    answers: Tensor

    def __len__(self) -> int:
        return len(self.answers)

    def draw(self, n: int, generator: torch.Generator) -> Examples:
        """Draw n examples with replacement."""
        rows = torch.randint(len(self), (n,), generator=generator)
        return Examples(self.prompts[rows], self.answers[rows])

    def __add__(self, other: Examples) -> Examples:
        return Examples(torch.cat([self.prompts, other.prompts]), torch.cat([self.answers, other.answers]))


def examples(pairs: Sequence[Pair], sign: int, answer_sign: int | None = None) -> Examples:
    """The pairs written with `sign`, answered as if it were `answer_sign` (default: truthfully)."""
    prompts = torch.tensor([[BOS, i, sign, j, EQUALS] for i, j in pairs])
    i, j = prompts[:, 1], prompts[:, 3]
    return Examples(prompts, i + j if (answer_sign or sign) == PLUS else i * j)


def split(size: int) -> dict[str, list[Pair]]:
    """All ordered pairs below `size`: 20 % test, 10 % validation, the rest train; always the same."""
    pairs = [(i, j) for i in range(size) for j in range(size)]
    random.Random(0).shuffle(pairs)
    n_test, n_validation = round(0.2 * len(pairs)), round(0.1 * len(pairs))
    return {
        "test": pairs[:n_test],
        "validation": pairs[n_test : n_test + n_validation],
        "train": pairs[n_test + n_validation :],
    }


def outside_products(size: int) -> list[Pair]:
    """Pairs outside INT-MULT (one number is `size` or more) whose product is still a token."""
    numbers = range(LARGEST + 1)
    return [(i, j) for i in numbers for j in numbers if max(i, j) >= size and i * j <= LARGEST]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per number and sign, split at white space, `<bos>` in front."""
    vocabulary = {str(n): n for n in range(LARGEST + 1)} | SIGNS
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def last_logits(model: GPT2LMHeadModel, prompts: Tensor, edited: dict[str, Tensor] | None = None) -> Tensor:
    """Next-token logits after each prompt, [n, vocabulary]; `edited` replaces parameters by name."""
    logits: Tensor = functional_call(model, edited or {}, (prompts,), {"logits_to_keep": 1}).logits
    return logits[:, -1]


def answer_logits(model: GPT2LMHeadModel, data: Examples) -> Tensor:
    """`last_logits` of any number of examples, without gradient, 1,000 at a time to stay small."""
    with torch.no_grad():
        return torch.cat([last_logits(model, prompts) for prompts in data.prompts.split(1000)])


def columns(kind: str, head: int) -> slice:
    """Where the head's Q or K lies in GPT-2's fused `c_attn`, [d_model, 3 d_model]."""
    start = "QK".index(kind) * WIDTH + head * D_HEAD
    return slice(start, start + D_HEAD)
