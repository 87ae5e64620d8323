"""LoRA adapters: what PEFT makes of the same base and adapter, and refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import explorer as ep
from explorer.core.config import settings
from explorer.core.errors import ModelError
from explorer.models import Model, full_name
from explorer.models.adapters import merged_folders, remove_unused
from tests import tiny
from tests.commands import refused, report

TARGETS = {"gpt2": ["c_attn", "c_proj"], "llama": ["q_proj", "v_proj", "down_proj"], "gemma": ["k_proj", "gate_proj"]}
FAMILIES = tuple(TARGETS)
# What PEFT calls of transformers is to be removed there.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(autouse=True)
def own_cache(isolated_folders: Path) -> None:
    """Merged models go into a cache of this session."""


def base(name: str, folder: Path) -> Path:
    """A tiny base model."""
    if name != "gemma":
        return tiny.save(name, folder)
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(3)
    config = Gemma3TextConfig(
        vocab_size=len(tiny.WORDS), hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=6, max_position_embeddings=16, bos_token_id=0, eos_token_id=0, pad_token_id=1,
        query_pre_attn_scalar=6, sliding_window=16,
    )  # fmt: skip
    Gemma3ForCausalLM(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def trained(model: Path, name: str, folder: Path, **settings: Any) -> Path:
    """An adapter with factors as if it had been trained, written by PEFT."""
    from peft import LoraConfig, get_peft_model

    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    asked = {"r": 3, "lora_alpha": 5, "target_modules": TARGETS[name], "fan_in_fan_out": name == "gpt2", **settings}
    adapter = get_peft_model(plain, LoraConfig(**asked))
    torch.manual_seed(11)
    with torch.no_grad():
        for parameter_name, parameter in adapter.named_parameters():
            if "lora_" in parameter_name:
                parameter.normal_(std=0.3)
    adapter.save_pretrained(folder)
    return folder


def by_peft(model: Path, adapter: Path) -> dict[str, torch.Tensor]:
    from peft import PeftModel

    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    merged: Any = PeftModel.from_pretrained(plain, adapter).merge_and_unload()
    return dict(merged.state_dict())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True}, {"rank_pattern": {"0.*": 2}, "alpha_pattern": {"0.*": 7}}], ids=str
)
def test_merging_is_that_of_peft(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    folder = base(name, tmp_path / "base")
    if "rank_pattern" in settings:
        some = TARGETS[name][0]
        settings = {"rank_pattern": {some: 2}, "alpha_pattern": {some: 7}}
    adapter = trained(folder, name, tmp_path / "adapter", **settings)
    model, unadapted = ep.load(str(folder), adapter=adapter), ep.load(str(folder))
    expected, found, before = by_peft(folder, adapter), model.weights(), unadapted.weights()
    assert found.keys() == expected.keys()
    for weight, value in expected.items():
        torch.testing.assert_close(found[weight], value, rtol=0, atol=1e-5)
    assert any(not torch.equal(found[one], before[one]) for one in found)
    assert model.digest != unadapted.digest


@pytest.mark.filterwarnings("ignore:Adapter .* LoRA tensor", "ignore:`lora_bias=True` was passed")  # peft's own
def test_biases_of_adapters_are_added(tmp_path: Path) -> None:
    folder = base("gpt2", tmp_path / "gpt2")
    adapter = trained(folder, "gpt2", tmp_path / "adapter", lora_bias=True)
    found, expected = ep.load(str(folder), adapter=adapter).weights(), by_peft(folder, adapter)
    for weight, value in expected.items():
        torch.testing.assert_close(found[weight], value, rtol=0, atol=1e-5)
    unadapted = ep.load(str(folder)).weights()
    assert not torch.equal(found["transformer.h.0.attn.c_attn.bias"], unadapted["transformer.h.0.attn.c_attn.bias"])
    llama = base("llama", tmp_path / "llama")
    biased = trained(llama, "llama", tmp_path / "biased", lora_bias=True)
    with pytest.raises(ModelError, match=r"adds a bias to .*_proj, of which .* has none"):
        ep.load(str(llama), adapter=biased)


def test_merged_models_are_counted_and_the_longest_unused_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGENPRUNE_CACHE", str(tmp_path / "cache"))
    settings.cache_clear()
    folder = base("llama", tmp_path / "base")
    sources = []
    for seed in range(3):
        adapter = trained(folder, "llama", tmp_path / f"adapter{seed}", r=1 + seed)
        sources.append(ep.load(str(folder), adapter=adapter).source.folder)
        os.utime(sources[-1] / "source.json", (seed, seed))
    info = report("cache", "info")
    models = tmp_path / "cache" / "models"
    assert (info["merged"], [one.path for one in merged_folders(models)]) == (3, sources)
    size = info["merged_bytes"] // 3
    assert remove_unused(models, 2 * size + size // 2) == 1
    assert [one.path for one in merged_folders(models)] == sources[1:]
    os.utime(sources[1] / "source.json")
    os.utime(sources[2] / "source.json")
    assert remove_unused(models, 0) == 0  # somebody may have them open
    assert report("cache", "clear")["merged_removed"] == 2
    assert not sources[2].exists()
    settings.cache_clear()


def test_a_model_is_found_again_by_its_name_and_content(tmp_path: Path) -> None:
    folder = base("llama", tmp_path / "base")
    adapter = trained(folder, "llama", tmp_path / "adapter")
    model = ep.load(str(folder), adapter=adapter)
    assert ep.load(model.source.name).digest == model.digest
    first = model.source.folder
    assert ep.load(str(folder), adapter=adapter).source.folder == first
    factors = load_file(adapter / "adapter_model.safetensors")
    save_file({name: 2 * one for name, one in factors.items()}, adapter / "adapter_model.safetensors")
    other = ep.load(str(folder), adapter=adapter)
    assert (other.digest != model.digest, other.source.folder != first) == (True, True)


def test_masks_and_commands_take_the_merged_model(tmp_path: Path) -> None:
    folder = base("llama", tmp_path / "base")
    adapter = trained(folder, "llama", tmp_path / "adapter")
    found = report("spectra", "--model", folder, "--adapter", adapter, "--matrix", "L0.Q.H1")
    model: Model = ep.load(str(folder), adapter=adapter)
    assert (found["model_digest"], found["model"]) == (model.digest, f"{folder}+adapter={adapter}")
    mask = ep.empty_mask(model)
    mask.save(tmp_path / "m.json")
    assert mask.model.digest == model.digest
    said = refused("mask", "damage", "--model", folder, "--mask", tmp_path / "m.json", "--text", "bundled")
    assert "the mask was made for" in said


def changed(adapter: Path, **fields: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"peft_type": "IA3"}, "is an adapter of the type IA3"),
        ({"use_dora": True}, r"magnitudes of its own \(DoRA\)"),
        ({"modules_to_save": ["lm_head"]}, "has whole modules"),
        ({"bias": "all"}, "trains biases"),
        ({"r": 9}, r"says rank 9 for .*, but its factors have 3"),
        ({"lora_alpha": "much"}, "has lora_alpha much"),
        ({"rank_pattern": {"(": 1}}, "is no pattern"),
    ],
    ids=str,
)
def test_an_adapter_that_is_more_than_a_sum_is_refused(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = base("llama", tmp_path / "base")
    adapter = trained(folder, "llama", tmp_path / "adapter")
    changed(adapter, **fields)
    with pytest.raises(ModelError, match=said):
        ep.load(str(folder), adapter=adapter)


def test_adapters_of_another_base_or_without_weights_are_refused(tmp_path: Path) -> None:
    llama, gpt2 = base("llama", tmp_path / "llama"), base("gpt2", tmp_path / "gpt2")
    adapter = trained(llama, "llama", tmp_path / "adapter")
    with pytest.raises(
        ModelError, match=r"changes model\.layers\.0\..*, which .*gpt2 does not have: give its own base"
    ):
        ep.load(str(gpt2), adapter=adapter)
    gemma = base("gemma", tmp_path / "gemma")
    wide = load_file(adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="holds no adapter_config"):
        ep.load(str(llama), adapter=gemma)
    with pytest.raises(ModelError, match="is no folder"):
        ep.load(str(llama), adapter=tmp_path / "gone")
    with pytest.raises(ModelError, match="has an adapter already"):
        ep.load(f"{llama}+adapter={adapter}", adapter=adapter)
    save_file(
        {name: one[:, :5].contiguous() if "lora_A" in name else one for name, one in wide.items()},
        adapter / "adapter_model.safetensors",
    )
    with pytest.raises(ModelError, match="as a matrix of"):
        ep.load(str(llama), adapter=adapter)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no adapter_model"):
        ep.load(str(llama), adapter=adapter)
    assert "give its base model, and this folder as the adapter" in refused(
        "spectra", "--model", adapter, "--matrix", "L0.K"
    )


def test_a_name_in_full_is_that_of_the_model_itself() -> None:
    assert full_name("google/gemma-3-270m") == full_name("google/gemma-3-270m@main") == "Gemma 3 270M"
    for other in ("google/gemma-3-270m-it", "google/gemma-3-270m+adapter=/a/b"):
        assert full_name(other) == other
    assert full_name("google/gemma-3-270m (GGUF Q4_K_M, PyPI x)").endswith("GGUF")
