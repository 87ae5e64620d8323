"""Tiny random models of every supported architecture, as Hugging Face folders, and a task in their few words."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from explorer.core.keys import Kind
from explorer.tasks import Example, Task

ARCHITECTURES = ("gpt2", "llama")
LAYERS, POSITIONS = 2, 16
WORDS = ("<bos>", "<unk>", *(f"w{i}" for i in range(20)))
IDS = {word: i for i, word in enumerate(WORDS)}
KINDS = {"gpt2": tuple(kind for kind in Kind if kind is not Kind.GATE), "llama": tuple(Kind)}
Q_HEADS = {"gpt2": 3, "llama": 4}
KV_HEADS = {"gpt2": 3, "llama": 2}
# What every stacked matrix must look like, as [d_in, d_out]. Llama's heads are wider than d_model / heads on purpose.
SHAPES = {
    "gpt2": {"Q": (12, 12), "K": (12, 12), "V": (12, 12), "O": (12, 12), "IN": (12, 20), "OUT": (20, 12)},
    "llama": {
        "Q": (16, 24),
        "K": (16, 12),
        "V": (16, 12),
        "O": (24, 16),
        "IN": (16, 20),
        "GATE": (16, 20),
        "OUT": (20, 16),
    },
}


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per word, split at white space."""
    words = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<bos>", unk_token="<unk>", model_max_length=POSITIONS
    )


def architecture(name: str, *, tied: bool | None = None) -> PreTrainedModel:
    """A model with random weights everywhere: biases and norms too, so that nothing is zero or one by accident."""
    torch.manual_seed(7)
    model: PreTrainedModel
    if name == "gpt2":
        shape = {"n_positions": POSITIONS, "n_embd": 12, "n_layer": LAYERS, "n_head": 3, "n_inner": 20}
        off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS), bos_token_id=0, eos_token_id=0, **shape, **off))
    else:
        shape = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": LAYERS, "head_dim": 6}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": POSITIONS}
        ends = {"vocab_size": len(WORDS), "bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": bool(tied)}
        model = LlamaForCausalLM(LlamaConfig(**shape, **heads, **ends))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            norm = "norm" in parameter_name or ".ln_" in parameter_name
            parameter.normal_(mean=1.0 if norm and parameter_name.endswith("weight") else 0.0, std=0.35)
    return model


def save(name: str, folder: Path, *, tied: bool | None = None) -> Path:
    """Write a tiny model and its tokenizer as a Hugging Face folder."""
    architecture(name, tied=tied).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_letters(folder: Path, name: str = "gpt2") -> Path:
    """A tiny GPT-2 or Llama that reads any text, byte by byte, as a Hugging Face folder; its answers are chance.

    Llama's four query heads share two key/value heads.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    reader = Tokenizer(models.BPE({letter: i for i, letter in enumerate(["<bos>", *letters])}, merges=[]))
    reader.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    reader.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=reader, bos_token="<bos>").save_pretrained(folder)
    torch.manual_seed(7)
    shape = {"n_positions": 4 * POSITIONS, "n_embd": 12, "n_layer": LAYERS, "n_head": 3, "n_inner": 20}
    ends = {"vocab_size": 1 + len(letters), "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.35}
    if name == "gpt2":
        GPT2LMHeadModel(GPT2Config(**shape, **ends)).save_pretrained(folder)
        return folder
    shape = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": LAYERS, "head_dim": 10}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 16 * POSITIONS}
    LlamaForCausalLM(LlamaConfig(**shape, **heads, **ends)).save_pretrained(folder)
    return folder


def task() -> Task:
    """Prompts and answers of several lengths, so that batches hold padding and answers of one to three tokens."""
    rows = [
        Example("w1 w2 w3", " w4"),
        Example("w5 w6", " w7 w8"),
        Example("w9 w10 w11 w12 w13", " w14 w15 w16"),
        Example("w17", " w18"),
        Example("w2 w2 w19 w0", " w3 w1"),
        Example("w8 w3", " w6"),
    ]
    return Task("tiny", "words", train=tuple(rows), validation=tuple(rows[:2]), test=tuple(rows[::-1]), seed=0)
