"""Gates against masks, scores and finite differences."""

from __future__ import annotations

import numpy as np
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
from explorer.search.gates import Gates, Momentum
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
    gates = Gates(view, svds, scores.matrices, mode, start=1.0, room=10_000)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for logits in gates.logits.values():
            logits[torch.rand(logits.shape, generator=generator) < 0.2] = -1.0
    examples = batches(view, task, task.split("train", 16))
    with torch.no_grad(), gates.applied():
        gated = loss(view, examples)
    chosen = gates.chosen()
    assert len(chosen) > 10
    mask = empty_mask(model, mode).with_removed([scores.removed(key, index) for key, index in chosen])
    apply(view, mask, svds)
    with torch.no_grad():
        assert float(gated) == pytest.approx(float(loss(view, examples)), abs=2e-5)


@pytest.mark.parametrize("mode", ["freeze", "zero"])
def test_the_slope_at_the_unpruned_model_is_the_score(model: Model, svds: SvdCache, mode: Mode) -> None:
    view, task = model.view(), load_task("int-mult", 0)
    scores = score(view, task, svds, matrices(view), mode=mode, limit=16)
    gates = Gates(view, svds, scores.matrices, mode, start=0.7, room=10)
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
    gates = Gates(view, svds, scores.matrices, "freeze", start=-1.0, room=10)
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
    gates = Gates(view, svds, scores.matrices, "freeze", start=1.0, room=4)
    with torch.no_grad():
        next(iter(gates.logits.values()))[0, 3:6] = torch.tensor([-0.5, -2.0, 0.0])
    price = gates.price()
    assert float(price.detach()) == pytest.approx(3, abs=1e-4)
    assert [index for _, index in gates.chosen()] == [4, 3, 5]
    price.backward()
    assert all((logits.grad < 0).all() for logits in gates.logits.values())  # descent raises every logit


def test_there_is_never_more_removed_than_there_is_room_for(model: Model, svds: SvdCache) -> None:
    view, task = model.view(), load_task("int-mult", 0)
    scores = score(view, task, svds, matrices(view, (Kind.Q, Kind.O)), limit=4)
    logits = torch.Generator().manual_seed(0)
    for room in (0, 1, 5, 10_000):
        gates = Gates(view, svds, scores.matrices, "freeze", start=1.0, room=room)
        with torch.no_grad():
            for one in gates.logits.values():
                one.copy_(torch.rand(one.shape, generator=logits) - 0.5)
        every = sorted(float(one) for values in gates.logits.values() for one in values.detach().flatten() if one <= 0)
        assert float(gates.price().detach()) == pytest.approx(min(room, len(every)), abs=1e-3)
        by_logit = {
            (key, index): float(row[index])
            for site, values in gates.logits.items()
            for key, row in zip(gates.keys[site], values.detach(), strict=True)
            for index in range(len(row))
        }
        assert [by_logit[one] for one in gates.chosen()] == every[:room]


def test_gates_that_matter_move_first() -> None:
    """Against the same steps in NumPy, one gate at a time."""
    draws, room, rate = np.random.default_rng(0), 2, 0.05
    sizes = np.array([3.0, 1.0, 0.1, 0.01, 0.0])
    gradients = [sizes * (1 + 0.3 * draws.standard_normal(5)) for _ in range(12)]
    logits = torch.full((5,), 0.4, dtype=torch.float64, requires_grad=True)
    moved = Momentum([logits], rate, room=room)
    expected, mean, scale = np.full(5, 0.4), np.zeros(5), 0.0
    for step, gradient in enumerate(gradients, start=1):
        logits.grad = torch.tensor(gradient)
        moved.step()
        moved.forget()
        mean = 0.9 * mean + 0.1 * gradient
        unbiased = mean / (1 - 0.9**step)
        latest = sorted(abs(unbiased), reverse=True)[room - 1]
        scale = latest if step == 1 else 0.9 * scale + 0.1 * latest
        expected -= [rate * min(1.0, max(-1.0, one / scale)) for one in unbiased]
    assert logits.grad is None
    assert np.allclose(logits.detach().numpy(), expected, rtol=1e-5)
    assert (0.4 - expected)[:2].min() > 5 * (0.4 - expected)[2:].max(), "an optimizer with a scale each moves all alike"
