"""One check of a configuration against what is stored, for loading and for spectra; refusals name the field."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from explorer.core.errors import ModelError
from explorer.core.keys import Kind
from explorer.models import load, locate
from explorer.spectra.checkpoint import Checkpoint
from tests.families import FAMILIES
from tests.unit.models.test_files import OUT, TOKENS, add, configure, logits, refused, weights

LORA = "model.layers.0.self_attn.q_proj.lora_A.weight"
STORED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "fewer layers by config": (
        "llama",
        lambda path: configure(path, num_hidden_layers=1),
        "stores 9 weights for which",
    ),
    "LoRA": ("llama", lambda path: add(path, {LORA: torch.ones(2, 16)}), f"such as {LORA}"),
    "no head": ("gpt2", lambda path: configure(path, tie_word_embeddings=False), r"lacks 1 .* such as lm_head\.weight"),
    "another family": ("llama", lambda path: configure(path, model_type="olmo2"), "lacks 6 of its weights, such as"),
    "fewer positions": (
        "gpt2",
        lambda path: configure(path, n_positions=3),
        r"wpe\.weight of shape \[16, 16\], but config\.json says \[3, 16\]",
    ),
    "biases without their switch": (
        "falcon",
        lambda path: add(path, {"transformer.h.1.mlp.dense_4h_to_h.bias": torch.ones(16)}),
        r"has no place, such as transformer\.h\.1\.mlp\.dense_4h_to_h\.bias",
    ),
    "8 bits": ("llama", lambda path: add(path, {OUT: torch.ones(16, 20, dtype=torch.int8)}), f"stores {OUT} as I8"),
}


def both_refuse(path: Path) -> str:
    """The sentence with which loading is refused, and reading spectra."""
    sentence = refused(path)
    with pytest.raises(ModelError) as caught:
        Checkpoint(locate(str(path)))
    assert str(caught.value) == sentence
    return sentence


@pytest.mark.parametrize("name", STORED)
def test_loading_and_spectra_refuse_the_same_in_the_same_words(name: str, tmp_path: Path) -> None:
    family, spoil, words = STORED[name]
    path = FAMILIES[family].save(tmp_path / "model")
    spoil(path)
    assert re.search(words, both_refuse(path))


def test_a_spectrum_says_nothing_of_matrices_that_it_has_not_read(tmp_path: Path) -> None:
    path = FAMILIES["llama"].save(tmp_path / "model")
    whole = Checkpoint(locate(str(path)))
    expected = {key: whole.spectrum(key).s for key in whole.matrices((Kind.Q,))}
    stored = weights(path)
    stored[OUT][0, 0] = float("nan")
    add(path, stored)
    opened = Checkpoint(locate(str(path)))
    assert all(torch.equal(opened.spectrum(key).s, s) for key, s in expected.items())
    assert len(expected) == 2
    with pytest.raises(ModelError, match=r"L1\.OUT of .* holds NaN or infinite weights"):
        opened.spectrum(opened.matrices((Kind.OUT,), (1,))[0])
    assert f"NaN or infinite weights in {OUT}" in refused(path)


LONG = {"rope_type": "longrope", "rope_theta": 10.0, "short_factor": [1.0] * 3, "long_factor": [2.0] * 3}
LINEAR = {"rope_type": "linear", "rope_theta": 10.0}
FIELDS: list[tuple[str, dict[str, object], str, str]] = [
    ("gpt2", {"activation_function": "nosuch"}, "activation_function is 'nosuch'", "such as gelu, gelu_new"),
    ("llama", {"rope_parameters": {"rope_type": "nosuch"}}, "rope_parameters.rope_type is 'nosuch'", "one of default,"),
    ("llama", {"rope_scaling": {"type": "su", "short_factor": [1.0] * 3}}, "rope_scaling.type is 'su'", "longrope"),
    ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0", "a number other than 0"),
    (
        "llama",
        {"rope_parameters": {**LONG, "original_max_position_embeddings": 0}},
        "rope_parameters.original_max_position_embeddings is 0",
        "a number above 0",
    ),
    (
        "llama",
        {"rope_parameters": {**LONG, "original_max_position_embeddings": "8"}},
        "rope_parameters.original_max_position_embeddings is '8'",
        "a number above 0",
    ),
    ("gpt-j", {"rotary_dim": 3}, "rotary_dim is 3", "an even number of at most 4, the width of a head"),
    ("gpt-j", {"rotary_dim": 64}, "rotary_dim is 64", "an even number of at most 4"),
    ("llama", {"text_config": {"a": 1}}, "text_config is {'a': 1}", "that it is left out"),
    ("llama", {"rope_parameters": {**LINEAR, "factor": 0}}, "rope_parameters.factor is 0", "a number above 0"),
    (
        "llama",
        {"rope_parameters": {"rope_type": "default", "rope_theta": -5}},
        "rope_parameters.rope_theta is -5",
        "above",
    ),
    ("llama", {"pad_token_id": 9999}, "pad_token_id is 9999", "a token of the vocabulary"),
    ("llama", {"pad_token_id": "x"}, "pad_token_id is 'x'", "doesn't match any type"),
    ("llama", {"head_dim": 5}, "head_dim is 5", "an even number"),
    ("llama", {"rope_parameters": LINEAR}, "rope_parameters is {'rope_type': 'linear'", "Missing required keys"),
]


@pytest.mark.parametrize(("family", "fields", "named", "expected"), FIELDS, ids=[named for _, _, named, _ in FIELDS])
def test_a_field_that_cannot_be_used_is_named_with_what_is_expected(
    tmp_path: Path, family: str, fields: dict[str, object], named: str, expected: str
) -> None:
    path = FAMILIES[family].save(tmp_path / "model")
    configure(path, **fields)
    sentence = both_refuse(path)
    assert f"has a config.json that transformers cannot use: {named}" in sentence
    assert expected in sentence


ACCEPTED: list[tuple[str, dict[str, object]]] = [
    ("llama", {"return_dict": False}),
    ("gpt2", {"return_dict": False}),
    ("llama", {"architectures": ["GPT2LMHeadModel"]}),
    ("gpt2", {"architectures": ["LlamaForCausalLM"]}),
    ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 10.0, "factor": 0}}),
    ("llama", {"rope_parameters": {**LINEAR, "factor": -2.0}}),
]


@pytest.mark.parametrize(("family", "fields"), ACCEPTED, ids=[str(fields)[:60] for _, fields in ACCEPTED])
def test_a_field_with_which_transformers_computes_is_no_reason(
    tmp_path: Path, family: str, fields: dict[str, object]
) -> None:
    path = FAMILIES[family].save(tmp_path / "model")
    configure(path, **fields)
    plain = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    plain.config.return_dict = True
    found = load(str(path), dtype="float32", device="cpu").view().logits(TOKENS)
    torch.testing.assert_close(found, logits(plain), rtol=0, atol=1e-5)
