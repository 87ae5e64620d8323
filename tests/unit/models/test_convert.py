"""`.bin` checkpoints into safetensors: the same values, and no code is run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from explorer.cli import app
from explorer.core.errors import ModelError
from explorer.models import convert_bin, load
from tests import tiny


class Payload:
    """What a harmful file holds: reading it without care runs a command."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (f"touch {self.target}",)


def pickled(arch: str, path: Path, *, shards: int = 1, legacy: bool = False) -> dict[str, torch.Tensor]:
    """A tiny model as .bin files; returns what they hold."""
    tiny.save(arch, path)
    stored = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    files = ["pytorch_model.bin"] if shards == 1 else [f"pytorch_model-{n}.bin" for n in range(shards)]
    parts = {file: dict(list(stored.items())[n::shards]) for n, file in enumerate(files)}
    for file, part in parts.items():
        torch.save(part, path / file, _use_new_zipfile_serialization=not legacy)
    if shards > 1:
        listed = {name: file for file, part in parts.items() for name in part}
        (path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": listed}))
    return stored


@pytest.mark.slow
@pytest.mark.parametrize(("shards", "legacy"), [(1, False), (1, True), (3, False)])
def test_the_converted_model_is_the_same(arch: str, tmp_path: Path, shards: int, legacy: bool) -> None:
    stored = pickled(arch, tmp_path / "old", shards=shards, legacy=legacy)
    expected = load(str(tiny.save(arch, tmp_path / "same")))
    with pytest.raises(ModelError, match=r"only pytorch_model.*\.bin, whose format can hold code: run `eigenprune mod"):
        load(str(tmp_path / "old"))
    told: list[float] = []
    count = convert_bin(tmp_path / "old", tmp_path / "new", lambda done, total: told.append(done / total))
    assert count == len(stored)
    assert told[-1] == 1
    found = load(str(tmp_path / "new"))
    assert found.digest == expected.digest
    assert {one.name for one in tmp_path.iterdir()} == {"old", "same", "new"}


def test_types_and_shared_tensors_stay(tmp_path: Path) -> None:
    pickled("gpt2", tmp_path / "old")
    weights = torch.load(tmp_path / "old" / "pytorch_model.bin", weights_only=True)
    weights = {name: one.to(torch.bfloat16) for name, one in weights.items()}
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    torch.save(weights, tmp_path / "old" / "pytorch_model.bin")
    convert_bin(tmp_path / "old", tmp_path / "new")
    found = load_file(tmp_path / "new" / "model.safetensors")
    assert all(torch.equal(found[name], one) and found[name].dtype == one.dtype for name, one in weights.items())
    assert load(str(tmp_path / "new")).digest


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_file_is_not_run(tmp_path: Path, legacy: bool) -> None:
    pickled("llama", tmp_path / "old")
    torch.save(
        {"x": torch.ones(2), "y": Payload(tmp_path / "ran")},
        tmp_path / "old" / "pytorch_model.bin",
        _use_new_zipfile_serialization=not legacy,
    )
    with pytest.raises(ModelError, match=r"pytorch_model\.bin that cannot be read safely \(objects other than tensors"):
        convert_bin(tmp_path / "old", tmp_path / "new")
    assert {one.name for one in tmp_path.iterdir()} == {"old"}


def replace(path: Path, value: object) -> None:
    torch.save(value, path / "pytorch_model.bin")


def pipe(path: Path) -> None:
    (path / "pytorch_model.bin").unlink()
    os.mkfifo(path / "pytorch_model.bin")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing to convert": (lambda path: (path / "pytorch_model.bin").unlink(), "has neither pytorch_model.bin nor"),
    "no config": (lambda path: (path / "config.json").unlink(), r"has no config\.json"),
    "text": (lambda path: (path / "pytorch_model.bin").write_text("version https://git-lfs"), "cannot be read safely"),
    "empty": (lambda path: (path / "pytorch_model.bin").write_bytes(b""), "cannot be read safely"),
    "cut": (
        lambda path: (path / "pytorch_model.bin").write_bytes((path / "pytorch_model.bin").read_bytes()[:-200]),
        "cannot be read safely",
    ),
    "a pipe": (pipe, "is no ordinary file"),
    "a list": (lambda path: replace(path, [torch.ones(1)]), "holds no weights by name"),
    "an empty dict": (lambda path: replace(path, {}), "holds no weights by name"),
    "numbers": (lambda path: replace(path, {"step": 3}), "with 'step', which is no dense tensor"),
    "a sparse tensor": (lambda path: replace(path, {"x": torch.eye(3).to_sparse()}), "which is no dense tensor"),
    "an adapter": (lambda path: (path / "adapter_config.json").write_text("{}"), "has an adapter"),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_converted_is_a_sentence_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    spoil, words = BROKEN[name]
    pickled("gpt2", tmp_path / "old")
    spoil(tmp_path / "old")
    with pytest.raises(ModelError, match=words):
        convert_bin(tmp_path / "old", tmp_path / "new")
    assert {one.name for one in tmp_path.iterdir()} == {"old"}


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("../elsewhere.bin", "names files outside its folder"),
        ("gone.bin", r"has no gone\.bin"),
        ("pytorch_model-1.bin", r"lacks the weight .*, which its index says is in pytorch_model-1\.bin"),
    ],
)
def test_an_index_must_be_right(tmp_path: Path, file: str, words: str) -> None:
    pickled("gpt2", tmp_path / "old", shards=2)
    index = tmp_path / "old" / "pytorch_model.bin.index.json"
    listed = json.loads(index.read_text())["weight_map"]
    first = next(name for name, where in listed.items() if where == "pytorch_model-0.bin")
    index.write_text(json.dumps({"weight_map": {**listed, first: file}}))
    with pytest.raises(ModelError, match=words):
        convert_bin(tmp_path / "old", tmp_path / "new")


def test_a_folder_that_is_there_stays(tmp_path: Path) -> None:
    pickled("gpt2", tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    with pytest.raises(ModelError, match="is there already: give --out the name of a new folder"):
        convert_bin(tmp_path / "old", tmp_path / "new")


def test_the_command_converts_and_refuses(tmp_path: Path) -> None:
    stored = pickled("llama", tmp_path / "old")
    words = ["models", "convert", str(tmp_path / "old"), "--out", str(tmp_path / "new"), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"folder": str(tmp_path / "new"), "tensors": len(stored)}
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2
    assert "is there already" in again.stderr


def test_pickled_files_that_cannot_be_converted_are_not_said_to_be(tmp_path: Path) -> None:
    folder = tiny.save("gpt2", tmp_path / "old")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "training_args.bin")
    with pytest.raises(ModelError, match=r"only training_args\.bin.* give its weights the name pytorch_model\.bin"):
        load(str(folder))
