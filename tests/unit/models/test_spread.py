"""A model over two devices: on pretended ones, its numbers are those of one device, bit by bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import accelerate.utils.modeling
import pytest
import torch
from torch import Tensor, nn
from transformer_lens.utilities import quantization

from explorer.attribution import score
from explorer.attribution.exact import exact_effects
from explorer.core.errors import ModelError
from explorer.masks.apply import apply, empty_mask
from explorer.measure.batches import batches
from explorer.measure.evaluate import evaluate
from explorer.measure.readout import readouts
from explorer.models import Model, load, spread
from explorer.models.load import check_whole
from explorer.models.matrices import kinds, matrices, read
from explorer.models.spread import Accelerators, device_map
from explorer.spectra.cache import SvdCache
from tests import tiny
from tests.devices import KIND, Pretended, pretended


@pytest.fixture(params=tiny.ARCHITECTURES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tiny.save(request.param, tmp_path / "model")


@pytest.fixture
def two(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """A model over two devices that are not there."""
    size = 4 * load(str(folder)).parameters_count
    found = Accelerators(KIND, {0: int(0.95 * size), 1: int(0.95 * size)})
    monkeypatch.setattr(spread, "accelerators", lambda: found)
    monkeypatch.setattr(accelerate.utils.modeling, "get_max_memory", lambda memory=None: memory)
    monkeypatch.setattr(
        quantization, "unreadable_weight_reason", lambda weight: None
    )  # what is on these devices has numbers
    with pretended():
        yield load(str(folder), device="auto")


def numbers(model: Model) -> dict[str, Any]:
    """Scores, edited weights, and what is measured with them."""
    view, task, svds = model.view(), tiny.task(), SvdCache(None)
    keys = matrices(view, kinds(view))
    scores = score(view, task, svds, keys)
    resampled = score(view, task, svds, keys, scorer="integrated")
    mask = empty_mask(model).with_removed(scores.removed(key, 1) for key in keys[::2])
    apply(view, mask, svds)
    weights = {str(key): read(view, key).detach().cpu() for key in matrices(view, kinds(view), per_head=False)}
    at_mask = score(view, task, svds, keys, mask=mask)
    found = [one for key in keys[:3] for one in readouts(view, key, svds.get(view, key), [0])]
    return {
        "tokens": torch.tensor([token.value for one in found for token in (*one.plus, *one.minus)]),
        "scores": torch.cat([one.score.cpu() for one in scores.matrices.values()]),
        "integrated": torch.cat([one.score.cpu() for one in resampled.matrices.values()]),
        "means": torch.cat([one.c.cpu() for one in scores.matrices.values()]),
        "at a mask": torch.cat([one.score.cpu() for one in at_mask.matrices.values()]),
        "losses": torch.tensor(evaluate(view, task, "test").loss),
        **weights,
    }


@pytest.mark.slow
def test_views_scores_edits_and_losses_are_those_of_one_device(two: Model, folder: Path) -> None:
    assert two.devices == (f"{KIND}:0", f"{KIND}:1")
    places = {weight.device for weight in two.weights().values()}
    assert {str(place) for place in places} == set(two.devices)
    found, expected = numbers(two), numbers(load(str(folder), device="cpu"))
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        assert torch.equal(found[name], one), name
    assert two.current_digest() == two.digest
    assert check_whole(two).largest <= 1e-5


@pytest.mark.slow
def test_exact_effects_run_with_hooks_and_agree(two: Model, folder: Path) -> None:
    task, effects = tiny.task(), []
    for model in (two, load(str(folder), device="cpu")):
        view = model.view()
        values = [(key, 0) for key in matrices(view, kinds(view))]
        found = exact_effects(view, batches(view, task, task.train), SvdCache(None), values)
        effects.append([found.values[value].value for value in values])
    assert effects[0] == pytest.approx(effects[1], abs=1e-5)


def test_numbers_say_which_devices_they_are_of(two: Model) -> None:
    assert two.as_loaded.endswith(f"float32 {KIND}:0+{KIND}:1")


class Blocks(nn.Module):
    """Four blocks of 4,000 bytes that must not be split, and a head."""

    _no_split_modules = ("Linear",)

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(25, 40, bias=False) for _ in range(4))


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        ({}, {"": "cpu"}),
        ({0: 20_000, 1: 20_000}, {"": "cuda:0"}),
        ({0: 10_000, 1: 20_000}, {"": "cuda:1"}),  # one that holds all of it needs no handing on
        ({0: 12_500, 1: 12_500}, {f"blocks.{i}": f"cuda:{i // 2}" for i in range(4)}),
    ],
)
def test_whole_blocks_fill_one_device_after_the_other(
    memory: dict[int, int], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerate.utils.modeling, "get_max_memory", lambda memory=None: memory)
    assert device_map("a model", Blocks(), Accelerators("cuda", memory)) == expected


def test_a_model_that_all_devices_together_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerate.utils.modeling, "get_max_memory", lambda memory=None: memory)
    with pytest.raises(ModelError, match=r"a model needs 0\.0 GB in this type, but the 2 GPUs here have 0\.0 GB"):
        device_map("a model", Blocks(), Accelerators("cuda", {0: 5000, 1: 5000}))


def test_without_gpus_auto_is_the_cpu(folder: Path) -> None:
    model = load(str(folder), device="auto")
    assert model.devices == ("cpu",)
    assert model.as_loaded == load(str(folder), device="cpu").as_loaded


def test_pretended_devices_do_not_mix() -> None:
    """The net that the tests above rely on: what fails on GPUs fails on them."""
    with pretended():
        a, b = torch.ones(3, device=f"{KIND}:0"), torch.arange(3.0).to(f"{KIND}:1")
        assert isinstance(a, Pretended)
        moved: Tensor = a + b.to(a.device)
        assert (str(moved.device), moved.tolist()) == (f"{KIND}:0", [1.0, 2.0, 3.0])
        assert a[torch.tensor([0, 2])].tolist() == [1.0, 1.0]  # indices may be on the CPU
        for other in (b, torch.ones(3)):
            with pytest.raises(RuntimeError, match="add on tensors of meta:0 and"):
                a + other
