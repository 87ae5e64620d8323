"""Spectra from safetensors files: those of the loaded model, in a bounded memory, and sentences for broken files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from explorer.core.errors import MatrixError, ModelError
from explorer.core.keys import Kind, MatrixKey
from explorer.models import load, locate
from explorer.models import matrices as registry
from explorer.models.files import INDEX
from explorer.spectra.checkpoint import Checkpoint
from tests import tiny
from tests.families import FAMILIES

LAYOUTS = ["gpt2", "neox", "opt", "phi3", "llama", "gemma2", "falcon", "falcon-grouped", "falcon-heads", "bloom"]


def checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint(locate(str(folder)))


@pytest.fixture(scope="module", params=LAYOUTS)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES[request.param].save(tmp_path_factory.mktemp(request.param))


@pytest.mark.slow
@pytest.mark.parametrize("piece", [16 << 20, 200])
def test_values_are_those_of_the_loaded_model(stored: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.spectra.checkpoint.PIECE", piece)  # 200 bytes: one or two rows at a time
    view, opened = load(str(stored)).view(), checkpoint(stored)
    for per_head in (True, False):
        keys = registry.matrices(view, per_head=per_head)
        assert opened.matrices(per_head=per_head) == keys
        for key in keys:
            found = opened.spectrum(key)
            W = registry.read(view, key).double().numpy()
            assert (found.d_in, found.d_out) == W.shape
            np.testing.assert_allclose(found.s.numpy(), np.linalg.svd(W, compute_uv=False), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_values_are_those_of_the_stored_type(dtype: torch.dtype, tmp_path: Path) -> None:
    tiny.architecture("llama").to(dtype).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    found = checkpoint(tmp_path).spectrum(MatrixKey(1, Kind.OUT))
    expected = np.linalg.svd(weights["model.layers.1.mlp.down_proj.weight"].double().numpy(), compute_uv=False)
    np.testing.assert_allclose(found.s.numpy(), expected, rtol=1e-9)


def test_a_sharded_checkpoint_is_one(arch: str, tmp_path: Path) -> None:
    model = tiny.architecture(arch)
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "parts", max_shard_size="4KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2
    assert (tmp_path / "parts" / INDEX).is_file()
    whole, parts = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    for key in whole.matrices():
        assert torch.equal(parts.spectrum(key).s, whole.spectrum(key).s)


def test_a_bare_base_model_has_the_same_matrices(arch: str, tmp_path: Path) -> None:
    """GPT-2 and BLOOM lie on the hub without the first part of their tensors' names."""
    path = tiny.save(arch, tmp_path)
    before = checkpoint(path)
    expected = [before.spectrum(key).s for key in before.matrices()]
    weights = load_file(path / "model.safetensors")
    prefix = "transformer." if arch == "gpt2" else "model."
    save_file({name.removeprefix(prefix): one for name, one in weights.items()}, path / "model.safetensors")
    after = checkpoint(path)
    assert all(torch.equal(after.spectrum(key).s, s) for key, s in zip(after.matrices(), expected, strict=True))


def store(folder: Path, config: LlamaConfig, weights: dict[str, torch.Tensor]) -> None:
    """A whole Llama with these weights among its own."""
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    others = LlamaForCausalLM(config).state_dict()
    assert set(weights) <= set(others)
    save_file({name: one.contiguous() for name, one in {**others, **weights}.items()}, folder / "model.safetensors")


SPECTRA = {
    "well conditioned": [3.0, 2.0, 1.0, 0.5],
    "condition 1e10": [1.0, 1e-3, 1e-7, 1e-10],
    "rank two": [2.0, 1.0, 0.0, 0.0],
    "zero": [0.0, 0.0, 0.0, 0.0],
    "tiny": [1e-20, 1e-21, 1e-22, 1e-23],
}


@pytest.mark.parametrize("name", SPECTRA)
def test_spectra_of_any_condition(name: str, tmp_path: Path) -> None:
    config = LlamaConfig(
        hidden_size=4, intermediate_size=9, num_hidden_layers=1, num_attention_heads=1, vocab_size=8, head_dim=4
    )
    s = SPECTRA[name]
    u = torch.linalg.qr(torch.randn(9, 4, dtype=torch.float64)).Q
    v = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    W = u @ torch.diag(torch.tensor(s, dtype=torch.float64)) @ v
    names = {"mlp.down_proj": W.T, "self_attn.o_proj": torch.eye(4), "mlp.up_proj": W}
    store(tmp_path, config, {f"model.layers.0.{name}.weight": one for name, one in names.items()})
    for kind in (Kind.OUT, Kind.IN):
        found = checkpoint(tmp_path).spectrum(MatrixKey(0, kind)).s.numpy()
        np.testing.assert_allclose(found, s, rtol=1e-5, atol=1e-15 * s[0])


MEASURE = """
import json, sys
from explorer.spectra import checkpoint
from explorer.core.keys import Kind, MatrixKey
from explorer.models import locate

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024

checkpoint.PIECE = 1 << 20
opened = checkpoint.Checkpoint(locate(sys.argv[1]))
for layer in (0, 1):
    opened.spectrum(MatrixKey(layer, Kind.Q, 0))  # both ways once: libraries have their buffers now
open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from here
start = peak()
for key in opened.matrices():
    opened.spectrum(key)
print(json.dumps(peak() - start))
"""


@pytest.mark.slow
def test_memory_stays_below_two_matrices(tmp_path: Path) -> None:
    width, inner, layers = 768, 3072, 2
    config = LlamaConfig(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=8, vocab_size=8
    )
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for layer in range(layers):
        for name, shape in (
            *((f"self_attn.{one}_proj", (width, width)) for one in "qkvo"),
            *((f"mlp.{one}_proj", (inner, width)) for one in ("gate", "up")),
            ("mlp.down_proj", (width, inner)),
        ):
            weights[f"model.layers.{layer}.{name}.weight"] = torch.randn(*shape, generator=generator)
    for name in ("mlp.up", "self_attn.q"):
        weights[f"model.layers.1.{name}_proj.weight"][:, 0] = 0  # one null value: these take LAPACK's way
    weights["model.layers.1.self_attn.q_proj.weight"][0] = 0
    store(tmp_path, config, weights)
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    freed = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 19)}  # what is freed goes back at once and is not counted
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=freed)
    largest, total = 4 * width * inner, sum(4 * weight.numel() for weight in weights.values())
    peak = json.loads(found.stdout.splitlines()[-1])
    assert peak <= 2 * largest + (10 << 20), f"{peak / largest:.2f} matrices, {peak}"
    assert total > 7 * largest


def test_the_choice_of_matrices(folder: Path, arch: str) -> None:
    opened = checkpoint(folder)
    keys = opened.matrices((Kind.K, Kind.OUT), (1,), per_head=True)
    heads = [f"L1.K.H{head}" for head in range(tiny.KV_HEADS[arch])]
    assert [str(key) for key in keys] == [*heads, "L1.OUT"]
    with pytest.raises(MatrixError, match="layer 7 is out of range: the model has layers 0 to 1"):
        opened.matrices(layers=(7,))
    if arch == "gpt2":
        with pytest.raises(MatrixError, match="has no GATE matrices: choose from Q, K, V, O, IN, OUT"):
            opened.matrices((Kind.GATE,))


def edit(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(path / "model.safetensors")
    change(weights)
    save_file({name: one.contiguous() for name, one in weights.items()}, path / "model.safetensors")


def only_index(path: Path, text: str) -> None:
    """An index counts only where there is no model.safetensors, as for transformers."""
    (path / "model.safetensors").unlink()
    (path / INDEX).write_text(text)


NAME = "model.layers.0.mlp.down_proj.weight"
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda path: (path / "model.safetensors").unlink(), "has no safetensors weights in"),
    "cut": (
        lambda path: (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:-100]),
        r"cannot be read \(.*\): check",
    ),
    "a missing matrix": (
        lambda path: edit(path, lambda weights: weights.pop(NAME)),
        f"lacks 1 of its weights, such as {NAME}",
    ),
    "not a number": (
        lambda path: edit(path, lambda weights: weights[NAME].fill_(float("nan"))),
        "L0.OUT of .* holds NaN or infinite weights",
    ),
    "another shape": (
        lambda path: edit(path, lambda weights: weights.update({NAME: weights[NAME][None]})),
        rf"has {NAME} of shape \[1, 16, 20\], but config.json says \[16, 20\]",
    ),
    "other heads": (
        lambda path: edit(
            path, lambda weights: weights.update({(name := NAME.replace("mlp.down", "self_attn.k")): weights[name][:5]})
        ),
        r"k_proj.weight of shape \[5, 16\], but config.json says \[12, 16\]: check that its files belong together",
    ),
    "an index that is no index": (lambda path: only_index(path, "[]"), r"has a model.safetensors.index.json that"),
    "an index without a map": (lambda path: only_index(path, "{}"), "without a usable weight_map: get it again"),
    "an index that leads away": (
        lambda path: only_index(path, json.dumps({"weight_map": {NAME: "../model.safetensors"}})),
        "names files outside its folder",
    ),
    "a missing shard": (
        lambda path: only_index(path, json.dumps({"weight_map": {NAME: "gone.safetensors"}})),
        "has no gone.safetensors in .*: check that it is complete",
    ),
    "an unknown family": (
        lambda path: (path / "config.json").write_text(
            json.dumps({"model_type": "mamba", "architectures": ["MambaForCausalLM"]})
        ),
        "is a MambaForCausalLM, whose matrices are not in the registry",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_checkpoints_are_a_sentence(name: str, tmp_path: Path) -> None:
    path = tiny.save("llama", tmp_path)
    spoil, sentence = BROKEN[name]
    spoil(path)

    def read() -> None:
        opened = checkpoint(path)
        for key in opened.matrices():
            opened.spectrum(key)

    with pytest.raises(ModelError, match=sentence):
        read()
