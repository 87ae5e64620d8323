"""Exports of the basis `delta`: peft and plain transformers on the base, with weights by hand as the reference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explorer.attribution import score
from explorer.core.errors import ExportError
from explorer.export import FORMATS
from explorer.export.push import packed
from explorer.export.run import Exported, Order, export
from explorer.masks.mask import Mask
from explorer.models import View, load
from explorer.models.matrices import matrices
from explorer.search import mask_of
from explorer.spectra.cache import SvdCache
from tests import tiny
from tests.unit.export.conftest import in_process
from tests.unit.models.test_adapters import trained
from tests.unit.models.test_delta import perturbed, perturbed_rest, unpruned_by_values

RANK = 3
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture
def delta(arch: str, folder: Path, tmp_path: Path) -> View:
    """A tiny model with an adapter of rank 3, beside the model without it."""
    adapter = trained(folder, arch, tmp_path / "adapter", r=RANK)
    return load(f"{folder}+adapter={adapter}", basis="delta", against=str(folder), dtype="float32").view()


def largest_of(view: View, svds: SvdCache, count: int, mode: str = "zero") -> Mask:
    """The largest values of every whole matrix, as a mask."""
    scores = score(view, tiny.task(), svds, keys=matrices(view, per_head=False), mode=mode)  # type: ignore[arg-type]
    chosen = [scores.removed(key, i) for key, usable in scores.usable.items() for i in usable[:count]]
    return mask_of(view, scores, chosen)


def exported(view: View, mask: Mask, svds: SvdCache, out: Path, sort: str, *, zero: bool = False) -> Exported:
    order = Order(sort, out, (tiny.task(),), zero=zero)
    return export(view, mask, svds, order=order, forms=FORMATS, run=in_process)


@pytest.mark.parametrize("mode", ["zero", "freeze"])
def test_an_adapter_on_the_base_is_smaller(
    delta: View, arch: str, folder: Path, svds: SvdCache, tmp_path: Path, mode: str
) -> None:
    mask = largest_of(delta, svds, 2, mode)
    made = exported(delta, mask, svds, tmp_path / "out", "lora")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text(encoding="utf-8"))
    if arch == "llama":  # GPT-2 stores Q, K and V in one module, which needs what each of them keeps
        assert config["r"] == RANK - 2
    assert config["r"] <= RANK
    assert (config["base_model_name_or_path"], config["lora_bias"]) == (folder.name, mode == "freeze")
    assert made.checked.difference <= made.checked.limit == pytest.approx(1e-4)
    parcel = packed(tmp_path / "out", "me/it", FORMATS)
    assert f'from_pretrained("path/to/{folder.name}")' in parcel.card
    assert "the difference from" in parcel.card
    known = json.loads((tmp_path / "out" / "mask.json").read_text(encoding="utf-8"))["model"]
    assert known["against"]["source"] == folder.name
    assert str(tmp_path) not in json.dumps(known)


@pytest.mark.parametrize("sort", ["checkpoint", "hooks"])
def test_other_formats_hold_what_is_left(delta: View, svds: SvdCache, tmp_path: Path, sort: str) -> None:
    made = exported(delta, largest_of(delta, svds, 1), svds, tmp_path / "out", sort)
    assert made.checked.difference <= made.checked.limit
    assert "the difference from" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_what_no_adapter_holds_is_refused(delta: View, folder: Path, svds: SvdCache, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="nothing of the fine-tuning is left"):
        exported(delta, unpruned_by_values(delta, svds), svds, tmp_path / "out", "lora")
    both = perturbed(perturbed_rest(folder, tmp_path / "rest"), tmp_path / "both")
    view = load(str(both), basis="delta", against=str(folder), dtype="float32").view()
    with pytest.raises(ExportError, match=r"differs from .* in .*(wte|embed_tokens).*, too, which no adapter"):
        exported(view, largest_of(view, svds, 1), svds, tmp_path / "out", "lora")
    exported(view, largest_of(view, svds, 1), svds, tmp_path / "out", "checkpoint")
    full = perturbed(folder, tmp_path / "full")
    view = load(str(full), basis="delta", against=str(folder), dtype="float32").view()
    exported(view, largest_of(view, svds, 1), svds, tmp_path / "adapter of all", "lora")
