"""Random Llama models of any size, and a task in the few words of their tokenizer."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, PhiConfig, PhiForCausalLM

from explorer.tasks import Example, Task
from tests import tiny

WORDS_IN_PROMPT = 15
HEAD = 64
VOCABULARY = 32_000


@dataclass(frozen=True)
class Size:
    """Width and depth of a random model."""

    width: int
    layers: int

    @property
    def inner(self) -> int:
        """Width of the MLP, 2.75 times that of the model."""
        return self.width * 11 // 4


def save_random_llama(size: Size, folder: Path) -> Path:
    """Write a random Llama with grouped queries (four to a key) and float32 weights, and its tokenizer."""
    torch.manual_seed(0)
    heads = size.width // HEAD
    config = LlamaConfig(
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 4),
        vocab_size=VOCABULARY,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def save_random_phi2(folder: Path, dtype: torch.dtype) -> Path:
    """Write a model of Phi-2's configuration, 2.78 billion random weights, and a tokenizer of a few words."""
    config = PhiConfig(
        vocab_size=51_200,
        hidden_size=2560,
        intermediate_size=10_240,
        num_hidden_layers=32,
        num_attention_heads=32,
        partial_rotary_factor=0.4,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        dtype=str(dtype).removeprefix("torch."),
        architectures=["PhiForCausalLM"],
    )
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in PhiForCausalLM(config).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, size in shapes.items():
        drawn = 0.02 * torch.randn(size, generator=generator)
        weights[name] = (drawn + 1.0 if name.endswith("layernorm.weight") else drawn).to(dtype)
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tiny.tokenizer().save_pretrained(folder)
    return folder


def words_task(count: int = 512, seed: int = 0) -> Task:
    """Prompts of one length in random words, with an answer of one word: as many tokens as words."""
    rng = random.Random(seed)

    def example() -> Example:
        words = [f"w{rng.randrange(20)}" for _ in range(WORDS_IN_PROMPT + 1)]
        return Example(" ".join(words[:-1]), f" {words[-1]}")

    rows = tuple(example() for _ in range(count))
    return Task("words", "random words", train=rows, validation=rows[:2], test=rows[:2], seed=seed)
