"""Shared beginnings read once against whole runs, on every supported architecture; alone, from kept streams, copied."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from explorer.attribution.exact import exact_effects
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Removed
from explorer.measure import prefix
from explorer.measure.batches import Batch, answer_logits, batches, shared_prefix
from explorer.measure.evaluate import evaluate
from explorer.measure.metrics import run, run_all
from explorer.measure.prefix import all_logits, expanded, read_prefix, rest_logits, reusable
from explorer.measure.residuals import keep, run_kept
from explorer.measure.tokens import Encoded
from explorer.models import Model, View, load
from explorer.models.matrices import matrices, read, replace
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task
from tests import tiny
from tests.families import FAMILIES

SHOTS = "w1 w2 w3 w4 w5 w6 w7 w8"
ENDS = (("w9 w1", " w4"), ("w3", " w7 w8"), ("w2 w2 w2", " w5"), ("w6 w1", " w2"), ("w11", " w12 w13"))
SHARED = 9  # with BOS


def few_shot() -> Task:
    """Eight words in front of every prompt but the second's."""
    rows = [Example(f"{SHOTS} {prompt}", answer) for prompt, answer in ENDS]
    rows.insert(1, Example("w1 w2 w4 w4 w4 w9 w9 w9 w9 w3", " w4"))
    return Task("shots", "", tuple(rows), tuple(rows[:1]), tuple(rows), seed=0)


def cut(view: View, size: int = 3) -> tuple[Batch, ...]:
    task = few_shot()
    return batches(view, task, task.train, size)


def whole(view: View, prepared: tuple[Batch, ...]) -> Tensor:
    with torch.no_grad():
        return torch.cat([run(view, batch).loss for batch in prepared])


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family64(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = FAMILIES[request.param].save(tmp_path_factory.mktemp("family"))
    return dataclasses.replace(load(str(folder), dtype="float64", device="cpu"), tokenizer=tiny.tokenizer())


@pytest.fixture(scope="module", params=["gpt2", "gemma3"])
def model64(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Absolute positions, and rotated ones with a sliding window in the first layer."""
    return load(str(FAMILIES[request.param].save(tmp_path_factory.mktemp("family"))), dtype="float64", device="cpu")


def exactness(model: Model) -> float:
    """How far two ways to compute the same may differ: Gemma's softmax is float32 in a float64 model, too."""
    return 1e-6 if model.architecture.startswith("Gemma") else 1e-9


def test_a_view_that_overflows_decides_nothing_for_others(tmp_path: Path) -> None:
    folder = FAMILIES["llama"].save(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= 1.5  # a model of which no other test has found out anything
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = load(str(folder), dtype="float32", device="cpu")
    broken, sound = model.view(), model.view()
    key = MatrixKey(0, Kind.OUT)
    replace(broken, key, torch.full_like(read(broken, key), 3e38))
    (first, *_) = [batch for batch in cut(broken) if batch.shared]
    assert not torch.isfinite(whole(broken, (first,))).all()
    assert not reusable(broken, first)
    assert reusable(sound, first)


@pytest.mark.slow
def test_reading_the_beginning_once_changes_nothing(family64: Model, svds: SvdCache) -> None:
    view = family64.view()
    prepared = cut(view)
    assert [batch.shared for batch in prepared] == [0, SHARED, SHARED]
    assert all(reusable(view, batch) for batch in prepared if batch.shared)
    with torch.no_grad():
        found = torch.cat([outcome.loss for outcome in run_all(view, prepared)])
        torch.testing.assert_close(found, whole(view, prepared), rtol=1e-5, atol=1e-5)
        kept = keep(view, prepared, inputs=[MatrixKey(1, Kind.IN)])
        removed = Removed(matrix="L1.V", index=0, sigma=float(svds.get(view, MatrixKey(1, Kind.V)).s[0]), c=0.2)
        apply(view, empty_mask(family64).with_removed([removed]), svds)
        assert kept.first_change(view) == 1
        found = torch.cat([outcome.loss for outcome in run_kept(view, kept)])
        torch.testing.assert_close(found, whole(view, prepared), rtol=1e-5, atol=1e-5)
    assert family64.current_digest() == family64.digest


def test_the_beginning_is_read_once_and_the_rest_without_it(view: View) -> None:
    prepared = cut(view, 2)
    rows: list[tuple[int, ...]] = []
    assert all(reusable(view, batch) for batch in prepared if batch.shared)

    def count(x: Tensor, hook: Any) -> None:
        rows.append(tuple(x.shape[:2]))

    with view.bridge.hooks(fwd_hooks=[("blocks.0.hook_in", count)]), torch.no_grad():
        list(all_logits(view, prepared))
    assert rows == [(1, 11), (1, SHARED), (2, 2), (2, 2), (1, 3)]


def test_what_was_read_is_not_written_to(view: View) -> None:
    batch = cut(view)[-1]
    with torch.no_grad():
        cache = read_prefix(view, batch.prefix)
        before = [layer.keys.clone() for layer in cache.layers]
        first, second = rest_logits(view, batch, cache), rest_logits(view, batch, cache)
    assert torch.equal(first, second)
    assert all(torch.equal(layer.keys, keys) for layer, keys in zip(cache.layers, before, strict=True))
    assert expanded(cache, 5).layers[0].keys.shape[0] == 5


def test_a_mask_has_keys_and_values_of_its_own(model64: Model, svds: SvdCache) -> None:
    view = model64.view()
    prepared = cut(view)
    removed = [
        Removed(matrix=name, index=0, sigma=float(svds.get(view, MatrixKey.parse(name)).s[0]), c=0.1)
        for name in ("L0.K", "L1.OUT")
    ]
    before = whole(view, prepared)
    apply(view, empty_mask(model64).with_removed(removed), svds)
    with torch.no_grad():
        found = torch.cat([outcome.loss for outcome in run_all(view, prepared)])
    exact = exactness(model64)
    torch.testing.assert_close(found, whole(view, prepared), rtol=exact, atol=exact)
    assert float((found - before).abs().max()) > 1e-3


def test_single_values_and_mean_inputs_are_right_behind_a_shared_beginning(model64: Model, svds: SvdCache) -> None:
    view, task = model64.view(), few_shot()
    prepared = cut(view)
    alone = batches(view, task, task.train, 1)
    unshared = tuple(dataclasses.replace(batch, shared=0) for batch in alone)
    sites = matrices(view, per_head=False)
    shared_means, means = keep(view, prepared, inputs=sites).means, keep(view, unshared, inputs=sites).means
    exact = exactness(model64)
    for site in sites:
        torch.testing.assert_close(shared_means[site], means[site], rtol=exact, atol=exact * 1e-3)
    values = [(key, index) for key in matrices(view) for index in (0, 1)]
    found, expected = (exact_effects(view, cuts, svds, values) for cuts in (prepared, unshared))
    assert found.loss == pytest.approx(expected.loss, abs=exact)
    for value in values:
        assert found.values[value].value == pytest.approx(expected.values[value].value, abs=exact), str(value[0])


def test_evaluations_read_it_once_too(view: View) -> None:
    task = few_shot()
    found = evaluate(view, task, "train")
    alone = [batches(view, task, [example])[0] for example in task.train]
    assert list(found.loss) == pytest.approx([float(run(view, batch).loss) for batch in alone], abs=1e-5)


def test_a_model_that_does_not_agree_runs_whole(arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a family would whose cache loses what it was given."""
    unseen = tiny.architecture(arch)  # what was found with a model is kept: no other test has these weights
    with torch.no_grad():
        unseen.get_input_embeddings().weight[3] += 0.125
    unseen.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    view = load(str(tmp_path), dtype="float32", device="cpu").view()
    prepared = cut(view)
    monkeypatch.setattr(prefix, "expanded", lambda cache, rows: type(cache)())
    assert not any(reusable(view, batch) for batch in prepared)
    with torch.no_grad():
        for batch, logits in zip(prepared, all_logits(view, prepared), strict=True):
            assert torch.equal(logits, answer_logits(view, batch))
    assert keep(view, prepared).prefixes == (None,) * 3


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        (["abcdefghijx", "abcdefghijy", "abcdefghijz"], "abcdefghij"),
        (["abcdefghijx"] * 4, "abcdefghij"),
        (["abcdefghijx", "abcdefghijy", "zzz", "abcdefghijz"], "abcdefghij"),
        (["abcdefgx", "abcdefgy"], ""),
        (["abcdefghijx"], ""),
        (["abcdefgh" + "x" * 40, "abcdefgh" + "y" * 40, "q" * 48], ""),
        (["q" * 11, "abcdefghijx", "abcdefghijy", "abcdefghijkz", "q" * 5], "abcdefghij"),
    ],
)
def test_the_beginning_that_saves_most_is_found(prompts: list[str], expected: str) -> None:
    encoded = [Encoded(tuple(map(ord, prompt)), (1,)) for prompt in prompts]
    assert "".join(map(chr, shared_prefix(encoded))) == expected
    assert all(len(expected) < len(one) for one in prompts if one.startswith(expected))
