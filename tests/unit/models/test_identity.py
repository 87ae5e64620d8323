"""What identifies a model: all that decides what it computes, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from explorer import Model, load
from explorer.core.config import ASSETS
from explorer.models.identity import weights_digest
from tests import copies, tiny

TOKENIZER = json.loads((ASSETS / "bundled" / "tokenizer.json").read_text(encoding="utf-8"))
# The digest of the bundled weights that mask files held before files held identities.
OF_BEFORE = {
    "float32": "sha256:e4c1aad5265299f932bead6dab0f84fe3310b2c7985383155f610dc6266532bb",
    "bfloat16": "sha256:5b22cd517a4ead2a214880d060d3ade507061748f2d1b1d08e55d16c965c6663",
}
COMPUTES: dict[str, dict[str, Any]] = {
    "an activation": {"activation_function": "relu"},
    "heads": {"n_head": 2},
    "an epsilon": {"layer_norm_epsilon": 1e-3},
    "a scale of attention": {"scale_attn_by_inverse_layer_idx": True},
    "attention itself": {"attn_implementation": "eager"},
    "a setting that nobody knows": {"novelty": 1},
}
DOES_NOT: dict[str, dict[str, Any]] = {
    "a default left out": {"scale_attn_weights": None},
    "another": {"layer_norm_epsilon": None},
    "an MLP width that the weights say": {"n_inner": 512},
    "what generation reads": {"use_cache": False, "eos_token_id": 0},
    "what training reads": {"initializer_range": 0.5},
    "the type it is stored in": {"dtype": None, "torch_dtype": "bfloat16"},
    "a name": {"_name_or_path": "elsewhere", "transformers_version": "5.0.0"},
    "whole numbers as floats": {"n_layer": 4, "resid_pdrop": 0},
}


def read(**changes: Any) -> Any:
    """The tokenizer's own model with other entries."""
    return {"model": {**TOKENIZER["model"], **changes}}


def swapped(vocabulary: dict[str, int]) -> dict[str, int]:
    one, other = sorted(vocabulary)[40:42]
    return {**vocabulary, one: vocabulary[other], other: vocabulary[one]}


@pytest.mark.parametrize("case", COMPUTES)
def test_what_changes_the_computation_makes_another_model(bundled: Model, tmp_path: Path, case: str) -> None:
    other = load(str(copies.bundled(tmp_path / "copy", **COMPUTES[case])), dtype="float32")
    assert other.digest != bundled.digest
    assert other.as_loaded != bundled.as_loaded
    assert other.parts.weights == bundled.parts.weights
    assert (other.matrices_identity == bundled.matrices_identity) == ("n_head" not in COMPUTES[case]), (
        "decompositions are the weights'"
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", DOES_NOT)
def test_what_changes_nothing_does_not(bundled: Model, tmp_path: Path, case: str) -> None:
    other = load(str(copies.bundled(tmp_path / "copy", **DOES_NOT[case])), dtype="float32")
    assert (other.digest, other.parts) == (bundled.digest, bundled.parts)


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "Lowercase"}},
        read(vocab=swapped(TOKENIZER["model"]["vocab"])),
        {"added_tokens": [{**TOKENIZER["added_tokens"][0], "lstrip": True}, *TOKENIZER["added_tokens"][1:]]},
    ],
    ids=["normaliser", "vocabulary", "an added token"],
)
def test_another_tokenizer_makes_another_model(bundled: Model, tmp_path: Path, changes: dict[str, Any]) -> None:
    other = load(str(copies.with_tokenizer(tmp_path / "copy", **changes)), dtype="float32")
    assert other.digest != bundled.digest
    assert (other.parts.weights, other.parts.config) == (bundled.parts.weights, bundled.parts.config)


def test_a_chat_template_and_special_tokens_are_the_tokenizers(bundled: Model, tmp_path: Path) -> None:
    folders = [copies.bundled(tmp_path / name) for name in ("chat", "ends", "spelled")]
    copies.edit(folders[0] / "tokenizer_config.json", chat_template="{{ messages[0].content }}")
    copies.edit(folders[1] / "tokenizer_config.json", bos_token=bundled.tokenizer.eos_token)
    copies.edit(folders[2] / "tokenizer.json", padding=None, truncation=None)
    (folders[2] / "tokenizer.json").write_text(
        json.dumps(json.loads((folders[2] / "tokenizer.json").read_text(encoding="utf-8")), indent=7), encoding="utf-8"
    )
    chat, ends, spelled = (load(str(folder), dtype="float32") for folder in folders)
    assert len({bundled.digest, chat.digest, ends.digest}) == 3
    assert spelled.digest == bundled.digest


def test_special_tokens_that_are_read_as_plain_text_make_another_model(bundled: Model, tmp_path: Path) -> None:
    folder = copies.bundled(tmp_path / "copy")
    copies.edit(folder / "tokenizer_config.json", split_special_tokens=True)
    other = load(str(folder), dtype="float32")
    text = f"2{bundled.tokenizer.bos_token}3"
    assert other.tokenizer(text).input_ids != bundled.tokenizer(text).input_ids
    assert other.digest != bundled.digest
    assert (other.parts.weights, other.parts.config) == (bundled.parts.weights, bundled.parts.config)


SILENT: dict[str, dict[str, dict[str, Any]]] = {
    "dropouts": {"config.json": {"attn_pdrop": 0.3, "resid_pdrop": 0.1, "embd_pdrop": 0.2}},
    "no dropouts": {"config.json": {"attn_pdrop": None, "resid_pdrop": None}},
    "a padding token's id": {"config.json": {"pad_token_id": 3}},
    "no padding token": {"config.json": {"pad_token_id": None}, "tokenizer_config.json": {"pad_token": None}},
    "the end as padding": {"tokenizer_config.json": {"pad_token": "<eos>"}},
    "padding on the left": {"tokenizer_config.json": {"padding_side": "left", "truncation_side": "left"}},
    "another end": {"tokenizer_config.json": {"eos_token": "<bos>"}},
    "no end": {"tokenizer_config.json": {"eos_token": None}},
    "a post-processor that adds a beginning": {"tokenizer.json": {"post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<bos>": {"id": "<bos>", "ids": [365], "tokens": ["<bos>"]}},
    }}},
}  # fmt: skip
TEXTS = ["12 x 3 =", " 36", "<bos>1 + 1 =<eos>", "  a\n7<pad>", "<unk>?"]


def edited(folder: Path, changes: dict[str, dict[str, Any]]) -> Path:
    copies.bundled(folder)
    for name, entries in changes.items():
        copies.edit(folder / name, **entries)
    return folder


@pytest.mark.parametrize("case", SILENT)
def test_what_changes_no_token_and_no_number_is_the_same_model(bundled: Model, tmp_path: Path, case: str) -> None:
    """Plain transformers' logits and the tokens of texts are those of the bundled model, bit for bit."""
    folder = edited(tmp_path / "copy", SILENT[case])
    other = load(str(folder), dtype="float32")
    assert other.digest == bundled.digest
    assert (other.parts.config, other.parts.tokenizer) == (bundled.parts.config, bundled.parts.tokenizer)
    assert other.as_loaded != bundled.as_loaded, "what is kept is not shared: the released code looks at padding"
    for text in TEXTS:
        assert (
            other.tokenizer(text, add_special_tokens=False).input_ids
            == bundled.tokenizer(text, add_special_tokens=False).input_ids
        )
    plain, changed = (
        AutoModelForCausalLM.from_pretrained(one, dtype=torch.float32).eval() for one in (ASSETS / "bundled", folder)
    )
    ids = torch.tensor([bundled.tokenizer("12 x 3 = 36").input_ids])
    with torch.no_grad():
        assert torch.equal(plain(ids).logits, changed(ids).logits)


@pytest.mark.parametrize(
    ("changes", "template"),
    [({"eos_token": "<bos>"}, "{{ messages[0].content }}{{ eos_token }}"), ({"pad_token": "<eos>"}, "{{ pad_token }}")],
)
def test_ends_that_the_chat_template_writes_count(tmp_path: Path, changes: dict[str, str], template: str) -> None:
    chat = {"tokenizer_config.json": {"chat_template": template}}
    first = load(str(edited(tmp_path / "one", chat)), dtype="float32")
    other = {"tokenizer_config.json": {"chat_template": template, **changes}}
    assert load(str(edited(tmp_path / "two", other)), dtype="float32").digest != first.digest


def test_a_post_processor_that_repeats_a_text_counts(bundled: Model, tmp_path: Path) -> None:
    twice = {"Sequence": {"id": "A", "type_id": 0}}
    pair = [twice, {"Sequence": {"id": "B", "type_id": 1}}]
    post = {"type": "TemplateProcessing", "single": [twice, twice], "pair": pair, "special_tokens": {}}
    folder = edited(tmp_path / "copy", {"tokenizer.json": {"post_processor": post}})
    assert load(str(folder), dtype="float32").digest != bundled.digest


# Of the bundled model and of a copy without a padding token, by the version before these were left out of identities.
EXACT = {
    "bundled": "sha256:0d60e0bb96d25c793f7e71f61fda528a379361d13ddcbb35a3511711f11fe241",
}


def test_identities_of_before_are_known(bundled: Model, tmp_path: Path) -> None:
    assert bundled.parts.exactly("raw") == EXACT["bundled"]
    assert bundled.as_loaded == f"{EXACT['bundled']} float32 cpu", "what was kept is found again"
    assert EXACT["bundled"] in bundled.parts.earlier("raw")
    assert EXACT["bundled"] not in bundled.parts.earlier("folded")
    bare = {"config.json": {"pad_token_id": None}, "tokenizer_config.json": {"pad_token": None}}
    before = load(str(edited(tmp_path / "before", bare)), dtype="float32")
    filled = {"tokenizer_config.json": {"pad_token": "<eos>", "padding_side": "left"}}
    after = load(str(edited(tmp_path / "after", filled)), dtype="float32")
    assert before.parts.exactly("raw") in after.parts.earlier("raw")
    relu = load(str(edited(tmp_path / "relu", {"config.json": {"activation_function": "relu"}})), dtype="float32")
    assert EXACT["bundled"] not in relu.parts.earlier("raw")


@pytest.mark.parametrize("family", ["default", "linear"])
def test_a_rope_is_part_of_it_however_it_is_spelled(tmp_path: Path, family: str) -> None:
    folder = tiny.save("llama", tmp_path / "given")
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    raw.pop("rope_parameters", None)
    scaled = {"factor": 2.0} if family == "linear" else {}
    spellings: list[dict[str, Any]] = [
        {"rope_parameters": {"rope_type": family, "rope_theta": 500.0, **scaled}},
        {"rope_theta": 500.0, "rope_scaling": {"type": family, **scaled}},
        {"rope_parameters": {"rope_type": family, "rope_theta": 501.0, **scaled}},
    ]
    digests = []
    for number, spelling in enumerate(spellings):
        shutil.copytree(folder, tmp_path / str(number))
        (tmp_path / str(number) / "config.json").write_text(json.dumps({**raw, **spelling}), encoding="utf-8")
        digests.append(load(str(tmp_path / str(number))).digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.slow
@pytest.mark.parametrize("basis", ["raw", "folded"])
def test_the_type_of_loading_is_no_part_of_it_but_of_what_is_measured(bundled: Model, basis: str) -> None:
    loaded = [load("bundled", basis=basis, dtype=dtype) for dtype in ("float32", "bfloat16", "float16", "float64")]
    assert len({one.digest for one in loaded}) == len({one.parts for one in loaded}) == 1
    assert len({one.as_loaded for one in loaded}) == 4
    assert len({one.matrices_identity for one in loaded}) == 3, "both half types: the weights as stored, in float32"
    assert (loaded[0].digest == bundled.digest) == (basis == "raw")
    assert all(one.current_digest() == one.digest for one in loaded)


@pytest.mark.slow
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_shards_and_tied_copies_change_nothing(tmp_path: Path, stored: str) -> None:
    folder = tiny.save("llama", tmp_path / "whole", tied=True)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, stored))
    names = ("one", "shards", "twice")
    for name in names:
        shutil.copytree(folder, tmp_path / name)
        (tmp_path / name / "model.safetensors").unlink()
        model.save_pretrained(tmp_path / name, max_shard_size="2KB" if name == "shards" else "1GB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    weights = load_file(tmp_path / "twice" / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, tmp_path / "twice" / "model.safetensors", metadata={"format": "pt"})
    found = {load(str(tmp_path / name), dtype=dtype).digest for name in names for dtype in ("float32", "bfloat16")}
    assert len(found) == 1
    if stored == "bfloat16":
        assert found != {load(str(folder), dtype="float32").digest}, "other weights are stored"


def test_names_without_the_prefix_of_the_class_change_nothing(bundled: Model, tmp_path: Path) -> None:
    folder = copies.bundled(tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    assert all(name.startswith("transformer.") for name in weights)
    short = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    save_file(short, folder / "model.safetensors", metadata={"format": "pt"})
    for dtype in ("float32", "bfloat16"):
        assert load(str(folder), dtype=dtype).digest == bundled.digest


def test_the_digest_of_before_is_what_it_was(bundled: Model) -> None:
    assert bundled.weights_now() == bundled.parts.weights == OF_BEFORE["float32"]
    assert load("bundled", dtype="bfloat16").weights_now() == OF_BEFORE["bfloat16"]
    state = hashlib.sha256()
    for name, weight in sorted(load_file(ASSETS / "bundled" / "model.safetensors").items()):
        state.update(f"{name} {tuple(weight.shape)} {weight.dtype};".encode() + weight.numpy().tobytes())
    assert OF_BEFORE["float32"] == f"sha256:{state.hexdigest()}" == weights_digest(bundled._weights)


def test_a_weight_that_changes_in_memory_shows(tmp_path: Path) -> None:
    model = load(str(tiny.save("gpt2", tmp_path)), dtype="float32")
    next(iter(model._weights.values())).view(torch.int32).view(-1)[0] ^= 1
    assert model.current_digest() != model.digest
