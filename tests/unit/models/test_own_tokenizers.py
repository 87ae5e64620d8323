"""Tokenizers of a model's own beside a class that transformers has for its family: read alike, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from explorer.models import load
from tests import tiny
from tests.unit.models.test_files import refused, say_tokenizer


def qwen(path: Path, **said: str) -> Path:
    """A Qwen 2 with a tokenizer of letters and what is said of it in tokenizer_config.json."""
    tiny.save_letters(path)
    shape = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = Qwen2Config(vocab_size=257, num_key_value_heads=2, **shape)  # type: ignore[arg-type]
    Qwen2ForCausalLM(config).save_pretrained(path)
    say_tokenizer(path, **said)
    return path


@pytest.mark.parametrize(
    "name", ["PreTrainedTokenizerFast", "LlamaTokenizerFast", "Qwen2Tokenizer", "TokenizersBackend"]
)
def test_a_qwen_with_a_tokenizer_of_its_own_reads_as_plain_transformers_does(tmp_path: Path, name: str) -> None:
    """transformers adds <|endoftext|>, which no text is read as."""
    path = qwen(tmp_path / "model", tokenizer_class=name, bos_token="<bos>", eos_token="<bos>")
    text = "It's 12 + 345 =\n\u00fc \U0001f9ff"
    found, expected = load(str(path)).tokenizer, AutoTokenizer.from_pretrained(path)
    assert found(text, add_special_tokens=False)["input_ids"] == expected(text, add_special_tokens=False)["input_ids"]
    assert found.bos_token_id == expected.bos_token_id == 0


def test_a_qwen_whose_tokenizer_configuration_names_no_class_is_refused(tmp_path: Path) -> None:
    path = qwen(tmp_path / "model", bos_token="<bos>", eos_token="<bos>")
    assert "has no usable tokenizer_config.json" in refused(path)


def test_a_tokenizer_whose_beginning_is_made_up_says_what_to_check(tmp_path: Path) -> None:
    path = tiny.save_letters(tmp_path / "model")
    say_tokenizer(path, tokenizer_class="GPT2Tokenizer")
    sentence = refused(path)
    assert "has a tokenizer_config.json that does not fit its tokenizer" in sentence
    assert "check tokenizer_class in tokenizer_config.json" in sentence
