"""Loading: what is read, once, and one sentence for everything that cannot be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from explorer.core.errors import ModelError, SettingsError
from explorer.models import load
from explorer.models.sources import NAMED, available, fetch, locate
from tests import plain, tiny

TOKENS = torch.tensor([[0, 5, 9, 3]])


def test_a_folder_is_loaded_with_its_identity(arch: str, folder: Path) -> None:
    model = load(str(folder), dtype="float32")
    expected = plain.load_plain(folder)
    assert model.source.folder == folder.resolve()
    assert model.basis == "raw"
    assert model.architecture == type(expected).__name__
    assert model.parameters_count == sum(p.numel() for p in expected.parameters())
    assert model.current_digest() == model.digest
    assert not any(parameter.requires_grad for parameter in model.bridge.parameters())
    assert not model.bridge.training


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_weights_come_in_the_asked_type(folder: Path, dtype: str) -> None:
    model = load(str(folder), dtype=dtype)
    types = {parameter.dtype for parameter in model.bridge.original_model.parameters()}
    assert types == {getattr(torch, dtype)}


def test_tied_weights_are_counted_once(tmp_path: Path) -> None:
    untied = load(str(tiny.save("llama", tmp_path / "untied", tied=False)))
    tied = load(str(tiny.save("llama", tmp_path / "tied", tied=True)))
    assert untied.parameters_count - tied.parameters_count == len(tiny.WORDS) * 16
    with torch.no_grad():
        expected = plain.load_plain(tmp_path / "tied")(TOKENS).logits
    torch.testing.assert_close(tied.view().logits(TOKENS), expected, rtol=0, atol=1e-5)


def test_the_digest_follows_the_weights_not_the_name_nor_the_type(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    first = load(str(folder), dtype="float32")
    assert load(str(tmp_path / "copy"), dtype="float32").digest == first.digest
    weights = load_file(tmp_path / "copy" / "model.safetensors")
    name = next(iter(sorted(weights)))
    weights[name].view(torch.int32).view(-1)[0] ^= 1
    save_file(weights, tmp_path / "copy" / "model.safetensors", metadata={"format": "pt"})
    assert load(str(tmp_path / "copy"), dtype="float32").digest != first.digest
    assert load(str(folder), dtype="float64").digest == first.digest


def test_loading_tells_its_progress(folder: Path) -> None:
    told: list[float] = []
    load(str(folder), progress=lambda done, total: told.append(done / total))
    assert told == sorted(told)
    assert told[-1] == 1


def edit_config(path: Path, **changes: object) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **changes}))


def cut_weights(path: Path) -> None:
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def drop_weight(path: Path) -> None:
    weights = load_file(path / "model.safetensors")
    del weights[next(name for name in weights if "layers.1.mlp" in name or "h.1.mlp" in name)]
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


def pickle_only(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (
        lambda path: (path / "config.json").unlink(),
        "holds no config.json: give a Hugging Face model folder",
    ),
    "a config that is no JSON": (
        lambda path: (path / "config.json").write_text("{"),
        "has a config.json that transformers cannot use",
    ),
    "a config that is a list": (
        lambda path: (path / "config.json").write_text("[1]"),
        "has a config.json that transformers cannot use",
    ),
    "a size that is text": (
        lambda path: edit_config(path, n_embd="wide", hidden_size="wide"),
        "has a config.json that transformers cannot use|cannot be read",
    ),
    "heads that do not divide the width": (
        lambda path: edit_config(path, n_head=5, num_key_value_heads=3),
        r"transformers cannot use: n_head is 5; .*must be divisible by num_heads|of shape .*, but config\.json says",
    ),
    "an unknown family": (
        lambda path: edit_config(path, model_type="nosuch"),
        "has a config.json that transformers cannot use",
    ),
    "no architecture": (lambda path: edit_config(path, architectures=None), "does not name its architecture"),
    "a classifier": (
        lambda path: edit_config(path, architectures=["GPT2ForSequenceClassification"]),
        "is a GPT2ForSequenceClassification, not a causal language model: give one that predicts next tokens",
    ),
    "cut weights": (cut_weights, r"cannot be read \(.*\): check that its files are complete"),
    "weights that are text": (
        lambda path: (path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
        r"cannot be read \(.*\): check that its files are complete",
    ),
    "a weight missing": (drop_weight, r"lacks \d+ of its weights, such as .*mlp.*: check that it is complete"),
    "no tokenizer": (
        lambda path: [file.unlink() for file in path.glob("tokenizer*")],
        r"has no tokenizer in .*: save the tokenizer there too|cannot be read \(.*tokenizer.*\): check",
    ),
    "pickled weights only": (
        pickle_only,
        r"has no safetensors weights in .*, only pytorch_model\.bin, .*: run `eigenprune models convert .* --out",
    ),
}


@pytest.mark.parametrize("name", sorted(SPOILED))
def test_a_spoiled_folder_is_one_sentence(folder: Path, tmp_path: Path, name: str) -> None:
    spoil, words = SPOILED[name]
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    spoil(copy)
    with pytest.raises(ModelError, match=words) as caught:
        load(str(copy))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_sizes_that_do_not_fit_the_weights_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    edit_config(copy, n_inner=28, intermediate_size=28)
    with pytest.raises(ModelError, match=r"of shape .*, but config\.json says"):
        load(str(copy))


def test_a_model_that_predicts_no_tokens_is_refused_by_name(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=22, **sizes)).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a BertModel, not a causal language model"):
        load(str(tmp_path))


def test_code_that_comes_with_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    edit_config(copy, model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"})
    with pytest.raises(ModelError, match=r"has a config\.json that transformers cannot use"):
        load(str(copy))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "/no/such/folder",
            "is not there: give bundled, smollm2-135m, gemma3-270m, a model folder, a .gguf file or a hub id",
        ),
        ("./here", "is not there"),
        ("a b", "is not there"),
        ("x" * 5000, "is not there"),
        ("~nobody-of-this-name/model", "is not there"),
        ("a/b/c", "is not there"),
        ("model\0", "is not there"),
        ("", "holds no config.json"),
        ("/no/such/file.gguf", r"there is no file /no/such/file\.gguf: check the path"),
        ("no--such/model..name", "is neither on the hub nor a local folder or file: check the name"),
    ],
)
def test_what_is_not_there_is_one_sentence(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=words) as caught:
        load(name)
    assert len(str(caught.value)) < 300


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"is neither a model folder nor a \.gguf file"):
        load(str(tmp_path / "model.bin"))


@pytest.mark.parametrize("offline", [True, False], ids=["told to stay offline", "no network"])
def test_without_network_a_hub_id_is_one_sentence(offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(ModelError, match="'nobody/nothing' is not on this machine and the Hugging Face hub cannot be"):
        load("nobody/nothing")


def test_any_other_failure_of_the_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("the peer closed the connection\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(
        ModelError, match=r"'a/b' could not be downloaded \(the peer closed the connection\): try again"
    ):
        load("a/b@main")


def test_types_and_devices_that_are_not_there_are_refused(folder: Path) -> None:
    with pytest.raises(SettingsError, match="dtype 'int8' is not known: choose one of float32"):
        load(str(folder), dtype="int8")
    with pytest.raises(ModelError, match="cannot be put on device 'nosuch'"):
        load(str(folder), device="nosuch")


def test_named_models_that_are_not_here_say_how_to_get_them(own_folders: Path) -> None:
    assert not available("smollm2-135m")
    with pytest.raises(ModelError, match="smollm2-135m is not on this machine yet: run `eigenprune models fetch smoll"):
        locate("smollm2-135m")
    with pytest.raises(ModelError, match="'gpt5' is not a model that can be fetched: choose one of bundled, smollm2"):
        fetch("gpt5")
    assert set(NAMED) == {"bundled", "smollm2-135m", "gemma3-270m"}
