"""Which files a model is: what plain transformers reads, for loading and for spectra, and sentences for the rest."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from explorer.core.errors import ModelError
from explorer.core.keys import Kind, MatrixKey
from explorer.models import load, locate, model_files, read_config
from explorer.models.files import INDEX
from explorer.models.weights import read_weights
from explorer.spectra.checkpoint import Checkpoint
from tests import plain, tiny
from tests.families import FAMILIES

TOKENS = torch.tensor([[0, 5, 9, 3, 7]])
OUT = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    return tiny.save("llama", tmp_path / "model")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "model.safetensors")


def store(path: Path, tensors: dict[str, torch.Tensor], name: str = "model.safetensors") -> None:
    save_file({key: one.contiguous() for key, one in tensors.items()}, path / name, metadata={"format": "pt"})


def change(path: Path, **tensors: torch.Tensor | None) -> None:
    """Store other tensors, or leave some out, by names whose dots are written `__`."""
    stored = weights(path)
    for name, tensor in tensors.items():
        stored.pop(name.replace("__", "."), None)
        if tensor is not None:
            stored[name.replace("__", ".")] = tensor
    store(path, stored)


def add(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    store(path, weights(path) | tensors)


def configure(path: Path, **fields: object) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **fields}))


def shard(path: Path) -> dict[str, str]:
    """The same model in two shards and an index; returns its weight map."""
    stored = weights(path)
    (path / "model.safetensors").unlink()
    halves: dict[str, dict[str, torch.Tensor]] = {"a.safetensors": {}, "b.safetensors": {}}
    for number, name in enumerate(sorted(stored)):
        halves[("a.safetensors", "b.safetensors")[number % 2]][name] = stored[name]
    for file, tensors in halves.items():
        store(path, tensors, file)
    listed = {name: file for file, tensors in halves.items() for name in tensors}
    (path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    return listed


def index(path: Path, **changes: str) -> None:
    listed = shard(path)
    listed.update({name.replace("__", "."): file for name, file in changes.items()})
    (path / INDEX).write_text(json.dumps({"weight_map": listed}))


def refused(path: Path) -> str:
    """The sentence with which loading is refused."""
    with pytest.raises(ModelError) as caught:
        load(str(path))
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 600
    return sentence


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(TOKENS).logits
    return found


def spectrum_and_loaded_agree(path: Path) -> None:
    """Both read what plain transformers reads."""
    with torch.no_grad():
        expected = plain.load_plain(path)
        torch.testing.assert_close(load(str(path)).view().logits(TOKENS), logits(expected), rtol=0, atol=1e-5)
    W = expected.get_parameter(OUT).detach().double().numpy()
    s = Checkpoint(locate(str(path))).spectrum(MatrixKey(1, Kind.OUT)).s.numpy()
    np.testing.assert_allclose(s, np.linalg.svd(W, compute_uv=False), rtol=1e-6)


# --------------------------------------------------------------------------------- which file is the model's


def stray(path: Path) -> None:
    store(path, {name: 10 * one for name, one in weights(path).items()}, "model_old.safetensors")


def stale_index(path: Path) -> None:
    other = {name: 10 * one for name, one in weights(path).items()}
    store(path, other, "a.safetensors")
    (path / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(other, "a.safetensors")}))


def lost_index(path: Path) -> None:
    (path / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(weights(path), "gone.safetensors")}))


def stray_beside_shards(path: Path) -> None:
    stray(path)
    shard(path)


def named_in_config(path: Path) -> None:
    stray(path)
    configure(path, transformers_weights="model_old.safetensors")


def linked_like_the_hub(path: Path) -> None:
    """`snapshots/<commit>/file -> ../../blobs/<hash>`."""
    shard(path)
    blobs = path.parent / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(path.iterdir())):
        blob = blobs / f"{number:040d}"
        shutil.move(file, blob)
        file.symlink_to(Path("..") / "blobs" / blob.name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout",
    [stray, stale_index, lost_index, shard, stray_beside_shards, named_in_config, linked_like_the_hub],
    ids=lambda layout: layout.__name__,
)
def test_loading_and_spectrum_read_what_transformers_reads(
    model_folder: Path, layout: Callable[[Path], object]
) -> None:
    layout(model_folder)
    spectrum_and_loaded_agree(model_folder)


def move_out(path: Path) -> None:
    listed = shard(path)
    shutil.move(path / "a.safetensors", path.parent / "a.safetensors")
    (path / INDEX).write_text(
        json.dumps({"weight_map": {n: f"../{f}" if f[0] == "a" else f for n, f in listed.items()}})
    )


def absolute(path: Path) -> None:
    move_out(path)
    text = (path / INDEX).read_text().replace("../a.", f"{path.parent}/a.")
    (path / INDEX).write_text(text)


def other_name(path: Path) -> None:
    (path / "model.safetensors").rename(path / "weights.safetensors")


def in_two_shards(path: Path) -> None:
    shard(path)
    add_to = load_file(path / "a.safetensors")
    store(path, add_to | {"model.norm.weight": torch.ones(16)}, "a.safetensors")
    store(path, load_file(path / "b.safetensors") | {"model.norm.weight": torch.ones(16)}, "b.safetensors")


LAYOUTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "index above the folder": (move_out, "names files outside its folder"),
    "absolute index": (absolute, "names files outside its folder"),
    "backslashes": (
        lambda path: index(path, model__norm__weight="C:\\x.safetensors"),
        "names files outside its folder",
    ),
    "missing shard": (
        lambda path: [shard(path), (path / "b.safetensors").unlink()],
        r"has no b\.safetensors in",
    ),
    "index of other tensors": (
        lambda path: index(path, model__layers__7__x="a.safetensors"),
        r"lacks the weight model\.layers\.7\.x, which its index says is in a\.safetensors",
    ),
    "index of the other shard": (
        lambda path: index(path, lm_head__weight="b.safetensors"),
        r"lacks the weight lm_head\.weight, which its index says is in b\.safetensors",
    ),
    "a tensor twice": (in_two_shards, r"holds model\.norm\.weight in both a\.safetensors and b\.safetensors"),
    "an index of pickles": (lambda path: index(path, lm_head__weight="x.bin"), r"names x\.bin: expected safetensors"),
    "an index of numbers": (
        lambda path: [shard(path), (path / INDEX).write_text('{"weight_map": {"a": 1}}')],
        "without a usable weight_map",
    ),
    "another name": (other_name, r"called model\.safetensors .*, but weights\.safetensors: give it that name"),
    "weights named elsewhere": (
        lambda path: configure(path, transformers_weights="../model.safetensors"),
        "names files outside its folder",
    ),
    "pickled weights named": (
        lambda path: configure(path, transformers_weights="model.bin"),
        "names 'model.bin' as transformers_weights",
    ),
    "another configuration": (
        lambda path: configure(path, configuration_files=["config.4.0.0.json"]),
        "configuration_files is",
    ),
    "an adapter": (
        lambda path: (path / "adapter_config.json").write_text('{"base_model_name_or_path": "nobody/nothing"}'),
        r"has an adapter \(adapter_config\.json\) beside its weights.*merge_and_unload",
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_other_layouts_are_refused_by_name(model_folder: Path, name: str) -> None:
    spoil, words = LAYOUTS[name]
    spoil(model_folder)
    with pytest.raises(ModelError, match=words):
        Checkpoint(locate(str(model_folder)))
    with pytest.raises(ModelError, match=words):
        load(str(model_folder))


def test_a_folder_of_an_adapter_alone_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "only an adapter: give its base model, and this folder as the adapter" in refused(tmp_path)


def test_no_adapter_is_looked_for(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With peft installed transformers looks for adapters; here it is given tensors and no folder."""
    from transformers.integrations import peft
    from transformers.models.auto import auto_factory

    def look(*arguments: object, **options: object) -> None:
        raise AssertionError("looked for an adapter")

    for module in (peft, auto_factory):
        monkeypatch.setattr(module, "is_peft_available", lambda: True)
        monkeypatch.setattr(module, "find_adapter_config_file", look)
    assert load(str(model_folder)).parameters_count > 0


# ------------------------------------------------------------------------------------ what is no ordinary file


def pipe(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def hanging(path: Path) -> None:
    path.symlink_to("nowhere")


def unix_socket(path: Path) -> None:
    where = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has to be short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(where)


SPECIAL = [pipe, directory, device, hanging, unix_socket]
FILES = ["config.json", "model.safetensors", INDEX, "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("make", SPECIAL, ids=lambda make: make.__name__)
def test_what_is_no_file_is_never_opened(model_folder: Path, file: str, make: Callable[[Path], None]) -> None:
    if file == INDEX:
        shard(model_folder)
    (model_folder / file).unlink()
    make(model_folder / file)
    words = "is no ordinary file|holds no config.json"
    with pytest.raises(ModelError, match=words):
        load(str(model_folder))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [pipe, device, unix_socket], ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", ["model", "model.gguf", "model.GGUF"])
def test_a_model_that_is_no_file_is_never_opened(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / name)
    with pytest.raises(ModelError, match=r"there is no file|is neither a model folder nor a \.gguf file"):
        load(str(tmp_path / name))


# ------------------------------------------------------------------------------- tensors that have no place


def quantise(path: Path) -> None:
    change(path, **{OUT.replace(".", "__"): torch.ones(16, 20, dtype=torch.int8)})


TENSORS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "biases without their switch": (
        "llama",
        lambda path: add(path, {"model.layers.0.self_attn.q_proj.bias": torch.ones(24)}),
        r"has no place, such as model\.layers\.0\.self_attn\.q_proj\.bias",
    ),
    "biases of GPT-Neo's queries": (
        "gpt-neo",
        lambda path: add(path, {"transformer.h.0.attn.attention.q_proj.bias": torch.ones(16)}),
        r"has no place, such as transformer\.h\.0\.attn\.attention\.q_proj\.bias",
    ),
    "a bias with a name like a causal mask's": (
        "llama",
        lambda path: add(path, {"model.layers.0.attention.bias": torch.ones(16)}),
        r"has no place, such as model\.layers\.0\.attention\.bias",
    ),
    "a bias of GPT-2 where causal masks were": (
        "gpt2",
        lambda path: add(path, {"transformer.h.0.attn.bias": torch.ones(16)}),
        r"has no place, such as transformer\.h\.0\.attn\.bias",
    ),
    "a bias of GPT-NeoX where causal masks were": (
        "neox",
        lambda path: add(path, {"gpt_neox.layers.0.attention.bias": torch.ones(16)}),
        r"has no place, such as gpt_neox\.layers\.0\.attention\.bias",
    ),
    "a further layer": (
        "llama",
        lambda path: add(path, {OUT.replace("1", "2"): torch.ones(16, 20)}),
        r"has no place, such as model\.layers\.2\.mlp\.down_proj\.weight",
    ),
    "fewer layers by config": (
        "llama",
        lambda path: configure(path, num_hidden_layers=1),
        r"stores 9 weights for which a LlamaForCausalLM .* has no place, such as model\.layers\.1\.",
    ),
    "LoRA": (
        "llama",
        lambda path: add(path, {OUT.replace("weight", "lora_A.weight"): torch.ones(2, 20)}),
        r"has no place, such as model\.layers\.1\.mlp\.down_proj\.lora_A\.weight",
    ),
    "int8 scales": (
        "llama",
        lambda path: add(path, {OUT.replace("weight", "SCB"): torch.ones(16)}),
        r"has no place, such as model\.layers\.1\.mlp\.down_proj\.SCB",
    ),
    "int8 weights": ("llama", quantise, rf"stores {OUT} as I8, which is packed or quantised"),
    "float8 weights": (
        "llama",
        lambda path: change(path, **{OUT.replace(".", "__"): torch.ones(16, 20).to(torch.float8_e4m3fn)}),
        rf"stores {OUT} as F8_E4M3",
    ),
    "norms on queries": (
        "llama",
        lambda path: add(path, {"model.layers.0.self_attn.q_norm.weight": torch.ones(6)}),
        r"has no place, such as model\.layers\.0\.self_attn\.q_norm\.weight",
    ),
    "an own lm_head": (
        "llama",
        lambda path: configure(path, tie_word_embeddings=True),
        r"stores lm_head\.weight with other values than model\.embed_tokens\.weight, though .* tied",
    ),
    "GPT-2's own lm_head": (
        "gpt2",
        lambda path: add(path, {"lm_head.weight": torch.ones(len(tiny.WORDS), 16)}),
        r"stores lm_head\.weight with other values than transformer\.wte\.weight",
    ),
    "GPT-2's own lm_head of another size": (
        "gpt2",
        lambda path: add(path, {"lm_head.weight": torch.ones(3, 16)}),
        r"lm_head\.weight of shape \[3, 16\], but config.json says \[22, 16\]",
    ),
    "the same weight under two names": (
        "gpt2",
        lambda path: add(path, {"wte.weight": torch.ones(len(tiny.WORDS), 16)}),
        r"stores both wte\.weight and transformer\.wte\.weight",
    ),
    "cross-attention without its switch": (
        "gpt2",
        lambda path: add(path, {"transformer.h.0.crossattention.c_attn.weight": torch.ones(16, 32)}),
        r"has no place, such as transformer\.h\.0\.crossattention\.c_attn\.weight",
    ),
    "another shape": (
        "llama",
        lambda path: change(path, **{OUT.replace(".", "__"): torch.ones(20, 16)}),
        rf"has {OUT} of shape \[20, 16\], but config\.json says \[16, 20\]",
    ),
    "NaN": (
        "llama",
        lambda path: change(path, **{OUT.replace(".", "__"): torch.full((16, 20), float("nan"))}),
        rf"holds NaN or infinite weights in {OUT}",
    ),
    "one infinite bias": (
        "gpt2",
        lambda path: add(path, {"transformer.h.1.ln_2.bias": torch.tensor([float("-inf"), *[0.0] * 15])}),
        r"holds NaN or infinite weights in transformer\.h\.1\.ln_2\.bias",
    ),
    "NaN in a tied embedding": (
        "gpt2",
        lambda path: add(path, {"transformer.wte.weight": torch.full((len(tiny.WORDS), 16), float("nan"))}),
        r"holds NaN or infinite weights in transformer\.wte\.weight",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TENSORS)
def test_stored_tensors_without_a_place_are_refused_by_name(tmp_path: Path, name: str) -> None:
    family, spoil, words = TENSORS[name]
    path = FAMILIES[family].save(tmp_path / "model")
    spoil(path)
    with pytest.raises(ModelError, match=words):
        load(str(path))


def bare(path: Path) -> None:
    store(path, {name.removeprefix("transformer."): one for name, one in weights(path).items()})


HARMLESS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "rotary frequencies": (
        "llama",
        lambda path: add(path, {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)}),
    ),
    "GPT-2's causal masks": (
        "gpt2",
        lambda path: add(path, {"transformer.h.0.attn.bias": torch.ones(1, 1, 16, 16, dtype=torch.uint8)}),
    ),
    "GPT-Neo's causal masks": (
        "gpt-neo",
        lambda path: add(
            path,
            {
                "transformer.h.0.attn.attention.bias": torch.ones(1, 1, 16, 16, dtype=torch.bool).tril(),
                "transformer.h.0.attn.attention.masked_bias": torch.tensor(-1e9),
            },
        ),
    ),
    "GPT-J's causal masks": (
        "gpt-j",
        lambda path: add(
            path,
            {
                "transformer.h.0.attn.bias": torch.ones(1, 1, 16, 16, dtype=torch.bool).tril(),
                "transformer.h.0.attn.masked_bias": torch.tensor(-1e9),
            },
        ),
    ),
    "GPT-NeoX's causal masks": (
        "neox",
        lambda path: add(
            path,
            {
                "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 16, 16, dtype=torch.bool),
                "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
                "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(1),
            },
        ),
    ),
    "a tied duplicate that is equal": (
        "gpt2",
        lambda path: add(path, {"lm_head.weight": weights(path)["transformer.wte.weight"].clone()}),
    ),
    "names of the base model": ("gpt2", bare),
    "BLOOM's names of the base model": ("bloom", bare),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_tensors_change_nothing(tmp_path: Path, name: str) -> None:
    family, spoil = HARMLESS[name]
    path = FAMILIES[family].save(tmp_path / "model")
    expected = logits(AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager").eval())
    spoil(path)
    torch.testing.assert_close(load(str(path)).view().logits(TOKENS), expected, rtol=0, atol=1e-5)


def test_a_type_that_cannot_hold_the_weights_is_named(model_folder: Path) -> None:
    change(model_folder, **{OUT.replace(".", "__"): torch.full((16, 20), 1e6)})
    with pytest.raises(ModelError, match=rf"has numbers in {OUT} that float16 cannot hold: load it in another type"):
        load(str(model_folder), dtype="float16")
    assert load(str(model_folder), dtype="float32").digest


def test_weights_whose_sum_overflows_are_finite(model_folder: Path) -> None:
    """Such a model is read; that its outputs overflow is found where they are looked at."""
    change(model_folder, **{OUT.replace(".", "__"): torch.full((16, 20), 3e38)})
    source = locate(str(model_folder))
    class_name, config, files = read_config(source)
    model = read_weights(source, files, config, class_name, torch.float32)
    assert model.get_parameter(OUT).max().item() == pytest.approx(3e38)


# ------------------------------------------------------------------------------------- fields of config.json

ABSURD: list[tuple[str, str, object]] = [
    *(("gpt2", "n_layer", value) for value in (2**31, 2**31 - 1, 10**30, 0, -1, 2.0, 2.5, "two", True, [2], {}, 3)),
    *(("llama", "num_hidden_layers", value) for value in (2**31, 10**7, -2, "2", 3)),
    *(("llama", "num_key_value_heads", value) for value in ("llama", 0, -1, 3, True, [2], 2**31)),
    *(("llama", "num_attention_heads", value) for value in ("llama", 0, -4, 4.0, False)),
    *(("llama", "head_dim", value) for value in ("6", 0, 2**40, 5)),
    *(("llama", "hidden_size", value) for value in (10**12, "16", -16, 2**62)),
    *(("llama", "vocab_size", value) for value in (2**31 - 1, "22", 0, 2**70)),
    *(("llama", "rms_norm_eps", value) for value in ("small", float("nan"), float("inf"), -1, True)),
    *(("llama", "rope_theta", value) for value in ("llama", float("nan"), [1])),
    *(("llama", "hidden_act", value) for value in (1, "nosuch", ["silu"], {})),
    *(("llama", "num_labels", value) for value in (2**31, 10**12, -1, 2.5, "2", True)),
    *(("llama", "architectures", value) for value in ("LlamaForCausalLM", [1], {}, [])),
    *(("llama", "attn_implementation", value) for value in ("flash_attention_2", "flex_attention", "a/b", 1)),
    *(("llama", "_attn_implementation", value) for value in ("flash_attention_2", "kernels-community/flash-attn")),
    *(("gpt2", "n_positions", value) for value in (2**31 - 1, 10**15, "16", -1)),
    *(("gpt-j", "n_positions", value) for value in (2**31 - 1, 10**15)),
    *(("gpt-neo", "num_layers", value) for value in (2**31, 10**9)),
    *(("gpt-neo", "attention_types", value) for value in ([[["global"], 2**31]], "global", [[1, 2]], [[["x"], -1]])),
    *(("qwen2", "num_hidden_layers", value) for value in (2**31, 10**9)),
]


@pytest.mark.slow
@pytest.mark.timeout(30)
@pytest.mark.parametrize(("family", "field", "value"), ABSURD, ids=[f"{f}-{k}-{str(v)[:12]}" for f, k, v in ABSURD])
def test_absurd_fields_are_a_sentence(tmp_path: Path, family: str, field: str, value: object) -> None:
    path = FAMILIES[family].save(tmp_path / "model")
    configure(path, **{field: value})
    assert refused(path)


@pytest.mark.parametrize("field", ["n_layer", "num_hidden_layers", "num_key_value_heads", "attn_implementation"])
def test_the_refusal_names_the_field(model_folder: Path, field: str) -> None:
    configure(model_folder, **{field: "flash_attention_2"})
    assert f"{field} is 'flash_attention_2'" in refused(model_folder)


def test_shapes_are_compared_before_anything_is_allocated(tmp_path: Path) -> None:
    """A gigantic vocabulary by config.json would need terabytes; nothing of it is made."""
    path = tiny.save("gpt2", tmp_path)
    configure(path, vocab_size=2**31 - 1)
    sentence = refused(path)
    assert "wte.weight of shape [22, 12], but config.json says [2147483647, 12]" in sentence


# --------------------------------------------------------------------------------------------------- tokenizers


def say_tokenizer(path: Path, **fields: object) -> None:
    (path / "tokenizer_config.json").write_text(json.dumps(fields))


TOKENIZERS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no tokenizer_config.json": (
        "gpt2",
        lambda path: (path / "tokenizer_config.json").unlink(),
        "has a tokenizer that cannot be read as a GPT2Tokenizer",
    ),
    "an empty tokenizer_config.json": (
        "gpt2",
        lambda path: (path / "tokenizer_config.json").write_text(""),
        r"has a tokenizer_config\.json that transformers cannot use",
    ),
    "an empty object": ("gpt2", say_tokenizer, "cannot be read as a GPT2Tokenizer"),
    "a list": (
        "llama",
        lambda path: (path / "tokenizer_config.json").write_text("[]"),
        r"has a tokenizer_config\.json that transformers cannot use",
    ),
    "another class": (
        "llama",
        lambda path: say_tokenizer(path, tokenizer_class="GPT2Tokenizer"),
        "cannot be read as a GPT2Tokenizer, which makes no tokens of",
    ),
    "a class of another kind": (
        "llama",
        lambda path: say_tokenizer(path, tokenizer_class="BertTokenizer"),
        r"was read as a BertTokenizer, which adds '\[CLS\]', a token that none of its files names",
    ),
    "a class of no name": (
        "llama",
        lambda path: say_tokenizer(path, tokenizer_class=5),
        "whose tokenizer_class is 5: expected a name",
    ),
    "no tokenizer.json": (
        "llama",
        lambda path: (path / "tokenizer.json").unlink(),
        "has no tokenizer in .*: save the tokenizer there too",
    ),
    "a tokenizer.json of something else": (
        "llama",
        lambda path: (path / "tokenizer.json").write_text("{}"),
        r"cannot be read \(its tokenizer: ",
    ),
    "an empty tokenizer.json": (
        "llama",
        lambda path: (path / "tokenizer.json").write_text(""),
        r"has a tokenizer\.json that transformers cannot use",
    ),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_broken_tokenizer_is_a_sentence(tmp_path: Path, name: str) -> None:
    family, spoil, words = TOKENIZERS[name]
    path = FAMILIES[family].save(tmp_path / "model")
    spoil(path)
    with pytest.raises(ModelError, match=words):
        load(str(path))


def test_tokens_that_no_file_names_are_refused(tmp_path: Path) -> None:
    path = tiny.save_letters(tmp_path / "model")
    (path / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match=r"adds '<\|endoftext\|>', a token that none of its files names"):
        load(str(path))


def test_a_tokenizer_that_is_declared_as_it_stands_reads_text(tmp_path: Path) -> None:
    """transformers takes its own class for Qwen 2, which makes nothing of words."""
    path = FAMILIES["qwen2"].save(tmp_path / "model")
    tokenizer = load(str(path)).tokenizer
    assert tokenizer("w1 w2", add_special_tokens=False)["input_ids"] == [tiny.IDS["w1"], tiny.IDS["w2"]]
    assert len(tokenizer) == len(tiny.WORDS)


# ------------------------------------------------------------------------------------------------ where it goes


@pytest.mark.parametrize("device", ["meta", "nosuch", "cuda:99", "cpu:x", "", "http://x", "0", "vulkan"])
def test_devices_that_compute_nothing_are_a_sentence(model_folder: Path, device: str) -> None:
    if device:
        with pytest.raises(ModelError, match=r"cannot be put on device .*: set another, such as cpu"):
            load(str(model_folder), device=device)
    else:
        assert load(str(model_folder), device=device).digest  # the settings' device


@pytest.mark.parametrize("name", ["http://x", "https://huggingface.co/a/b", "s3://a/b", "file:///etc", "hf://a/b"])
def test_addresses_are_text_and_nothing_is_contacted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*arguments: object, **options: object) -> None:
        raise AssertionError("contacted something")

    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(ModelError, match="is not there: give bundled, smollm2-135m, gemma3-270m, a model folder"):
        load(name)


def test_the_files_of_a_model_are_known_without_reading_a_tensor(model_folder: Path) -> None:
    files = model_files(locate(str(model_folder)))
    expected = weights(model_folder)
    assert {name: stored.shape for name, stored in files.tensors.items()} == {
        name: tuple(one.shape) for name, one in expected.items()
    }
    assert {stored.dtype for stored in files.tensors.values()} == {"F32"}
    assert torch.equal(files.read(OUT), expected[OUT])
