"""Changes of single values on plain arithmetic, against plain transformers in float64 with edited weights.

And which way a model takes: the plain one where it is the model's own arithmetic, hooks for all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from explorer.attribution import runs as ways
from explorer.attribution.exact import exact_effects
from explorer.attribution.runs import HookedRuns, PlainRuns, kept_runs
from explorer.attribution.singles import Flip
from explorer.attribution.suffix import Suffix
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import empty_mask
from explorer.masks.mask import Mode, Removed
from explorer.measure.batches import batches
from explorer.measure.forest import forests
from explorer.measure.residuals import keep
from explorer.models import View, load
from explorer.models.arithmetic import PLAIN, Arithmetic, arithmetic
from explorer.models.matrices import matrices
from explorer.spectra.cache import SvdCache
from tests import plain, tiny
from tests.families import FAMILIES

EXAMPLES = tiny.task().train


def flip(view: View, svds: SvdCache, key: MatrixKey, index: int, c: float = 0.0) -> Flip:
    found = svds.get(view, key)
    return Flip(key, found.u[:, index].double(), (-found.s[index] * found.vh[index]).double(), c)


def suffix(view: View, most: int = 1000) -> Suffix:
    model = arithmetic(view, tiny.POSITIONS)
    assert model is not None
    (forest,) = forests(batches(view, tiny.task(), EXAMPLES, 4), most)
    return Suffix(model, forest)


def in_order(view: View, losses: Sequence[float]) -> list[float]:
    """Losses by example of the task; batches sort them by length."""
    places = torch.cat([batch.places for batch in batches(view, tiny.task(), EXAMPLES, 4)]).tolist()
    return [loss for _, loss in sorted(zip(places, losses, strict=True))]


def plain_losses(model: object) -> list[float]:
    with torch.no_grad():
        return [float(plain.example_loss(model, plain.encode_words(example))) for example in EXAMPLES]


class Products(TorchDispatchMode):
    """Counts the floating-point operations of products of two matrices."""

    operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm", "addmm_"):
            left, right = args[-2:]
            self.operations += 2 * left.numel() * right.shape[1]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("per_head", [True, False])
def test_removing_a_value_equals_an_edited_plain_model(
    view64: View, plain64: object, svds: SvdCache, per_head: bool
) -> None:
    ours = suffix(view64)
    assert in_order(view64, ours.unchanged().tolist()) == pytest.approx(plain_losses(plain64), abs=1e-10)
    keys = matrices(view64, per_head=per_head)
    for layer in range(tiny.LAYERS):
        mine = [key for key in keys if key.layer == layer]
        with torch.no_grad():
            changed = ours.changed([flip(view64, svds, key, 1) for key in mine])
        for key, row in zip(mine, changed.tolist(), strict=True):
            edited = plain.without_value(plain64, key, 1, None)
            assert in_order(view64, row) == pytest.approx(plain_losses(edited), abs=1e-8), str(key)


def test_a_frozen_mean_stays(view64: View, plain64: object, svds: SvdCache) -> None:
    encoded = [plain.encode_words(example) for example in EXAMPLES]
    ours = suffix(view64)
    for key in (MatrixKey(0, Kind.K, 1), MatrixKey(0, Kind.OUT), MatrixKey(1, Kind.O, 0), MatrixKey(1, Kind.IN)):
        mean = plain.record(plain64, key, encoded).x.mean(axis=0)
        edited = plain.without_value(plain64, key, 0, mean)
        with torch.no_grad():
            row = ours.changed([flip(view64, svds, key, 0, float(mean @ np.asarray(svds.get(view64, key).u[:, 0])))])
        assert in_order(view64, row[0].tolist()) == pytest.approx(plain_losses(edited), abs=1e-6), str(key)


def test_changes_run_together_as_alone_and_in_any_order_of_layers(view64: View, svds: SvdCache) -> None:
    ours, keys = suffix(view64), matrices(view64)
    with torch.no_grad():
        for layer in (1, 0, 1):
            changes = [flip(view64, svds, key, i) for key in keys if key.layer == layer for i in (0, 2, 3)]
            together = ours.changed(changes)
            alone = torch.cat([ours.changed([change]) for change in changes])
            torch.testing.assert_close(together, alone, rtol=0, atol=1e-11)


WIDE = {  # the same with attention to all that comes before
    f"{name}-wide": replace(FAMILIES[name], options={**FAMILIES[name].options, **options})
    for name, options in {
        "mistral": {"sliding_window": None},
        "phi3": {"sliding_window": None},
        "qwen2": {"use_sliding_window": False, "sliding_window": None},
    }.items()
}
PLAINLY = {"gemma", "gpt2", "llama", "llama-biased", "qwen3", "qwen3-biased", *WIDE}


@pytest.mark.parametrize("name", sorted(FAMILIES | WIDE))
def test_listed_families_take_the_plain_way_and_agree_with_hooks(
    name: str, tmp_path: Path, svds: SvdCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(str((FAMILIES | WIDE)[name].save(tmp_path)), dtype="float32", device="cpu")
    view = replace(model, tokenizer=tiny.tokenizer()).view()
    cut = batches(view, tiny.task(), EXAMPLES, 4)
    _, runs = kept_runs(view, cut)
    assert isinstance(runs, PlainRuns) == (name in PLAINLY)
    if not isinstance(runs, PlainRuns):
        return
    values = [(key, 1) for key in matrices(view)]
    plainly = exact_effects(view, cut, svds, values).values
    monkeypatch.setattr("explorer.attribution.runs.arithmetic", lambda view, longest: None)
    hooked = exact_effects(view, cut, svds, values).values
    for value in values:
        assert plainly[value].value == pytest.approx(hooked[value].value, abs=1e-5), str(value[0])
        assert plainly[value].stderr == pytest.approx(hooked[value].stderr, abs=1e-5)
    assert max(abs(one.value) for one in plainly.values()) > 1e-2


@pytest.mark.parametrize(("mode", "gain"), [("freeze", 0.0), ("zero", 0.0), ("freeze", 0.25)])
def test_at_a_mask_both_ways_agree(
    view: View, svds: SvdCache, monkeypatch: pytest.MonkeyPatch, mode: Mode, gain: float
) -> None:
    gone = [(MatrixKey(0, Kind.K, 1), 0), (MatrixKey(1, Kind.OUT), 1), (MatrixKey(1, Kind.O, 0), 2)]
    entries = [
        Removed(matrix=str(key), index=index, sigma=float(svds.get(view, key).s[index]), c=0.3) for key, index in gone
    ]
    mask = empty_mask(view.model, mode).with_removed(entries).scaled(gain)
    cut, values = batches(view, tiny.task(), EXAMPLES, 4), [*gone, *((key, 1) for key in matrices(view))]
    plainly = exact_effects(view, cut, svds, values, mode=mode, mask=mask)
    monkeypatch.setattr("explorer.attribution.runs.arithmetic", lambda view, longest: None)
    hooked = exact_effects(view, cut, svds, values, mode=mode, mask=mask)
    assert plainly.values.keys() == hooked.values.keys()
    assert plainly.loss == hooked.loss
    for value, effect in plainly.values.items():
        assert effect.value == pytest.approx(hooked.values[value].value, abs=1e-5), str(value[0])


def test_every_listed_family_is_tried() -> None:
    assert {type((FAMILIES | WIDE)[name].build()).__name__ for name in PLAINLY} == set(PLAIN)


def test_a_model_whose_plain_losses_are_not_its_own_runs_with_hooks(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = batches(view, tiny.task(), EXAMPLES, 4)
    kept, runs = kept_runs(view, cut)
    assert isinstance(runs, PlainRuns)
    assert kept.layers == ()

    def other(view: View, longest: int) -> Arithmetic:
        model = arithmetic(view, longest)
        assert model is not None
        return replace(model, activation=torch.sigmoid)

    monkeypatch.setattr("explorer.attribution.runs.arithmetic", other)
    kept, runs = kept_runs(view, cut)
    assert isinstance(runs, HookedRuns)
    assert kept.layers
    assert runs.before == tuple(torch.cat([found.loss for found in kept.outcomes]).tolist())


def test_other_types_and_costly_attention_run_with_hooks(
    view: View, view64: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in (view, view64):
        _, runs = kept_runs(one, batches(one, tiny.task(), EXAMPLES, 4))
        assert isinstance(runs, PlainRuns) == (one.model.dtype == "float32")
    monkeypatch.setattr(ways, "SMALL", 1e-9)
    _, runs = kept_runs(view, batches(view, tiny.task(), EXAMPLES, 4))
    assert isinstance(runs, HookedRuns)


def test_the_work_is_that_of_the_products_that_run(view64: View, svds: SvdCache) -> None:
    ours = suffix(view64)

    def products(key: MatrixKey, copies: int) -> int:
        with torch.no_grad(), Products() as counter:
            ours.changed([flip(view64, svds, key, 0)] * copies)
        return counter.operations

    for key in matrices(view64):
        ours.changed([flip(view64, svds, key, 0)])  # from here on the kept state is at its block
        at_answers = key.layer == tiny.LAYERS - 1 and key.kind not in (Kind.K, Kind.V)
        read = len(ours.forest.answers) if at_answers else ours.forest.nodes
        reading = 2 * read * svds.get(view64, key).u.shape[0]
        assert ours.work(key) == products(key, 3) - products(key, 2) - reading, str(key)


def test_other_devices_run_as_many_copies_as_their_share_of_memory_holds(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = batches(view, tiny.task(), EXAMPLES, 4)
    on_cpu = HookedRuns(view, keep(view, cut)).copies
    monkeypatch.setattr(View, "device", torch.device("meta"))
    elsewhere = HookedRuns(view, keep(view, cut)).copies
    monkeypatch.setattr(ways, "DEVICE_BYTES", ways.DEVICE_BYTES // 4)
    assert elsewhere > 100 * on_cpu
    assert HookedRuns(view, keep(view, cut)).copies == pytest.approx(elsewhere / 4, abs=1)


def test_hooked_work_grows_towards_the_first_layer(view64: View) -> None:
    cut = batches(view64, tiny.task(), EXAMPLES, 4)
    with torch.no_grad():
        runs = HookedRuns(view64, keep(view64, cut))
    first, last = (runs.work(MatrixKey(layer, Kind.Q)) for layer in (0, tiny.LAYERS - 1))
    assert first > last > 0
