"""GGUF files: llama.cpp's own converter writes them and its own server reads them; weights are those pruned by hand."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from gguf.quants import dequantize

from explorer.core.errors import ExportError
from explorer.core.keys import Kind
from explorer.export import FORMATS
from explorer.export.base import Order
from explorer.export.gguf_file import FILE, converter
from explorer.export.run import Exported, export
from explorer.masks.mask import Mask
from explorer.models import View, load
from explorer.spectra.cache import SvdCache
from tests import plain, removal, sentence_pieces, tiny
from tests.unit.export.conftest import MaskMaker


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_pieces.save(tmp_path_factory.mktemp("gguf") / "base")


@pytest.fixture
def llama(base: Path) -> View:
    return load(str(base), dtype="float32", device="cpu").view()


def exported(view: View, mask: Mask, svds: SvdCache, out: Path, **options: Any) -> Exported:
    return export(view, mask, svds, order=Order("gguf", out, (tiny.task(),), **options), forms=FORMATS)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["freeze", "zero"])
def test_llama_cpp_reads_what_was_pruned_by_hand(
    llama: View, base: Path, svds: SvdCache, some_values: MaskMaker, tmp_path: Path, mode: Any
) -> None:
    mask = some_values(llama, list(tiny.KINDS["llama"]), mode, count=14)
    made = exported(llama, mask, svds, tmp_path / "out")
    assert made.checked.ways == ("llama.cpp",)
    assert made.checked.difference <= made.checked.limit == pytest.approx(1e-3)
    assert sorted(made.files) == ["README.md", "eigenprune.json", FILE, "mask.json"]
    reader = GGUFReader(tmp_path / "out" / FILE)
    assert reader.fields["eigenprune.mask_digest"].contents() == mask.digest
    by_hand = removal.masked(plain.load_plain(base), mask).state_dict()
    tensors = {one.name: torch.from_numpy(np.array(dequantize(one.data, one.tensor_type))) for one in reader.tensors}
    for there, here in (("blk.1.attn_v", "layers.1.self_attn.v_proj"), ("blk.0.ffn_down", "layers.0.mlp.down_proj")):
        torch.testing.assert_close(
            tensors[f"{there}.weight"], by_hand[f"model.{here}.weight"].float(), rtol=0, atol=1e-5
        )
    assert ("blk.1.attn_v.bias" in tensors) is (mode == "freeze")


@pytest.mark.slow
def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused_and_nothing_is_left(
    view: View, svds: SvdCache, some_values: MaskMaker, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"converter does not take this \w+ \(.+\): export --as checkpoint"):
        exported(view, some_values(view, [Kind.Q]), svds, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_without_a_converter_nothing_begins(
    llama: View, svds: SvdCache, some_values: MaskMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EIGENPRUNE_LLAMA_CPP", str(tmp_path))
    with pytest.raises(ExportError, match=r"holds no convert_hf_to_gguf\.py: name a checkout"):
        exported(llama, some_values(llama, [Kind.Q]), svds, tmp_path / "out")
    monkeypatch.delenv("EIGENPRUNE_LLAMA_CPP")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(ExportError, match=r"converter is not installed: .*--target"):
        exported(llama, some_values(llama, [Kind.Q]), svds, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_checkout_of_llama_cpp_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = converter()
    shutil.copy(own, tmp_path)
    monkeypatch.setenv("EIGENPRUNE_LLAMA_CPP", str(tmp_path))
    assert converter() == tmp_path / own.name


@pytest.mark.slow
def test_a_wrong_file_is_found(llama: View, svds: SvdCache, some_values: MaskMaker, tmp_path: Path) -> None:
    from explorer.export.verify import another_process

    def damaged(job: Any, file: Path) -> None:
        reader = GGUFReader(Path(job["folder"]) / FILE, "r+")
        tensor = next(one for one in reader.tensors if one.name == "blk.0.attn_v.weight")
        tensor.data[:] *= 2
        reader.data.flush()
        another_process(job, file)

    order = Order("gguf", tmp_path / "out", (tiny.task(),))
    with pytest.raises(ExportError, match=r"xllamacpp .* differs by"):
        export(llama, some_values(llama, [Kind.V]), svds, order=order, forms=FORMATS, run=damaged)
    assert list(tmp_path.iterdir()) == []
