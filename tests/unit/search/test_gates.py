"""Gates against masks, scores and finite differences."""

from __future__ import annotations

import pytest
import torch

from explorer.attribution import score
from explorer.core.keys import Kind
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mode
from explorer.measure.batches import batches
from explorer.measure.metrics import run
from explorer.models import Model, load
from explorer.models.matrices import matrices
from explorer.search.gates import Gates
from explorer.spectra.cache import SvdCache
from explorer.tasks import load_task


@pytest.fixture(scope="module")
def model() -> Model:
    return load("bundled")


@pytest.fixture(scope="module")
def svds() -> SvdCache:
    return SvdCache(None)


def loss(view, examples) -> torch.Tensor:
    return torch.cat([run(view, batch).loss for batch in examples]).mean()


@pytest.mark.parametrize("mode", ["freeze", "zero"])
@pytest.mark.parametrize("kinds", [(Kind.Q, Kind.O), (Kind.K, Kind.V, Kind.IN, Kind.OUT)])
def test_gates_at_zero_are_the_mask(model: Model, svds: SvdCache, mode: Mode, kinds: tuple[Kind, ...]) -> None:
    view, task = model.view(), load_task("int-mult", 0)
    scores = score(view, task, svds, matrices(view, kinds), mode=mode, limit=16)
    gates = Gates(view, svds, scores.matrices, mode, start=1.0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for logits in gates.logits.values():
            logits[torch.rand(logits.shape, generator=generator) < 0.2] = -1.0
    examples = batches(view, task, task.split("train", 16))
    with torch.no_grad(), gates.applied():
        gated = loss(view, examples)
    chosen = gates.chosen(gates.size)
    assert len(chosen) == gates.removed() > 10
    mask = empty_mask(model, mode).with_removed([scores.removed(key, index) for key, index in chosen])
    apply(view, mask, svds)
    with torch.no_grad():
        assert float(gated) == pytest.approx(float(loss(view, examples)), abs=2e-5)


@pytest.mark.parametrize("mode", ["freeze", "zero"])
def test_the_slope_at_the_unpruned_model_is_the_score(model: Model, svds: SvdCache, mode: Mode) -> None:
    view, task = model.view(), load_task("int-mult", 0)
    scores = score(view, task, svds, matrices(view), mode=mode, limit=16)
    gates = Gates(view, svds, scores.matrices, mode, start=0.7)
    with gates.applied():
        loss(view, batches(view, task, task.split("train", 16))).backward()
    sigmoid = torch.sigmoid(torch.tensor(0.7))
    for site, logits in gates.logits.items():
        for key, slope in zip(gates.keys[site], logits.grad, strict=True):
            expected = -sigmoid * (1 - sigmoid) * scores.matrices[key].score
            torch.testing.assert_close(slope, expected, atol=2e-6, rtol=2e-4)


def test_the_view_and_the_model_are_as_before(model: Model, svds: SvdCache) -> None:
    view, task = model.view(), load_task("int-mult", 0)
    before = {
        name: (tensor.data_ptr(), tensor.clone()) for name, tensor in view.bridge.original_model.named_parameters()
    }
    scores = score(view, task, svds, matrices(view), limit=4)
    gates = Gates(view, svds, scores.matrices, "freeze", start=-1.0)
    with pytest.raises(RuntimeError, match="halfway"), gates.applied():
        raise RuntimeError("halfway")
    after = dict(view.bridge.original_model.named_parameters())
    assert list(after) == list(before)
    for name, (pointer, value) in before.items():
        assert after[name].data_ptr() == pointer
        assert torch.equal(after[name], value)


def test_the_price_counts_removed_values(model: Model, svds: SvdCache) -> None:
    view, task = model.view(), load_task("int-mult", 0)
    scores = score(view, task, svds, matrices(view, (Kind.Q,)), limit=4)
    gates = Gates(view, svds, scores.matrices, "freeze", start=1.0)
    with torch.no_grad():
        next(iter(gates.logits.values()))[0, 3:6] = torch.tensor([-0.5, -2.0, 0.0])
    price = gates.price()
    assert (float(price.detach()), gates.removed()) == (pytest.approx(3, abs=1e-4), 3)
    assert [index for _, index in gates.chosen(2)] == [4, 3]
    price.backward()
    assert all((logits.grad < 0).all() for logits in gates.logits.values())  # descent raises every logit
