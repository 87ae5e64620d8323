"""What a mask does to a view: the identity, the algebra, the freeze, and never anything to another view."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explorer.attribution import Scores, score
from explorer.core.errors import ExplorerError, MaskError, MatrixError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply, check_mask, empty_mask, identity
from explorer.masks.mask import Mask, Mode, Removed, load_mask
from explorer.measure.evaluate import Evaluation, evaluate
from explorer.models import Model, View
from explorer.models.matrices import matrices, output_hook, parts_of, read, read_base, read_base_bias, read_bias
from explorer.search import mask_of
from explorer.spectra.cache import SvdCache
from explorer.spectra.svd import Decomposition
from explorer.tasks import Task
from tests import plain

TOKENS = torch.tensor([[0, 5, 9, 3, 11]])


@pytest.fixture
def scores(view: View, tiny_task: Task, svds: SvdCache) -> Scores:
    return score(view, tiny_task, svds, matrices(view))


@pytest.fixture
def scores64(view64: View, tiny_task: Task, svds: SvdCache) -> Scores:
    return score(view64, tiny_task, svds, matrices(view64))


def some(scores: Scores, count: int, seed: int, keys: Iterable[MatrixKey] | None = None) -> list[Removed]:
    places = [(key, i) for key in keys or scores.matrices for i in range(len(scores.matrices[key].s))]
    return [scores.removed(key, i) for key, i in random.Random(seed).sample(places, count)]


def bits(view: View) -> list[torch.Tensor]:
    """Every weight and bias of every matrix, and the logits."""
    keys = matrices(view, per_head=False)
    biases = [bias for key in keys if (bias := read_bias(view, key)) is not None]
    return [*(read(view, key).clone() for key in keys), *(bias.clone() for bias in biases), view.logits(TOKENS)]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_empty_mask_is_the_identity(model: Model, folder: Path, svds: SvdCache) -> None:
    view = model.view()
    base = view.logits(TOKENS)
    for mode in ("freeze", "zero"):
        change = apply(view, empty_mask(model, mode), svds)
        assert (change.removed, change.matrices, change.rewritten, change.restored) == (0, (), (), ())
        assert torch.equal(view.logits(TOKENS), base)
    for key in matrices(view):
        assert read(view, key).data_ptr() == read_base(view, key).data_ptr()
    with torch.no_grad():
        torch.testing.assert_close(base, plain.load_plain(folder)(TOKENS).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["freeze", "zero"])
@pytest.mark.parametrize("per_head", [True, False], ids=["per head", "stacked"])
def test_removing_takes_exactly_the_parts_out(
    view: View, tiny_task: Task, svds: SvdCache, mode: Mode, per_head: bool
) -> None:
    keys = matrices(view, per_head=per_head)
    scored = score(view, tiny_task, svds, keys, mode=mode)
    mask = mask_of(view, scored, some(scored, scored.size // 3, seed=1))
    apply(view, mask, svds)
    for key in keys:
        base = read_base(view, key).double()
        decomposition = svds.get(view, key)
        gone = sorted(mask.indices(key))
        torch.testing.assert_close(decomposition.recompose().double(), base, rtol=0, atol=1e-5 * float(base.norm()))
        expected = base - sum((_outer(decomposition, i) for i in gone), torch.zeros_like(base))
        torch.testing.assert_close(read(view, key).double(), expected, rtol=0, atol=1e-5 * float(base.norm()))
        if not gone:
            assert torch.equal(read(view, key), read_base(view, key)), f"{key} is not in the mask"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["freeze", "zero"])
@pytest.mark.parametrize("gain", [0.0, 0.3, 0.95])
def test_a_gain_keeps_that_share_of_every_value(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, mode: Mode, gain: float
) -> None:
    """Against numpy on the plain model's own weights: W' = W - (1-g) sum s u v^T, b' = b + (1-g) sum s c v."""
    keys = matrices(view64)
    scored = score(view64, tiny_task, svds, keys, mode=mode)
    mask = mask_of(view64, scored, some(scored, scored.size // 3, seed=1), gain=gain)
    apply(view64, mask, svds)
    for site in dict.fromkeys(key.stacked for key in keys):
        whole = plain.site(plain64, site)
        W = whole.weight().detach().numpy().copy()
        own = whole.module.bias
        b = np.zeros(W.shape[1]) if own is None else own.detach()[whole.columns].numpy().copy()
        for key, removed in mask.by_matrix.items():
            if key.stacked != site:
                continue
            where, (u, s, vh) = parts_of(view64, key), plain.svd(plain64, key)
            for one in removed:
                i = one.index
                W[where] -= (1 - gain) * s[i] * np.outer(u[:, i], vh[i])
                b[where[1]] += (1 - gain) * s[i] * one.c * vh[i] if mode == "freeze" else 0.0
        np.testing.assert_allclose(read(view64, site).numpy(), W, rtol=0, atol=1e-6)
        bias = read_bias(view64, site)
        np.testing.assert_allclose(np.zeros_like(b) if bias is None else bias.numpy(), b, rtol=0, atol=1e-6)
    assert view64.model.current_digest() == view64.model.digest, "the shared model is as it was"
    apply(view64, mask.without_all(), svds)
    assert view64.applied == {}


@pytest.mark.parametrize("mode", ["freeze", "zero"])
def test_without_a_gain_the_bits_are_those_of_plain_sums(
    view: View, tiny_task: Task, svds: SvdCache, mode: Mode
) -> None:
    keys = matrices(view, per_head=False)
    scored = score(view, tiny_task, svds, keys, mode=mode)
    mask = mask_of(view, scored, some(scored, scored.size // 3, seed=1))
    apply(view, mask, svds)
    for key, removed in mask.by_matrix.items():
        found, indices = svds.get(view, key), [one.index for one in removed]
        assert torch.equal(read(view, key), read_base(view, key) - found.part(indices))
        bias, base = read_bias(view, key), read_base_bias(view, key)
        expected = base
        if mode == "freeze":
            weights = found.s[indices] * torch.tensor([one.c for one in removed], dtype=torch.float64)
            frozen = weights.to(found.vh.dtype) @ found.vh[indices]
            expected = frozen if base is None else base + frozen
        assert (bias is None) == (expected is None)
        assert bias is None or torch.equal(bias, expected)


def test_the_gain_leads_from_the_pruned_model_to_the_unpruned_one(
    view64: View, scores64: Scores, svds: SvdCache
) -> None:
    key = MatrixKey(1, Kind.OUT)  # nothing behind it but the final norm
    mask = mask_of(view64, scores64, some(scores64, 3, seed=5, keys=[key]))
    pruned, unpruned = (out(view64, one, key, svds) for one in (mask, mask.without_all()))
    for gain in (0.25, 0.5, 0.999999):
        expected = (1 - gain) * pruned + gain * unpruned
        torch.testing.assert_close(out(view64, mask.scaled(gain), key, svds), expected, rtol=0, atol=1e-9)
    assert not torch.allclose(pruned, unpruned)


def test_another_gain_is_another_edit(view: View, scores: Scores, svds: SvdCache) -> None:
    mask = mask_of(view, scores, some(scores, 12, seed=3))
    apply(view, mask, svds)
    pruned = bits(view)
    assert apply(view, mask.scaled(0.5), svds).rewritten
    assert not equal(bits(view), pruned)
    assert not apply(view, mask.scaled(0.5), svds).rewritten
    apply(view, mask.scaled(0.5).scaled(0.0), svds)
    assert equal(bits(view), pruned)


def out(view: View, mask: Mask, key: MatrixKey, svds: SvdCache) -> torch.Tensor:
    """What a matrix writes under a mask."""
    apply(view, mask, svds)
    found: list[torch.Tensor] = []
    with view.bridge.hooks(fwd_hooks=[(output_hook(key), lambda y, hook: found.append(y.detach().clone()))]):
        view.logits(TOKENS)
    return found[0]


def _outer(decomposition: Decomposition, i: int) -> torch.Tensor:
    return decomposition.s[i] * torch.outer(decomposition.u[:, i].double(), decomposition.vh[i].double())


@pytest.mark.slow
def test_with_every_value_frozen_the_output_is_its_mean_on_every_token(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache
) -> None:
    examples = [plain.encode_words(example) for example in tiny_task.train]
    keys = [*matrices(view64, layers=[1]), *matrices(view64, layers=[1], per_head=False)]
    for key in keys:
        scored = score(view64, tiny_task, svds, [key])
        everything = [scored.removed(key, i) for i in range(len(scored.matrices[key].s))]
        apply(view64, mask_of(view64, scored, everything), svds)
        where = plain.site(plain64, key)
        x = torch.tensor(plain.record(plain64, key, examples).x)
        mean = (x @ where.weight()).mean(dim=0)
        if where.module.bias is not None:
            mean = mean + where.module.bias.detach()[where.columns]
        found = outputs(view64, key, [one.read for one in examples])
        if key.kind is Kind.O and key.head is not None:  # the other heads still vary; this one's share must be its mean
            others = torch.tensor(plain.record(plain64, key.stacked, examples).x)
            weight = plain.site(plain64, key.stacked).weight().clone()
            weight[where.rows] = 0
            found = found - others @ weight
        torch.testing.assert_close(found, mean.expand_as(found), rtol=1e-5, atol=1e-5)


def outputs(view: View, key: MatrixKey, sequences: list[list[int]]) -> torch.Tensor:
    """The matrix's output on every token of every sequence, run one at a time."""
    kept: list[torch.Tensor] = []
    hook = (output_hook(key), lambda value, hook: kept.append(value.flatten(2)[0].detach()))
    with torch.no_grad(), view.bridge.hooks(fwd_hooks=[hook]):
        for sequence in sequences:
            view.logits(torch.tensor([sequence]))
    return torch.cat(kept)[:, parts_of(view, key)[1]]


def test_with_every_value_zeroed_only_the_bias_is_left(view64: View, tiny_task: Task, svds: SvdCache) -> None:
    for key in matrices(view64, layers=[0], per_head=False):
        scored = score(view64, tiny_task, svds, [key], mode="zero")
        everything = [scored.removed(key, i) for i in range(len(scored.matrices[key].s))]
        apply(view64, mask_of(view64, scored, everything), svds)
        found = outputs(view64, key, TOKENS.tolist())
        bias = read_bias(view64, key)
        expected = torch.zeros_like(found) if bias is None else bias.expand_as(found)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_weights_depend_on_the_mask_alone_whatever_came_before(
    view: View, model: Model, scores: Scores, svds: SvdCache, seed: int
) -> None:
    goal = mask_of(view, scores, some(scores, 12, seed=99))
    fresh = model.view()
    apply(fresh, goal, svds)
    steps = random.Random(seed)
    for step in range(6):
        mask = mask_of(view, scores, some(scores, steps.randrange(40), seed=1000 * seed + step))
        apply(view, mask if step % 2 else Mask(model=mask.model, mode="zero", removed=mask.removed), svds)
    apply(view, goal, svds)
    assert equal(bits(view), bits(fresh))
    apply(view, empty_mask(model), svds)
    assert equal(bits(view), bits(model.view()))
    assert view.applied == {}


def test_only_what_changed_is_computed(view: View, scores: Scores, svds: SvdCache) -> None:
    k, q = MatrixKey(0, Kind.K, 0), MatrixKey(1, Kind.Q, 1)
    first = mask_of(view, scores, [scores.removed(k, 0)])
    assert apply(view, first, svds).rewritten == (k.stacked,)
    assert apply(view, first, svds).rewritten == ()
    change = apply(view, first.with_removed([scores.removed(q, 2)]), svds)
    assert (change.rewritten, change.restored, change.removed) == ((q.stacked,), (), 2)
    assert change.matrices == (k, q)
    change = apply(view, first.without_all(), svds)
    assert (change.rewritten, set(change.restored), change.removed) == ((), {k.stacked, q.stacked}, 0)


def test_the_base_and_other_views_stay_as_they_are(model: Model, scores: Scores, svds: SvdCache) -> None:
    masked, other = model.view(), model.view()
    before = bits(other)
    apply(masked, mask_of(masked, scores, some(scores, 30, seed=4)), svds)
    assert not torch.equal(masked.logits(TOKENS), before[-1])
    assert equal(bits(other), before)
    assert equal(bits(model.view()), before)
    assert model.current_digest() == model.digest


@pytest.mark.slow
def test_two_sessions_in_threads_get_what_each_gets_alone(
    model: Model, scores: Scores, tiny_task: Task, svds: SvdCache
) -> None:
    views = [model.view() for _ in range(3)]
    masks = [mask_of(views[0], scores, some(scores, 10 * (n + 1), seed=n)) for n in range(3)]
    alone = []
    for view, mask in zip(views, masks, strict=True):
        apply(view, mask, svds)
        alone.append((evaluate(view, tiny_task), score(view, tiny_task, svds, matrices(view, [Kind.K])).ranking()))
    assert len({evaluation.loss for evaluation, _ in alone}) == 3
    found: list[list[tuple[Evaluation, Any]]] = [[], [], []]
    start = threading.Barrier(3)

    def session(n: int) -> None:
        view = views[n]
        start.wait()
        for _ in range(8):
            apply(view, masks[n], svds)
            evaluation = evaluate(view, tiny_task)
            found[n].append((evaluation, score(view, tiny_task, svds, matrices(view, [Kind.K])).ranking()))

    threads = [threading.Thread(target=session, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(3):
        assert found[n] == [alone[n]] * 8
    assert model.current_digest() == model.digest


def test_an_exported_mask_evaluates_bit_equal(
    view: View, model: Model, scores: Scores, tiny_task: Task, svds: SvdCache, tmp_path: Path
) -> None:
    mask = mask_of(view, scores, some(scores, 25, seed=8))
    apply(view, mask, svds)
    mask.save(tmp_path / "mask.json")
    imported = load_mask(tmp_path / "mask.json")
    other = model.view()
    apply(other, imported, SvdCache(tmp_path / "svd"))  # decomposed anew, as another machine would
    assert evaluate(other, tiny_task) == evaluate(view, tiny_task)
    apply(other, empty_mask(model), svds)
    apply(other, imported, SvdCache(tmp_path / "svd"))  # and read from disk
    assert equal(bits(other), bits(view))


def refused(view: View, scores: Scores) -> dict[str, tuple[Mask, type[ExplorerError], str]]:
    good = scores.removed(MatrixKey(0, Kind.Q, 0), 0)
    other = {"digest": "sha256:" + "0" * 64, "weights": "sha256:" + "1" * 64, "source": "another/model"}
    foreign = identity(view.model).model_copy(update=other)

    def changed(**update: Any) -> Mask:
        bad = good.model_copy(update={"matrix": "L1.K.H1", "sigma": float(scores.matrices[_K].s[0]), **update})
        return mask_of(view, scores, [good, bad])

    return {
        "foreign": (
            Mask(model=foreign, removed=(good,)),
            MaskError,
            r"made for another/model \(sha256:0{8}\.\.\.\)",
        ),
        "index": (changed(index=400), MaskError, r"L1\.K\.H1 has singular values 0 to \d, the mask removes 400"),
        "sigma": (
            changed(sigma=99.0),
            MaskError,
            r"value 0 of L1\.K\.H1 is [\d.]+, the mask says 99: .*weights",
        ),
        "layer": (changed(matrix="L7.K.H1"), MatrixError, "layer 7 is out of range: the model has layers 0 to 1"),
        "head": (changed(matrix="L1.K.H9"), MatrixError, r"L1\.K\.H9: the model has K heads 0 to"),
    }


_K = MatrixKey(1, Kind.K, 1)


@pytest.mark.parametrize("case", ["foreign", "index", "sigma", "layer", "head"])
def test_a_refused_mask_says_why_and_changes_nothing(view: View, scores: Scores, svds: SvdCache, case: str) -> None:
    mask, error, words = refused(view, scores)[case]
    apply(view, mask_of(view, scores, some(scores, 9, seed=2)), svds)
    before, applied = bits(view), dict(view.applied)
    for use in (apply, check_mask):
        with pytest.raises(error, match=words):
            use(view, mask, svds)
        assert equal(bits(view), before)
        assert view.applied == applied


def test_a_sigma_within_what_another_machine_may_compute_is_taken(view: View, scores: Scores, svds: SvdCache) -> None:
    value = scores.removed(_K, 1)
    top = float(scores.matrices[_K].s[0])
    near = mask_of(view, scores, [value.model_copy(update={"sigma": value.sigma + 0.9e-4 * top})])
    check_mask(view, near, svds)
    assert apply(view, near, svds).removed == 1
    far = mask_of(view, scores, [value.model_copy(update={"sigma": value.sigma + 1.1e-4 * top})])
    with pytest.raises(MaskError, match="made from other weights"):
        check_mask(view, far, svds)
