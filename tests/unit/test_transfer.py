"""A mask on a sibling: its own singular values, its own frozen means, and how well the directions match."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.core.errors import MaskError, MatrixError
from explorer.core.keys import Kind, MatrixKey
from explorer.experiments.transfer import matches, refreeze, transfer
from explorer.masks.apply import apply, empty_mask, identity
from explorer.masks.mask import Mask, Removed, parse_mask
from explorer.measure.evaluate import evaluate
from explorer.models import Model, load
from explorer.models.matrices import read
from explorer.search import prune
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests import plain, tiny


def saved(arch: str, folder: Path, change: dict[str, float] | None = None, *, noise: float = 0.0) -> Path:
    """The tiny model with noise on every weight, or with single weights scaled by name."""
    model = tiny.architecture(arch)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.mul_((change or {}).get(name, 1.0)).add_(noise * torch.randn_like(weight))
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sibling_folder(arch: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(arch, tmp_path_factory.mktemp("sibling"), noise=0.01)


@pytest.fixture(scope="module")
def sibling(sibling_folder: Path) -> Model:
    return load(str(sibling_folder), dtype="float64", device="cpu")


@pytest.fixture
def mask(model64: Model, tiny_task: Task, svds: SvdCache) -> Mask:
    return prune(model64.view(), tiny_task, svds, kinds=[Kind.K, Kind.O, Kind.OUT], count=9)


def test_the_same_model_gets_the_same_mask(model64: Model, mask: Mask, tiny_task: Task, svds: SvdCache) -> None:
    for task in (None, tiny_task):
        assert transfer(model64.view(), mask, svds, task) == mask


def test_equal_matrices_in_another_model_give_equal_removed_values(
    arch: str, model64: Model, mask: Mask, tiny_task: Task, svds: SvdCache, tmp_path: Path
) -> None:
    """Only the final norm differs, which no matrix reads: the way for siblings is then the identity, too."""
    norm = {"gpt2": "transformer.ln_f.weight", "llama": "model.norm.weight"}[arch]
    other = load(str(saved(arch, tmp_path, {norm: 2.0})), dtype="float64", device="cpu")
    assert other.digest != model64.digest
    for task in (None, tiny_task):
        carried = transfer(other.view(), mask, svds, task)
        assert carried.removed == mask.removed
        assert carried.model == identity(other)
    for match in matches(other.view(), model64.view(), mask, svds):
        assert match.match == pytest.approx(1, abs=1e-6)
        assert match.nearest == match.index


def test_a_softer_mask_stays_as_soft(sibling: Model, mask: Mask, tiny_task: Task, svds: SvdCache) -> None:
    for task in (None, tiny_task):
        hard, soft = (transfer(sibling.view(), one, svds, task) for one in (mask, mask.scaled(0.4)))
        assert (soft.gain, soft.removed) == (0.4, hard.removed)


def test_a_sibling_brings_its_own_values_and_means(
    arch: str, sibling: Model, sibling_folder: Path, mask: Mask, tiny_task: Task, svds: SvdCache
) -> None:
    kept, anew = transfer(sibling.view(), mask, svds), transfer(sibling.view(), mask, svds, tiny_task)
    reference = plain.load_plain(sibling_folder, torch.float64)
    encoded = [plain.encode_words(example) for example in tiny_task.train]
    means = {}
    for old, one, new in zip(mask.removed, kept.removed, anew.removed, strict=True):
        key = MatrixKey.parse(old.matrix)
        if key not in means:
            means[key] = plain.record(reference, key, encoded).x.mean(axis=0)
        u, s, _ = plain.svd(reference, key)
        assert (one.matrix, one.index, new.matrix, new.index) == (old.matrix, old.index) * 2
        assert one.sigma == new.sigma == pytest.approx(s[old.index], rel=1e-6)
        assert one.c == old.c
        assert new.c == pytest.approx(means[key] @ u[:, old.index], abs=1e-6)
    for carried, task in ((kept, None), (anew, "tiny")):
        derived = carried.provenance.derived
        assert derived is not None
        assert (derived.how, derived.masks, derived.model) == ("transfer", (mask.digest,), mask.model.digest)
        assert derived.means == task
        assert carried.provenance.scorer == mask.provenance.scorer
        assert parse_mask(carried.to_json()) == carried
        apply(sibling.view(), carried, svds)  # the sibling takes it


def test_another_task_of_the_same_model_changes_the_means_only(
    model64: Model, plain64: torch.nn.Module, mask: Mask, tiny_task: Task, svds: SvdCache
) -> None:
    other = replace(tiny_task, name="other", train=tiny_task.train[:3])
    made = refreeze(model64.view(), mask, svds, other)
    encoded = [plain.encode_words(example) for example in other.train]
    for old, new in zip(mask.removed, made.removed, strict=True):
        key = MatrixKey.parse(old.matrix)
        mean = plain.record(plain64, key, encoded).x.mean(axis=0)
        assert (new.matrix, new.index, new.sigma) == (old.matrix, old.index, pytest.approx(old.sigma))
        assert new.c == pytest.approx(mean @ plain.svd(plain64, key)[0][:, old.index], abs=1e-6)
    assert [one.c for one in made.removed] != [one.c for one in mask.removed]
    derived = made.provenance.derived
    assert derived is not None
    assert (derived.how, derived.masks, derived.model, derived.means) == ("transfer", (mask.digest,), None, "other")
    limited = refreeze(model64.view(), mask, svds, tiny_task, limit=3)
    assert limited.digest == made.digest
    assert refreeze(model64.view(), mask.scaled(0.4), svds, other).removed == made.removed


def test_a_mask_without_means_is_the_same_for_every_task(
    model64: Model, sibling: Model, mask: Mask, tiny_task: Task, svds: SvdCache
) -> None:
    zero = mask.model_copy(update={"mode": "zero"})
    for one in (zero, empty_mask(model64)):
        assert refreeze(model64.view(), one, svds, tiny_task) == one
    with pytest.raises(MaskError, match="the mask was made for"):
        refreeze(sibling.view(), mask, svds, tiny_task)


def test_matches_are_the_products_of_the_cosines(
    model64: Model, plain64: torch.nn.Module, sibling: Model, sibling_folder: Path, mask: Mask, svds: SvdCache
) -> None:
    other = plain.load_plain(sibling_folder, torch.float64)
    found = matches(sibling.view(), model64.view(), mask, svds)
    assert [(str(one.key), one.index) for one in found] == [(one.matrix, one.index) for one in mask.removed]
    for one in found:
        (u, _, vh), (u2, _, vh2) = plain.svd(plain64, one.key), plain.svd(other, one.key)
        products = [abs(u[:, one.index] @ u2[:, j]) * abs(vh[one.index] @ vh2[j]) for j in range(len(vh2))]
        assert one.match == pytest.approx(products[one.index], abs=1e-6)
        assert one.nearest == int(np.argmax(products))
        assert one.nearest_match == pytest.approx(max(products), abs=1e-6)


def test_a_zero_mask_stays_one(sibling: Model, mask: Mask, tiny_task: Task, svds: SvdCache) -> None:
    carried = transfer(sibling.view(), mask.model_copy(update={"mode": "zero"}), svds, tiny_task)
    assert carried.mode == "zero"
    assert [one.c for one in carried.removed] == [one.c for one in mask.removed]
    assert carried.provenance.derived is not None
    assert carried.provenance.derived.means is None


def test_nothing_is_removed_from_views_or_models(
    model64: Model, sibling: Model, mask: Mask, tiny_task: Task, svds: SvdCache
) -> None:
    view, base = sibling.view(), model64.view()
    before = evaluate(view, tiny_task)
    transfer(view, mask, svds, tiny_task)
    matches(view, base, mask, svds)
    assert (view.applied, base.applied) == ({}, {})
    assert evaluate(view, tiny_task) == before
    assert (model64.current_digest(), sibling.current_digest()) == (model64.digest, sibling.digest)
    assert len(transfer(view, empty_mask(model64), svds, tiny_task)) == 0


def test_what_does_not_fit_is_refused(
    arch: str, model64: Model, sibling: Model, mask: Mask, tiny_task: Task, svds: SvdCache
) -> None:
    view = sibling.view()
    rank = min(read(view, MatrixKey.parse("L0.K.H0")).shape)
    cases = [
        (Removed(matrix="L0.K.H0", index=rank, sigma=0.1), MaskError, f"0 to {rank - 1} .* same shapes only"),
        (Removed(matrix="L7.K.H0", index=0, sigma=0.1), MatrixError, "layer 7 is out of range"),
        (Removed(matrix="L0.K.H9", index=0, sigma=0.1), MatrixError, "the model has K heads 0 to"),
    ]
    for value, error, words in cases:
        with pytest.raises(error, match=words):
            transfer(view, empty_mask(model64).with_removed([value]), svds, tiny_task)
    folded = mask.model_copy(update={"model": mask.model.model_copy(update={"basis": "folded"})})
    with pytest.raises(MaskError, match="made in the folded basis"):
        transfer(view, folded, svds, tiny_task)
    with pytest.raises(MaskError, match="the mask was made for"):
        matches(model64.view(), view, mask, svds)


def test_a_model_of_other_shapes_is_refused(
    model64: Model, tiny_task: Task, svds: SvdCache, arch: str, tmp_path: Path
) -> None:
    other = {"gpt2": "llama", "llama": "gpt2"}[arch]
    wider = load(str(tiny.save(other, tmp_path)), dtype="float64", device="cpu")
    outputs = prune(model64.view(), tiny_task, svds, kinds=[Kind.OUT], count=1)
    with pytest.raises(MaskError, match=r"L\d\.OUT is 20 x \d+ in .* and 20 x \d+ in .* same shapes only"):
        matches(wider.view(), model64.view(), outputs, svds)
