"""Exported folders against plain transformers, peft and TransformerLens, with masks put on by hand as the reference."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from explorer.core.errors import ExplorerError, ExportError, MaskError, SettingsError
from explorer.core.keys import Kind
from explorer.export import FORMATS
from explorer.export.edit import zeroed
from explorer.export.run import Exported, Order, export
from explorer.masks.apply import empty_mask
from explorer.masks.mask import Mask
from explorer.measure.evaluate import evaluate
from explorer.models import Model, View, load
from explorer.models.model import copy_bridge
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests import plain, removal, tiny
from tests.unit.export.conftest import MaskMaker, in_process

TOKENS = torch.tensor([[0, 5, 9, 3, 11, 7]])


def exported(view: View, mask: Mask, svds: SvdCache, out: Path, sort: str, **options: Any) -> Exported:
    order = Order(sort, out, (tiny.task(),), **options)
    return export(view, mask, svds, order=order, forms=FORMATS, run=in_process)


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(TOKENS).logits
    return found


@pytest.mark.parametrize("mode", ["freeze", "zero"])
@pytest.mark.parametrize("per_head", [True, False], ids=["per head", "stacked"])
def test_a_checkpoint_is_the_model_pruned_by_hand(
    view64: View, plain64: Any, svds: SvdCache, some_values: MaskMaker, tmp_path: Path, mode: Any, per_head: bool
) -> None:
    mask = some_values(view64, list(view64_kinds(view64)), mode, count=12, per_head=per_head)
    made = exported(view64, mask, svds, tmp_path / "out", "checkpoint")
    loaded = plain.load_plain(tmp_path / "out", torch.float64)
    by_hand = logits(removal.masked(plain64, mask))
    torch.testing.assert_close(logits(loaded), by_hand, rtol=0, atol=1e-8)
    assert (logits(plain64) - by_hand).abs().max() > 1e-3
    assert made.checked.difference <= made.checked.limit == pytest.approx(1e-4)


def view64_kinds(view: View) -> tuple[Kind, ...]:
    return tuple(tiny.KINDS["llama" if "Llama" in view.model.architecture else "gpt2"])


def test_the_export_says_what_it_is(
    model: Model, view: View, svds: SvdCache, some_values: MaskMaker, tmp_path: Path
) -> None:
    mask = some_values(view, [Kind.K])
    made = exported(view, mask, svds, tmp_path / "out", "checkpoint")
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert config["eigenprune"]["mask_digest"] == mask.digest
    assert config["eigenprune"]["base_digest"] == model.digest
    again = load(str(tmp_path / "out"), dtype="float32")
    assert again.digest != model.digest
    assert evaluate(again.view(), tiny.task(), "test").loss == pytest.approx(made.measured[0][1].masked.loss, abs=1e-5)
    with pytest.raises(MaskError):
        exported(again.view(), mask, svds, tmp_path / "twice", "checkpoint")
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for said in (mask.digest, model.digest, "from_pretrained", "not the original model"):
        assert said in readme
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("w1 w2")["input_ids"] == [3, 4]
    assert view.applied == {}


def test_an_adapter_is_exact_padded_and_merges(
    view64: View, plain64: Any, svds: SvdCache, some_values: MaskMaker, tmp_path: Path
) -> None:
    mask = some_values(view64, [Kind.Q, Kind.O, Kind.OUT], "zero", count=9)
    made = exported(view64, mask, svds, tmp_path / "out", "lora")
    assert set(made.checked.ways) == {"loaded", "saved again", "merged"}
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text(encoding="utf-8"))
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert config["lora_bias"] is False
    assert not any(name.endswith("bias") for name in tensors)
    assert config["r"] == config["lora_alpha"]
    assert {one.shape[0] for name, one in tensors.items() if "lora_A" in name} == {config["r"]}
    by_hand = removal.masked(plain64, mask)
    for name, one in by_hand.named_parameters():
        module = name.removesuffix(".weight")
        if (A := tensors.get(f"base_model.model.{module}.lora_A.weight")) is not None:
            change = tensors[f"base_model.model.{module}.lora_B.weight"] @ A
            base = plain64.get_parameter(name)
            change = change.T if "gpt2" in plain64.config.model_type else change
            torch.testing.assert_close(base + change, one, rtol=0, atol=1e-10)


def test_more_values_than_a_module_is_wide_stay_exact(
    view: View, svds: SvdCache, some_values: MaskMaker, tmp_path: Path
) -> None:
    mask = some_values(view, [Kind.O], "zero", count=1000)
    made = exported(view, mask, svds, tmp_path / "out", "lora")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["r"] <= 16
    assert made.checked.difference <= 1e-4


def test_vllm_gets_its_ranks_and_no_biases(view: View, svds: SvdCache, some_values: MaskMaker, tmp_path: Path) -> None:
    mask = some_values(view, [Kind.V])
    with pytest.raises(ExportError, match=r"vLLM reads no biases.*--zero"):
        exported(view, mask, svds, tmp_path / "out", "lora", reader="vllm")
    assert list(tmp_path.iterdir()) == []
    exported(view, zeroed(mask), svds, tmp_path / "out", "lora", reader="vllm")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["r"] in (1, 8)


def test_frozen_keys_need_no_bias_where_positions_are_not_rotary(
    arch: str, view: View, svds: SvdCache, some_values: MaskMaker, tmp_path: Path
) -> None:
    made = exported(view, some_values(view, [Kind.K]), svds, tmp_path / "out", "lora")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["lora_bias"] is (arch == "llama")
    assert any("left out" in note for note in made.notes) is (arch == "gpt2")


def test_hooks_go_onto_a_model_and_a_bridge_and_come_off(
    model: Model, view: View, folder: Path, svds: SvdCache, some_values: MaskMaker, tmp_path: Path, monkeypatch: Any
) -> None:
    mask = some_values(view, list(view64_kinds(view)), count=12)
    exported(view, mask, svds, tmp_path / "out", "hooks")
    file = (tmp_path / "out" / "eigenprune_hooks.py").read_text(encoding="utf-8")
    assert len(file.splitlines()) <= 60
    assert "explorer" not in "".join(line for line in file.splitlines() if "import" in line)
    monkeypatch.syspath_prepend(str(tmp_path / "out"))
    monkeypatch.delitem(sys.modules, "eigenprune_hooks", raising=False)
    from eigenprune_hooks import apply

    plain_model = plain.load_plain(folder)
    by_hand, before = logits(removal.masked(plain_model, mask)), logits(plain_model)
    bridge = copy_bridge(model.bridge)
    on_bridge = bridge.original_model(TOKENS).logits
    for target, run in ((plain_model, lambda: logits(plain_model)), (bridge, lambda: bridge(TOKENS))):
        undo = apply(target)
        torch.testing.assert_close(run(), by_hand, rtol=0, atol=1e-4)
        undo()
    assert torch.equal(logits(plain_model), before)
    assert torch.equal(bridge.original_model(TOKENS).logits, on_bridge)


@pytest.mark.parametrize("sort", ["checkpoint", "lora", "hooks"])
def test_masks_of_the_folded_basis_are_unfolded(
    arch: str, folder: Path, svds: SvdCache, some_values: MaskMaker, tmp_path: Path, sort: str
) -> None:
    view = load(str(folder), basis="folded", dtype="float32", device="cpu").view()
    mask = some_values(view, list(tiny.KINDS[arch]), count=12)
    made = exported(view, mask, svds, tmp_path / "out", sort)
    assert made.checked.difference <= made.checked.limit


def test_what_is_there_stays(view: View, svds: SvdCache, some_values: MaskMaker, tmp_path: Path) -> None:
    mask, out = some_values(view, [Kind.K]), tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(ExportError, match="holds other things than an export"):
            exported(view, mask, svds, out, "hooks", force=force)
    (out / "thesis.txt").unlink()
    first = exported(view, mask, svds, out, "hooks")
    with pytest.raises(ExportError, match="--force"):
        exported(view, mask, svds, out, "hooks")
    (out / "note.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"holds note\.txt, which is no part of the export"):
        exported(view, mask, svds, out, "lora", force=True)
    assert (out / "note.txt").read_text() == "mine"
    (out / "note.txt").unlink()
    exported(view, zeroed(mask), svds, out, "lora", force=True)
    assert (out / "adapter_config.json").is_file()
    assert not (out / "eigenprune_hooks.py").exists()
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    assert first.size == sum(first.files.values())
    with pytest.raises(ExportError, match="no folder"):
        exported(view, mask, svds, out / "README.md", "hooks")


def test_a_full_disk_leaves_nothing_and_the_old_export(
    view: View, svds: SvdCache, some_values: MaskMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask, out = some_values(view, [Kind.K]), tmp_path / "out"
    exported(view, mask, svds, out, "lora")
    before = {one.name: one.read_bytes() for one in out.iterdir()}

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("explorer.export.lora.save_file", full)
    with pytest.raises(ExportError, match="No space left on device"):
        exported(view, mask, svds, out, "lora", force=True)
    assert {one.name: one.read_bytes() for one in out.iterdir()} == before
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    assert view.applied == {}


def test_a_wrong_export_is_found_and_not_left(
    view: View, svds: SvdCache, some_values: MaskMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubled(tensors: dict[str, Tensor], path: Path, metadata: Any = None) -> None:
        save_file({name: 2 * one for name, one in tensors.items()}, path, metadata=metadata)

    monkeypatch.setattr("explorer.export.lora.save_file", doubled)
    with pytest.raises(ExportError, match=r"peft .* differs by .* nats from the pruned model"):
        exported(view, some_values(view, [Kind.V, Kind.O]), svds, tmp_path / "out", "lora")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_a_sentence(
    model: Model, view: View, svds: SvdCache, some_values: MaskMaker, tmp_path: Path
) -> None:
    mask = some_values(view, [Kind.K])
    with pytest.raises(MaskError, match="removes nothing"):
        exported(view, empty_mask(model), svds, tmp_path / "out", "lora")
    for order in (Order("onnx", tmp_path / "out", (tiny.task(),)), Order("hooks", tmp_path, (), reader="vllm")):
        with pytest.raises(ExplorerError):
            export(view, mask, svds, order=order, forms=FORMATS, run=in_process)
    with pytest.raises(SettingsError, match="about adapters"):
        exported(view, mask, svds, tmp_path / "out", "checkpoint", reader="vllm")


@pytest.mark.slow
def test_another_process_reads_it_without_the_explorer(
    view: View, svds: SvdCache, some_values: MaskMaker, tmp_path: Path
) -> None:
    order = Order("checkpoint", tmp_path / "out", (tiny.task(),))
    made = export(view, some_values(view, [Kind.Q, Kind.OUT]), svds, order=order, forms=FORMATS)
    assert made.checked.ways == ("loaded",)
    code = (
        "import sys, json, torch, transformers; m = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1]);"
        "print(json.dumps([m(torch.tensor([[0, 5, 9]])).logits[0, -1].tolist(), 'explorer' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", code, str(tmp_path / "out")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said, ours = json.loads(done.stdout.splitlines()[-1])
    here = AutoModelForCausalLM.from_pretrained(tmp_path / "out")(torch.tensor([[0, 5, 9]])).logits[0, -1]
    assert said == pytest.approx(here.tolist(), abs=1e-6)
    assert ours is False


def test_a_client_that_fails_leaves_nothing(
    view: View, svds: SvdCache, some_values: MaskMaker, tmp_path: Path, tiny_task: Task
) -> None:
    def fails(job: Any, file: Path) -> None:
        raise ExportError(f"{job['client']} does not read the export (broken): nothing was written.")

    order = Order("checkpoint", tmp_path / "out", (tiny_task,))
    with pytest.raises(ExportError, match=r"transformers .* does not read"):
        export(view, some_values(view, [Kind.K]), svds, order=order, forms=FORMATS, run=fails)
    assert list(tmp_path.iterdir()) == []
