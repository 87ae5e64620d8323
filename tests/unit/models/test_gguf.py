"""GGUF files: found by content, converted once, refused in one sentence."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path

import pytest

from explorer.core.errors import ModelError
from explorer.core.files import file_digest
from explorer.models import gguf, load
from tests import gguf_file

HEADER = b"GGUF\x03\x00\x00\x00"


def made(models: Path) -> dict[str, tuple[int, int]]:
    """The files of all converted models, each with what changes when it is written again."""
    files = (path for path in models.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(models)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def test_a_file_is_converted_once_and_found_by_content(tmp_path: Path) -> None:
    first, copy = tmp_path / "a.gguf", tmp_path / "b.gguf"
    gguf_file.write(first)
    shutil.copy(first, copy)
    told: list[float] = []
    folder = gguf.converted(first, tmp_path / "models", lambda done, total: told.append(done / total))
    before = made(tmp_path / "models")
    assert {Path(name).parts[0] for name in before} == {folder.name}
    assert gguf.converted(copy, tmp_path / "models") == folder
    assert made(tmp_path / "models") == before
    record = json.loads((folder / "source.json").read_text())
    assert record == {"origin": "a.gguf", "revision": file_digest(first)}
    assert told == sorted(told)
    copy.write_bytes(first.read_bytes() + bytes(32))
    other = gguf.converted(copy, tmp_path / "models")
    assert other != folder
    assert json.loads((other / "source.json").read_text())["origin"] == "b.gguf"
    after = made(tmp_path / "models")
    assert {name: after.get(name) for name in before} == before
    assert {Path(name).parts[0] for name in after} == {folder.name, other.name}


def test_a_converted_file_loads_like_a_folder(tmp_path: Path, own_folders: Path) -> None:
    path = gguf_file.write(tmp_path / "model.gguf")
    path.write_bytes(path.read_bytes() + b"to load")  # no other test has converted it
    before = made(own_folders / "cache" / "models")
    model = load(str(path))
    assert (model.architecture, model.source.name, model.source.origin) == ("LlamaForCausalLM", str(path), str(path))
    once = made(own_folders / "cache" / "models")
    assert len({Path(name).parts[0] for name in once.keys() - before.keys()}) == 1
    assert load(str(path)).digest == model.digest
    assert made(own_folders / "cache" / "models") == once


@pytest.mark.parametrize("content", [b"", b"GGU", b"PK\x03\x04 a zip", b"version https://git-lfs"])
def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"is not a GGUF file \(it does not begin with GGUF\): check the download"):
        load(str(path))


def test_a_damaged_file_is_refused_and_leaves_nothing(tmp_path: Path, own_folders: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(HEADER + b"\x00" * 40)
    before = sorted((own_folders / "cache" / "models").glob("[!.]*"))
    with pytest.raises(ModelError, match=r"cannot be converted \(.*\): check that it is a complete causal LM file"):
        load(str(path))
    assert sorted((own_folders / "cache" / "models").glob("[!.]*")) == before
    assert not list((own_folders / "cache" / "models").glob(".gguf-*-*"))


def test_a_folder_called_gguf_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").mkdir()
    with pytest.raises(ModelError, match="there is no file"):
        load(str(tmp_path / "model.gguf"))


def kv(name: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


def header(tensors: int, fields: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, fields) + rest


def array(kind: int, length: int, value: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, length) + value


ROOM = b"\0" * 4000
BROKEN: dict[str, tuple[bytes, str]] = {
    "nothing behind the magic": (b"GGUF", "it ends within its header"),
    "half a version": (b"GGUF\x03\0", "it ends within its header"),
    "another version": (header(1, 0, ROOM, version=7), "version 7 of the format"),
    "the other byte order": (b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + ROOM, "version 50331648 of the format"),
    "2^63 tensors": (header(2**63, 1, ROOM), "it says that it holds 9,223,372,036,854,775,808 tensors"),
    "no tensors": (header(0, 1, ROOM), "it says that it holds 0 tensors"),
    "2^40 fields": (header(1, 2**40, ROOM), "it says that it holds 1 tensors and 1,099,511,627,776 fields"),
    "a name of 2^50 letters": (header(1, 1, struct.pack("<Q", 2**50) + ROOM), "a name of 1,125,899,906,842,624 bytes"),
    "a text of 2^60 letters": (header(1, 1, kv("a", 8, struct.pack("<Q", 2**60)) + ROOM), "it ends within its header"),
    "an array of 2^60 numbers": (header(1, 1, kv("a", 9, array(4, 2**60)) + ROOM), "it ends within its header"),
    "an array of 2^60 texts": (header(1, 1, kv("a", 9, array(8, 2**60)) + ROOM), "it ends within its header"),
    "arrays in arrays": (
        header(1, 1, kv("a", 9, array(9, 1, array(9, 1, array(9, 1, array(9, 1))))) + ROOM),
        "a field of the unknown type 9",
    ),
    "a field of no type": (header(1, 1, kv("a", 77, b"") + ROOM), "a field of the unknown type 77"),
    "a tensor of no axes": (header(1, 0, struct.pack("<Q1sI", 1, b"x", 0) + ROOM), "the tensor 'x' has 0 axes"),
    "a tensor of 9 axes": (header(1, 0, struct.pack("<Q1sI", 1, b"x", 9) + ROOM), "the tensor 'x' has 9 axes"),
    "a tensor of 2^62 numbers": (
        header(1, 0, struct.pack("<Q1sIQQIQ", 1, b"x", 2, 2**31, 2**31, 0, 0) + ROOM),
        "the tensor 'x' has the shape",
    ),
    "a tensor behind the end": (
        header(1, 0, struct.pack("<Q1sIQIQ", 1, b"x", 1, 4, 0, 2**40) + ROOM),
        "it ends before its last tensor",
    ),
    "2^31 layers": (
        header(
            1,
            1,
            kv("llama.block_count", 4, struct.pack("<I", 2**31)) + struct.pack("<Q1sIQIQ", 1, b"x", 1, 4, 0, 0) + ROOM,
        ),
        r"llama\.block_count is 2147483648, more than its tensors hold",
    ),
    "2^31 numbers a token": (
        header(
            1,
            1,
            kv("llama.embedding_length", 4, struct.pack("<I", 2**31))
            + struct.pack("<Q1sIQIQ", 1, b"x", 1, 4, 0, 0)
            + ROOM,
        ),
        r"llama\.embedding_length is 2147483648, more than its tensors hold",
    ),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", BROKEN)
def test_a_header_that_cannot_be_is_a_sentence(tmp_path: Path, name: str) -> None:
    content, words = BROKEN[name]
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=rf"cannot be converted \({words}.*\): check that it is a complete") as caught:
        load(str(tmp_path / "model.gguf"))
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(60)
def test_a_file_that_is_cut_anywhere_is_a_sentence(tmp_path: Path) -> None:
    whole = gguf_file.write(tmp_path / "whole.gguf").read_bytes()
    path = tmp_path / "model.gguf"
    for length in [*range(4, 1200, 41), *range(1200, len(whole) - 32, 3000)]:
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match="cannot be converted"):
            load(str(path))


def test_any_name_and_no_name_of_a_gguf_file_loads(tmp_path: Path) -> None:
    first = load(str(gguf_file.write(tmp_path / "model.gguf")))
    assert first.tokenizer("abc")["input_ids"] == [gguf_file.TOKENS.index("ab"), gguf_file.TOKENS.index("c")]
    for name in ("model.GGUF", "Model.Gguf", "model", "model.bin", "a model.v1.Q4"):
        shutil.copy(tmp_path / "model.gguf", tmp_path / name)
        assert load(str(tmp_path / name)).digest == first.digest


def test_a_file_that_lacks_a_tensor_is_refused_by_its_name(tmp_path: Path) -> None:
    path = gguf_file.write(tmp_path / "model.gguf", left_out="blk.1.ffn_down.weight")
    with pytest.raises(ModelError, match=r"it lacks weights, such as model\.layers\.1\.mlp\.down_proj\.weight"):
        load(str(path))


def test_a_file_with_a_further_layer_is_refused(tmp_path: Path) -> None:
    path = gguf_file.write(tmp_path / "model.gguf", layers=1)
    with pytest.raises(ModelError, match=r"it holds blk\.1\..*, though it says that it has 1 layers"):
        load(str(path))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("blk.0.attn_q.bias", (24,)), ("blk.0.attn_q_norm.weight", (6,)), ("rope_freqs.weight", (3,)), ("extra", (2,))],
)
def test_tensors_that_would_be_left_out_are_refused_by_name(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    path = gguf_file.write(tmp_path / "model.gguf", added={name: shape})
    with pytest.raises(ModelError, match=rf"it holds weights that transformers leaves out, such as {name}\)"):
        load(str(path))


def test_nothing_that_lies_beside_a_gguf_file_is_read(tmp_path: Path) -> None:
    path = gguf_file.write(tmp_path / "model.gguf")
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json", "adapter_config.json"):
        os.mkfifo(tmp_path / name)
    assert load(str(path)).architecture == "LlamaForCausalLM"
