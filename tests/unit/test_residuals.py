"""Running only what changed against running everything, on every supported architecture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from explorer.core.errors import SettingsError, Stopped
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask, Removed
from explorer.measure.batches import Batch, batches
from explorer.measure.metrics import losses, run
from explorer.measure.residuals import keep, logits_from, run_kept
from explorer.models import Model, View, load
from explorer.models.matrices import matrices, read, replace
from explorer.spectra.cache import SvdCache
from tests import tiny
from tests.families import FAMILIES


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = FAMILIES[request.param].save(tmp_path_factory.mktemp("family"))
    return dataclasses.replace(load(str(folder), dtype="float32", device="cpu"), tokenizer=tiny.tokenizer())


def cut(view: View, size: int = 4) -> tuple[Batch, ...]:
    task = tiny.task()
    return batches(view, task, task.train, size)


def removing(view: View, svds: SvdCache, *places: tuple[str, int], c: float = 0.1) -> Mask:
    removed = [
        Removed(matrix=name, index=index, sigma=float(svds.get(view, MatrixKey.parse(name)).s[index]), c=c)
        for name, index in places
    ]
    return empty_mask(view.model).with_removed(removed)


@pytest.mark.slow
def test_what_runs_from_a_kept_stream_is_bit_equal_to_the_whole(family: Model) -> None:
    view = family.view()
    prepared = cut(view)
    kept = keep(view, prepared)
    assert kept.layers == (1,)
    for key in (MatrixKey(1, Kind.Q), MatrixKey(1, Kind.IN)):
        replace(view, key, read(view, key) * 0.5)
    with torch.no_grad():
        alone, together = logits_from(view, kept, 1), logits_from(view, kept, 1, copies=3)
        for number, (batch, logits, copied) in enumerate(zip(prepared, alone, together, strict=True)):
            whole = run(view, batch)
            assert torch.equal(losses(logits, batch), whole.loss)
            assert torch.equal(logits.argmax(dim=-1), whole.predicted)
            copies = losses(copied, batch.repeated(3))
            torch.testing.assert_close(copies, whole.loss.repeat(3), rtol=1e-6, atol=1e-6)
            assert torch.equal(run(family.view(), batch).loss, kept.outcomes[number].loss)
    assert family.current_digest() == family.digest


def test_nothing_before_the_first_changed_layer_runs(view: View) -> None:
    kept = keep(view, cut(view))
    ran: list[int] = []
    hooks = [
        (f"blocks.{layer}.attn.o.hook_in", lambda x, hook: ran.append(hook.layer())) for layer in range(tiny.LAYERS)
    ]
    with view.bridge.hooks(fwd_hooks=hooks):
        assert len(list(logits_from(view, kept, 1))) == 2
        assert ran == [1, 1]
        next(logits_from(view, kept, 0))
    assert ran == [1, 1, 0, 1]


def test_a_mask_decides_where_to_start(view: View, svds: SvdCache) -> None:
    prepared = cut(view)
    kept = keep(view, prepared)
    assert kept.first_change(view) is None
    assert list(run_kept(view, kept)) == list(kept.outcomes)
    assert kept.loss == pytest.approx(sum(float(run(view, batch).loss.sum()) for batch in prepared) / 6)
    for mask, layer in (
        (removing(view, svds, ("L1.K.H0", 1)), 1),
        (removing(view, svds, ("L1.K.H0", 1), ("L0.OUT", 0)), 0),
    ):
        apply(view, mask, svds)
        assert kept.first_change(view) == layer
        for found, batch in zip(run_kept(view, kept), prepared, strict=True):
            assert torch.equal(found.loss, run(view, batch).loss)


def test_streams_can_be_kept_at_a_mask(view: View, svds: SvdCache) -> None:
    apply(view, removing(view, svds, ("L0.V", 2)), svds)
    prepared = cut(view)
    kept = keep(view, prepared)
    assert kept.first_change(view) is None
    apply(view, removing(view, svds, ("L0.V", 2), ("L1.Q", 0)), svds)
    assert kept.first_change(view) == 1
    assert torch.equal(next(run_kept(view, kept)).loss, run(view, prepared[0]).loss)
    apply(view, removing(view, svds, ("L0.V", 2), c=0.3), svds)
    assert kept.first_change(view) == 0, "another frozen mean is another edit"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "layers"), [(1 << 30, (1, 2, 3, 4, 5)), (5, (1, 2, 3, 4, 5)), (2, (2, 4)), (1, (3,)), (0, ())]
)
def test_short_memory_keeps_every_kth_block(
    tmp_path: Path, svds: SvdCache, budget: int, layers: tuple[int, ...]
) -> None:
    deep = dataclasses.replace(FAMILIES["llama"], options={**FAMILIES["llama"].options, "num_hidden_layers": 6})
    view = load(str(deep.save(tmp_path)), dtype="float32", device="cpu").view()
    prepared = cut(view)
    each = sum(batch.tokens.numel() for batch in prepared) * 16 * 4
    kept = keep(view, prepared, memory_bytes=budget * each)
    assert kept.layers == layers
    assert [kept.start(layer) for layer in range(6)] == [
        max((k for k in layers if k <= layer), default=0) for layer in range(6)
    ]
    for layer in range(6):
        apply(view, removing(view, svds, (f"L{layer}.IN", 0)), svds)
        assert torch.equal(next(run_kept(view, kept)).loss, run(view, prepared[0]).loss)


def test_mean_inputs_are_means_over_real_tokens(view64: View) -> None:
    sites = matrices(view64, per_head=False)
    whole, single = keep(view64, cut(view64, 6), inputs=sites), keep(view64, cut(view64, 1), inputs=sites)
    assert set(whole.means) == set(sites)
    # Llama's norms and softmax are float32 in a float64 model, too, and round by how wide a batch is.
    rtol, atol = (1e-4, 1e-7) if view64.model.architecture.startswith("Llama") else (1e-9, 1e-12)
    for site in sites:
        torch.testing.assert_close(whole.means[site], single.means[site], rtol=rtol, atol=atol)
    assert not keep(view64, cut(view64)).means


def test_the_view_is_whole_again_after_a_failure(view: View) -> None:
    prepared = cut(view)
    kept = keep(view, prepared)
    before = run(view, prepared[0]).loss

    def fail(y: torch.Tensor, hook: object) -> None:
        raise Stopped

    with view.bridge.hooks(fwd_hooks=[("blocks.1.hook_in", fail)]), pytest.raises(Stopped):
        next(logits_from(view, kept, 1))
    assert torch.equal(run(view, prepared[0]).loss, before)
    assert not view.bridge.unembed._forward_pre_hooks


def test_streams_of_another_model_are_refused(view: View, bundled: Model) -> None:
    kept = keep(view, cut(view))
    with pytest.raises(SettingsError, match="another model"):
        next(run_kept(bundled.view(), kept))
