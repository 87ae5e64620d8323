"""The basis `delta`: numpy's decomposition of PEFT's and transformers' own weights, and the base again at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

import explorer as ep
from explorer.attribution import score
from explorer.attribution.exact import exact_effects
from explorer.core.errors import MaskError, ModelError, SettingsError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask, Removed, load_mask
from explorer.measure.batches import batches
from explorer.measure.opened import ModelAndTask
from explorer.models import Model, View, load
from explorer.models.matrices import matrices, read, read_base
from explorer.search.controls import random_pool
from explorer.search.report_file import load_report
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests import families, plain, tiny
from tests.commands import refused, report
from tests.unit.models.test_adapters import trained

RANK = 3
TOKENS = torch.tensor([[0, 5, 9, 3, 11, 7]])
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@dataclass(frozen=True)
class Tuned:
    """A base, a model that was made of it, and that model in the basis `delta`."""

    base: Path
    name: str
    model: Model

    @property
    def plain(self) -> Any:
        return plain.load_plain(self.base)


@pytest.fixture(scope="module")
def adapter(arch: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(folder, arch, tmp_path_factory.mktemp("adapter") / "adapter", r=RANK)


@pytest.fixture(scope="module")
def adapted(arch: str, folder: Path, adapter: Path, own_folders: Path) -> Tuned:
    with pytest.MonkeyPatch.context() as here:
        here.setenv("EIGENPRUNE_CACHE", str(own_folders / "cache"))
        name = f"{folder}+adapter={adapter}"
        return Tuned(folder, name, load(name, basis="delta", against=str(folder), dtype="float32"))


def perturbed(folder: Path, out: Path, dtype: torch.dtype = torch.float32, *, also: str = "") -> Path:
    """A fine-tune: all matrices of a folder's blocks moved a little, and what `also` names."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            within = ".layers." in name or ".h." in name
            if weight.ndim == 2 and (within or (also and also in name)):
                weight.add_(0.02 * torch.randn_like(weight))
    model.to(dtype).save_pretrained(out)
    tiny.tokenizer().save_pretrained(out)
    return out


def unpruned_by_values(view: View, svds: SvdCache) -> Mask:
    """The mask that removes every value that there is, without frozen means."""
    found = [
        Removed(matrix=str(key), index=i, sigma=float(s[i]))
        for key in matrices(view)
        for s in (svds.get(view, key).s,)
        for i in s.nonzero().flatten().tolist()
    ]
    return empty_mask(view.model, "zero").with_removed(found)


def said(model: Any) -> Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(TOKENS).logits.log_softmax(dim=-1))


def test_an_adapter_has_its_rank_in_values_and_none_elsewhere(adapted: Tuned, arch: str, svds: SvdCache) -> None:
    view, unadapted = adapted.model.view(), load(str(adapted.base), dtype="float32").view()
    changed = {"gpt2": ("Q", "K", "V", "O", "OUT"), "llama": ("Q", "V", "OUT")}[arch]
    for key in matrices(view, per_head=False):
        found = svds.get(view, key)
        D = (read_base(view, key).double() - read_base(unadapted, key).double()).numpy()
        count = int((found.s != 0).sum())
        assert count == (RANK if str(key.kind) in changed else 0), key
        if count:
            np.testing.assert_allclose(found.s[:count], np.linalg.svd(D, compute_uv=False)[:count], rtol=1e-5)
        np.testing.assert_allclose(found.recompose(), D, atol=1e-6)
        assert not bool(found.u[:, count:].any()) and not bool(found.vh[count:].any())  # noqa: PT018


def test_without_all_values_the_base_is_left(adapted: Tuned, svds: SvdCache) -> None:
    view = adapted.model.view()
    before = view.logits(TOKENS).log_softmax(dim=-1)
    apply(view, unpruned_by_values(view, svds), svds)
    base = adapted.plain
    torch.testing.assert_close(view.logits(TOKENS).log_softmax(dim=-1), said(base), rtol=0, atol=1e-5)
    assert float((before - said(base)).abs().max()) > 0.1
    unadapted = load(str(adapted.base), dtype="float32").view()
    for key in matrices(view, per_head=False):
        assert torch.equal(read(view, key), read_base(unadapted, key))


@pytest.mark.parametrize("family", ["gpt2", "phi3", "gemma2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_fine_tune_is_undone_by_its_values(family: str, dtype: torch.dtype, tmp_path: Path, svds: SvdCache) -> None:
    folder = families.FAMILIES[family].save(tmp_path / "base")
    tuned = perturbed(folder, tmp_path / "tuned", dtype)
    model = load(str(tuned), basis="delta", against=str(folder), dtype="float32")
    view, base = model.view(), load(str(folder), dtype="float32").view()
    key = MatrixKey(1, Kind.V)
    D = (read_base(view, key).double() - read_base(base, key).double()).numpy()
    np.testing.assert_allclose(svds.get(view, key).s, np.linalg.svd(D, compute_uv=False), rtol=1e-5, atol=1e-7)
    apply(view, unpruned_by_values(view, svds), svds)
    for one in matrices(view, per_head=False):
        assert torch.equal(read(view, one), read_base(base, one))


def test_without_all_values_but_one_that_one_is_left(adapted: Tuned, svds: SvdCache) -> None:
    view, key = adapted.model.view(), MatrixKey(0, Kind.V)
    D = svds.get(view, key).part([1])
    gone = [Removed(matrix=str(key), index=i, sigma=float(svds.get(view, key).s[i])) for i in range(RANK) if i != 1]
    apply(view, empty_mask(view.model, "zero").with_removed(gone), svds)
    base = read_base(load(str(adapted.base), dtype="float32").view(), key)
    torch.testing.assert_close(read(view, key), base + D, rtol=0, atol=1e-6)


def test_null_values_are_never_chosen(adapted: Tuned, tiny_task: Task, svds: SvdCache) -> None:
    view = adapted.model.view()
    keys = matrices(view)
    scores = score(view, tiny_task, svds, keys=keys, scorer="gradient")
    present = {(key, i) for key in keys for i in svds.get(view, key).s.nonzero().flatten().tolist()}
    assert {(key, i) for _, key, i in scores.ranking()} == present
    assert (scores.size, scores.unusable) == (len(present), [])
    drawn = random_pool(scores, len(present))
    assert {(one.key, one.index) for one in drawn} == present
    with pytest.raises(SettingsError, match=f"choose 0 to {len(present)}"):
        random_pool(scores, len(present) + 1)


def test_the_exact_effect_is_that_of_the_weights_by_hand(adapted: Tuned, tiny_task: Task, svds: SvdCache) -> None:
    view = adapted.model.view()
    key = MatrixKey(1, Kind.V, 1)
    cut = batches(view, tiny_task, tiny_task.train)
    found = exact_effects(view, cut, svds, values=[(key, 0)], mode="zero").values[key, 0]
    svd = svds.get(view, key)
    before = ep.evaluate(view, tiny_task, "train").mean_loss.value
    ep.models.matrices.replace(view, key, read_base(view, key) - svd.s[0].float() * torch.outer(svd.u[:, 0], svd.vh[0]))
    after = ep.evaluate(view, tiny_task, "train").mean_loss.value
    assert found.value == pytest.approx(after - before, abs=1e-5)
    assert abs(found.value) > 1e-3
    scored = score(adapted.model.view(), tiny_task, svds, keys=[key], scorer="exact", mode="zero").matrices[key]
    assert float(scored.score[0]) == pytest.approx(found.value, abs=1e-6)
    assert not bool(scored.score[RANK:].any())


def test_a_mask_names_the_base_and_is_refused_by_another(adapted: Tuned, svds: SvdCache, tmp_path: Path) -> None:
    view = adapted.model.view()
    unpruned_by_values(view, svds).save(tmp_path / "m.json")
    mask = load_mask(tmp_path / "m.json")
    base = load(str(adapted.base), dtype="float32")
    assert mask.model.against is not None
    assert (mask.model.basis, mask.model.against.weights) == ("delta", base.parts.weights)
    other = perturbed(adapted.base, tmp_path / "other")
    with pytest.raises(MaskError, match=r"is of the difference from .*: their singular values differ"):
        apply(load(adapted.name, basis="delta", against=str(other), dtype="float32").view(), mask, svds)
    with pytest.raises(MaskError, match="made in the delta basis"):
        apply(load(adapted.name, dtype="float32").view(), mask, svds)
    again = ModelAndTask.of(view, tiny.task()).open()
    assert again.view.model.digest == adapted.model.digest
    assert adapted.model.digest != load(adapted.name, dtype="float32").digest


def test_what_has_no_difference_is_refused(adapted: Tuned, arch: str, tmp_path: Path) -> None:
    folder = adapted.base
    with pytest.raises(ModelError, match=r"has the same matrices as"):
        load(str(folder), basis="delta", against=str(folder))
    with pytest.raises(ModelError, match=r"has the same matrices as"):
        load(str(perturbed_rest(folder, tmp_path / "rest")), basis="delta", against=str(folder))
    other = tiny.save("llama" if arch == "gpt2" else "gpt2", tmp_path / "other")
    with pytest.raises(ModelError, match="only models of one architecture have a difference"):
        load(str(folder), basis="delta", against=str(other))
    with pytest.raises(ModelError, match="give the model that it was fine-tuned from"):
        load(str(shorter(folder, tmp_path / "short")), basis="delta", against=str(folder))
    with pytest.raises(SettingsError, match=r"is the difference from a base model: give that, too"):
        load(str(folder), basis="delta")
    with pytest.raises(SettingsError, match="add --basis delta"):
        load(str(folder), against=str(folder))
    with pytest.raises(ModelError, match="is not there"):
        load(str(folder), basis="delta", against="./gone")


def shorter(folder: Path, out: Path) -> Path:
    """A folder of one block less."""
    config: Any = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = 1
    AutoModelForCausalLM.from_config(config).save_pretrained(out)
    tiny.tokenizer().save_pretrained(out)
    return out


def perturbed_rest(folder: Path, out: Path) -> Path:
    """A folder whose embeddings alone have changed."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.1)
    model.save_pretrained(out)
    tiny.tokenizer().save_pretrained(out)
    return out


def test_a_base_that_changes_meanwhile_is_noticed(adapted: Tuned, arch: str, tmp_path: Path) -> None:
    base = tiny.save(arch, tmp_path / "base")
    model = load(adapted.name, basis="delta", against=str(base), dtype="float32")
    file = base / "model.safetensors"
    save_file({name: 2 * one for name, one in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="have changed since it was chosen"):
        SvdCache(None).get(model.view(), MatrixKey(0, Kind.V))


def test_other_types_and_large_models_have_the_same_values(adapted: Tuned, svds: SvdCache) -> None:
    key = MatrixKey(0, Kind.V)
    half = load(adapted.name, basis="delta", against=str(adapted.base), dtype="bfloat16").view()
    wide = load(adapted.name, basis="delta", against=str(adapted.base), dtype="float64").view()
    expected = svds.get(adapted.model.view(), key).s
    for view in (half, wide):
        torch.testing.assert_close(SvdCache(None).get(view, key).s, expected, rtol=1e-6, atol=0)
    narrow = SvdCache(None, narrow=True).get(adapted.model.view(), key)
    torch.testing.assert_close(narrow.s, expected)
    assert bool(narrow.right(range(narrow.rank)).isfinite().all())


def test_commands_take_the_base(adapted: Tuned, tmp_path: Path) -> None:
    name, base = adapted.name, str(adapted.base)
    found = report(
        "spectra", "--model", name, "--basis", "delta", "--against", base, "--matrix", "L0.V", "--matrix", "L0.IN"
    )
    first, second = found["spectra"]
    assert (found["basis"], found["against"]) == ("delta", None)
    assert (first["rank"], second["rank"], second["null_count"]) == (RANK, 0, len(second["singular_values"]))
    assert second["frobenius_norm"] == 0
    product = refused("spectra", "--model", name, "--basis", "delta", "--against", base, "--matrix", "L0.QK.H0")
    assert "compare both models' products in the raw basis" in product
    assert report("matrices", "--model", name, "--basis", "delta", "--against", base)["basis"] == "delta"
    again = report("spectra", "--model", name, "--basis", "delta", "--delta-base", base, "--matrix", "L0.V")
    assert again["model_digest"] == found["model_digest"]
    assert "go together" in refused("matrices", "--model", name, "--basis", "delta")
    assert "go together" in refused("matrices", "--model", name, "--against", base)


def test_a_search_and_its_report_hold_the_basis(adapted: Tuned, tmp_path: Path) -> None:
    model = ep.load(adapted.name, basis="delta", against=str(adapted.base))
    found = model.search(tiny.task(), kinds="QV", strategy="random-search", max_removed=4, controls=2)
    found.file.save(tmp_path)
    again = load_report(tmp_path)
    assert (again.basis, again.mask.digest) == ("delta", found.mask.digest)
    assert len(again.mask) and all(one.sigma > 0 for one in again.mask.removed)  # noqa: PT018
