"""Exact effects against one weight edit and one whole forward pass per value; resuming after a kill."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

import pytest
import torch

from explorer.attribution import score
from explorer.attribution.effect_store import EffectStore
from explorer.attribution.exact import Value, exact_effects, joint_effects, known_effects, mask_losses
from explorer.attribution.pace import Estimate, Pace
from explorer.core.errors import MaskError, MatrixError, SettingsError, Stopped
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask, Mode, Removed
from explorer.measure.batches import Batch, batches
from explorer.measure.metrics import run
from explorer.measure.residuals import keep
from explorer.models import Model, View, load
from explorer.models.matrices import matrices
from explorer.spectra.cache import SvdCache
from tests import tiny
from tests.families import FAMILIES

MODES: tuple[Mode, ...] = ("freeze", "zero")


def cut(view: View, size: int = 4) -> tuple[Batch, ...]:
    task = tiny.task()
    return batches(view, task, task.train, size)


def slow_losses(view: View, mask: Mask, svds: SvdCache, prepared: Sequence[Batch]) -> list[float]:
    """Loss per example: weights edited, everything run."""
    apply(view, mask, svds)
    with torch.no_grad():
        return [loss for batch in prepared for loss in run(view, batch).loss.tolist()]


def removed(view: View, svds: SvdCache, value: Value, c: float) -> Removed:
    key, index = value
    return Removed(matrix=str(key), index=index, sigma=float(svds.get(view, key).s[index]), c=c)


def some_values(view: View, indices: Iterable[int] = (0, 2)) -> list[Value]:
    """Values of every matrix, per head and stacked, in no order."""
    keys = {*matrices(view), *matrices(view, per_head=False)}
    return sorted(((key, index) for key in keys for index in indices), key=lambda value: (value[1], str(value[0])))


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family64(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = FAMILIES[request.param].save(tmp_path_factory.mktemp("family"))
    return dataclasses.replace(load(str(folder), dtype="float64", device="cpu"), tokenizer=tiny.tokenizer())


def check_singles(view: View, svds: SvdCache, values: Sequence[Value], mode: Mode, tolerance: float) -> None:
    prepared = cut(view)
    found = exact_effects(view, prepared, svds, values, mode=mode)
    assert list(found.values) == list(values)
    empty = empty_mask(view.model, mode)
    before = slow_losses(view, empty, svds, prepared)
    assert found.loss == pytest.approx(sum(before) / 6, abs=tolerance)
    for value in values:
        mask = empty.with_removed([removed(view, svds, value, float(found.c[value[0]][value[1]]))])
        after = slow_losses(view, mask, svds, prepared)
        effect = found.values[value]
        assert effect.value == pytest.approx((sum(after) - sum(before)) / 6, abs=tolerance), str(value[0])
        spread = torch.tensor(after, dtype=torch.float64) - torch.tensor(before, dtype=torch.float64)
        assert effect.stderr == pytest.approx(float(spread.std()) / 6**0.5, abs=tolerance)
        assert effect.n == 6
    assert max(abs(effect.value) for effect in found.values.values()) > 1e-2
    assert view.model.current_digest() == view.model.digest


@pytest.mark.slow
def test_single_values_equal_one_edit_each_on_every_architecture(family64: Model, svds: SvdCache) -> None:
    view = family64.view()
    check_singles(view, svds, some_values(view, (1,)), "freeze", 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_single_values_equal_one_edit_each_in_both_modes(view: View, svds: SvdCache, mode: Mode) -> None:
    check_singles(view, svds, some_values(view, (0, 3)), mode, 1e-5)


def test_frozen_means_are_mean_inputs_on_the_singular_vectors(view64: View, svds: SvdCache) -> None:
    prepared, keys = cut(view64), matrices(view64)
    found = exact_effects(view64, prepared, svds, [(key, 0) for key in keys])
    kept = keep(view64, prepared, inputs=matrices(view64, per_head=False))
    width = int(view64.config.d_head)
    for key in keys:
        m = kept.means[key.stacked]
        part = m[key.head * width : (key.head + 1) * width] if key.kind is Kind.O and key.head is not None else m
        torch.testing.assert_close(found.c[key], part @ svds.get(view64, key).u.double())


def test_given_means_are_used(view64: View, svds: SvdCache) -> None:
    prepared, value = cut(view64), (MatrixKey(0, Kind.V, 1), 0)
    sites = [MatrixKey(0, Kind.V)]
    zero = {site: torch.zeros_like(m) for site, m in keep(view64, prepared, inputs=sites).means.items()}
    given = exact_effects(view64, prepared, svds, [value], means=zero)
    nothing = exact_effects(view64, prepared, svds, [value], mode="zero")
    own = exact_effects(view64, prepared, svds, [value])
    assert given.values[value].value == pytest.approx(nothing.values[value].value, abs=1e-12)
    assert abs(given.values[value].value - own.values[value].value) > 1e-5


@pytest.mark.parametrize("mode", MODES)
def test_at_a_mask_kept_values_are_removed_and_removed_ones_restored(view64: View, svds: SvdCache, mode: Mode) -> None:
    prepared = cut(view64)
    gone = [(MatrixKey(0, Kind.K, 1), 0), (MatrixKey(1, Kind.OUT), 1), (MatrixKey(1, Kind.O, 0), 2)]
    mask = empty_mask(view64.model, mode).with_removed([removed(view64, svds, value, 0.3) for value in gone])
    kept = [(MatrixKey(0, Kind.K, 1), 1), (MatrixKey(0, Kind.Q, 2), 0), (MatrixKey(1, Kind.OUT), 0)]
    found = exact_effects(view64, prepared, svds, [*gone, *kept], mode=mode, mask=mask)
    assert set(view64.applied) == {key.stacked for key, _ in gone}
    before = sum(slow_losses(view64, mask, svds, prepared)) / 6
    assert found.loss == pytest.approx(before, abs=1e-12)
    for key, index in gone:
        after = sum(slow_losses(view64, mask.without({(str(key), index)}), svds, prepared)) / 6
        assert found.values[key, index].value == pytest.approx(after - before, abs=1e-10)
    for key, index in kept:
        more = removed(view64, svds, (key, index), float(found.c[key][index]))
        after = sum(slow_losses(view64, mask.with_removed([more]), svds, prepared)) / 6
        assert found.values[key, index].value == pytest.approx(after - before, abs=1e-10)


def test_the_scorer_gives_every_value_its_exact_effect(view64: View, svds: SvdCache) -> None:
    task, keys, gone = tiny.task(), matrices(view64, [Kind.K, Kind.O], [1]), (MatrixKey(1, Kind.K, 0), 1)
    mask = empty_mask(view64.model).with_removed([removed(view64, svds, gone, 0.3)])
    for at in (None, mask):
        found = score(view64, task, svds, keys, scorer="exact", mask=at)
        values = [(key, index) for key in keys for index in range(svds.get(view64, key).rank)]
        effects = exact_effects(view64, batches(view64, task, task.train), svds, values, mask=at)
        assert found.loss == effects.loss
        for (key, index), effect in effects.values.items():
            assert float(found.matrices[key].score[index]) == effect.value
            assert float(found.matrices[key].c[index]) == float(effects.c[key][index])
    assert float(found.matrices[gone[0]].c[1]) == 0.3


def test_masks_measured_together_equal_masks_measured_alone(view64: View, svds: SvdCache) -> None:
    prepared, empty = cut(view64), empty_mask(view64.model)
    values = some_values(view64, (0, 1))
    heads = [value for value in values if value[0].head is not None]
    masks = [
        empty.with_removed([removed(view64, svds, value, 0.1) for value in group])
        for group in (heads[:1], heads[:7], [v for v in heads if v[0].layer == 1], [])
    ]
    kept = keep(view64, prepared)
    found = mask_losses(view64, kept, svds, masks)
    assert view64.applied == {}
    joint = joint_effects(view64, prepared, svds, masks)
    before = slow_losses(view64, empty, svds, prepared)
    for row, effect, mask in zip(found, joint, masks, strict=True):
        after = slow_losses(view64, mask, svds, prepared)
        assert row.tolist() == pytest.approx(after, abs=1e-12)
        assert effect.value == pytest.approx((sum(after) - sum(before)) / 6, abs=1e-12)
    assert joint[-1].value == 0
    assert mask_losses(view64, kept, svds, []).shape == (0, 6)


def test_stopping_keeps_what_is_done_and_the_rest_is_measured_later(view: View, svds: SvdCache, tmp_path: Path) -> None:
    values, prepared = some_values(view), cut(view)
    whole = exact_effects(view, prepared, svds, values)
    store = EffectStore(tmp_path / "effects.sqlite", pytest.fail)

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise Stopped

    with pytest.raises(Stopped):
        exact_effects(view, prepared, svds, values, store=store, progress=stop)
    assert 0 < len(store) < len(values)
    assert view.applied == {}
    resumed = exact_effects(view, prepared, svds, values, store=store)
    assert resumed.values == whole.values
    assert len(store) == len(values)


def test_what_the_time_allows_is_measured_and_the_rest_later(
    view: View, svds: SvdCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explorer.attribution.runs.TOKENS", 64)  # a few values at a time
    values, prepared, told = some_values(view), cut(view), list[Estimate]()
    whole = exact_effects(view, prepared, svds, values)
    store = EffectStore(tmp_path / "effects.sqlite", pytest.fail)
    clock = map(float, count(step=10)).__next__
    part = exact_effects(view, prepared, svds, values, store=store, pace=Pace(60.0, told.append, clock=clock))
    assert told[0].values == len(values)
    assert 0 < len(part.values) == len(store) < len(values)
    assert list(part.values) == [value for value in values if value in part.values]
    rest = exact_effects(view, prepared, svds, values, store=store, pace=Pace(None, told.append, clock=clock))
    assert told[1].values == len(values) - len(part.values)
    assert told[1].known == len(part.values)
    assert rest.values == whole.values


@pytest.mark.parametrize("at_mask", [False, True])
def test_what_was_measured_is_known_without_measuring(
    view: View, svds: SvdCache, tmp_path: Path, at_mask: bool
) -> None:
    store, prepared = EffectStore(tmp_path / "effects.sqlite", pytest.fail), cut(view)
    key, other = MatrixKey(0, Kind.Q, 1), MatrixKey(1, Kind.OUT)
    empty = empty_mask(view.model)
    mask = empty.with_removed([removed(view, svds, (key, 2), 0.1)]) if at_mask else empty
    assert known_effects(view, prepared, [key, other], mask, store) == {}
    found = exact_effects(view, prepared, svds, [(key, 0), (key, 2), (other, 1)], mask=mask, store=store)
    cut_otherwise = cut(view, 2)
    assert known_effects(view, cut_otherwise, [key, other], mask, store) == dict(found.values)
    assert set(known_effects(view, prepared, [other], mask, store)) == {(other, 1)}
    assert known_effects(view, prepared, [key, other], empty_mask(view.model, "zero"), store) == {}
    assert known_effects(view, prepared[:1], [key, other], mask, store) == {}


def test_stored_effects_belong_to_all_they_depend_on(view: View, svds: SvdCache, tmp_path: Path) -> None:
    prepared, value = cut(view), (MatrixKey(1, Kind.K, 0), 0)
    store = EffectStore(tmp_path / "effects.sqlite", pytest.fail)
    mask = empty_mask(view.model).with_removed([removed(view, svds, (MatrixKey(0, Kind.OUT), 0), 0.0)])
    means = {MatrixKey(1, Kind.K): torch.ones(int(view.config.d_model))}
    for entries, options in enumerate(({}, {"mode": "zero"}, {"mask": mask}, {"means": means}), start=1):
        first = exact_effects(view, prepared, svds, [value], store=store, **options)
        assert len(store) == entries
        assert exact_effects(view, prepared, svds, [value], store=store, **options).values == first.values
    exact_effects(view, prepared[:1], svds, [value], store=store)
    assert len(store) == 5
    exact_effects(view, cut(view, 3), svds, [value], store=store)
    assert len(store) == 5, "how examples are cut into batches does not matter"


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from explorer.attribution.exact import exact_effects
from explorer.measure.batches import batches
from explorer.attribution.effect_store import EffectStore
from explorer.models import load
from explorer.models.matrices import matrices
from explorer.spectra.cache import SvdCache
from tests import tiny

def kill(done, total):
    if done > total / 2:
        os.kill(os.getpid(), signal.SIGKILL)

view, task, svds = load(sys.argv[1], dtype="float32", device="cpu").view(), tiny.task(), SvdCache(None)
values = [(key, index) for key in matrices(view) for index in range(svds.get(view, key).rank)]
store = EffectStore(Path(sys.argv[2]), print)
exact_effects(view, batches(view, task, task.train), svds, values, store=store, progress=kill)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_bits(tmp_path: Path, svds: SvdCache) -> None:
    folder, root = tiny.save("llama", tmp_path / "model"), Path(__file__).parents[3]
    view, task, store = (
        load(str(folder), dtype="float32", device="cpu").view(),
        tiny.task(),
        tmp_path / "effects.sqlite",
    )
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(store), str(root)],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    values = [(key, index) for key in matrices(view) for index in range(svds.get(view, key).rank)]
    half = EffectStore(store, pytest.fail)
    stored = len(half)
    assert 0 < stored < len(values)
    prepared = batches(view, task, task.train)
    whole = exact_effects(view, prepared, svds, values)
    resumed = exact_effects(view, prepared, svds, values, store=half)
    assert resumed.values == whole.values
    assert len(half) == len(values)


def test_what_cannot_be_measured_is_refused(view: View, svds: SvdCache) -> None:
    prepared, key = cut(view), MatrixKey(0, Kind.K, 0)
    with pytest.raises(MatrixError, match=r"has singular values 0 to \d+, not 99"):
        exact_effects(view, prepared, svds, [(key, 99)])
    with pytest.raises(MatrixError, match="out of range"):
        exact_effects(view, prepared, svds, [(MatrixKey(7, Kind.K), 0)])
    with pytest.raises(SettingsError, match="exact effects need examples"):
        exact_effects(view, (), svds, [(key, 0)])
    mask = empty_mask(view.model).with_removed([removed(view, svds, (key, 0), 0.0)])
    with pytest.raises(SettingsError, match="one mode"):
        exact_effects(view, prepared, svds, [(key, 0)], mode="zero", mask=mask)
    with pytest.raises(MaskError, match=r"L0\.K overlaps L0\.K\.H0 of the mask"):
        exact_effects(view, prepared, svds, [(MatrixKey(0, Kind.K), 0)], mask=mask)
    assert exact_effects(view, prepared, svds, []).values == {}
