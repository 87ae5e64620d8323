"""Scores against slow references through plain transformers: per-value loops, finite differences, hand-made weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from explorer.attribution import SCORERS, Request, Scores, score
from explorer.batches import batches
from explorer.edit import apply, empty_mask
from explorer.errors import SettingsError, Stopped, TaskError
from explorer.keys import Kind, MatrixKey
from explorer.masks import Mask, Mode
from explorer.models import View
from explorer.registry import matrices, read
from explorer.search import mask_of
from explorer.svd_cache import SvdCache
from explorer.tasks import Example, Task
from tests import plain

MODES: tuple[Mode, ...] = ("freeze", "zero")
STEP = 1e-3


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    return found


@pytest.fixture
def keys(view64: View) -> tuple[MatrixKey, ...]:
    """Every matrix, per head and stacked."""
    return tuple(sorted({*matrices(view64), *matrices(view64, per_head=False)}))


def encoded(task: Task) -> list[plain.Encoded]:
    return [plain.encode_words(example) for example in task.train]


def in_batches_of(size: int, view: View, task: Task, svds: SvdCache, keys: Sequence[MatrixKey], mode: Mode) -> Request:
    return Request(view, svds, tuple(keys), batches(view, task, task.train, size), mode, 0, None)


def slow_scores(record: plain.Record, svd: tuple[plain.Array, ...], n: int, mode: Mode) -> list[float]:
    """The definition, one value and one token at a time."""
    u, s, vh = svd
    mean = record.x.mean(axis=0) if mode == "freeze" else np.zeros(record.x.shape[1])
    scores = []
    for i in range(len(s)):
        total = 0.0
        for x, g in zip(record.x, record.g, strict=True):
            total += float((x - mean) @ u[:, i]) * float(vh[i] @ g)
        scores.append(-s[i] / n * total)
    return scores


def test_gradient_scores_equal_the_sum_over_tokens_of_every_value(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, keys: tuple[MatrixKey, ...], mode: Mode
) -> None:
    found = score(view64, tiny_task, svds, keys, mode=mode)
    examples = encoded(tiny_task)
    assert found.loss == pytest.approx(plain.mean_loss(plain64, examples), rel=1e-6)
    assert (found.n, found.mode, found.task, found.split) == (6, mode, "tiny", "train")
    for key in keys:
        record = plain.record(plain64, key, examples)
        svd = plain.svd(plain64, key)
        expected = np.array(slow_scores(record, svd, len(examples), mode))
        matrix = found.matrices[key]
        largest = np.abs(expected).max()
        np.testing.assert_allclose(matrix.score, expected, rtol=1e-5, atol=1e-5 * largest, err_msg=str(key))
        np.testing.assert_allclose(matrix.s, svd[1], rtol=1e-6, err_msg=str(key))
        np.testing.assert_allclose(matrix.c, record.x.mean(axis=0) @ svd[0], rtol=1e-5, atol=1e-6, err_msg=str(key))
        assert largest > 1e-4, "the examples must move the score"


def removal_path(
    model: Any, key: MatrixKey, index: int, mean: plain.Array | None, task: Task
) -> Callable[[float], float]:
    """The mean loss as a function of how much of one value is removed (0: none, 1: all of it)."""
    u, s, vh = (torch.tensor(part) for part in plain.svd(model, key))
    where = plain.site(model, key)
    m = torch.tensor(0.0 if mean is None else mean)

    def loss(t: float) -> float:
        def change(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            moved = y.clone()
            moved[..., where.columns] -= t * s[index] * ((x[..., where.rows] - m) @ u[:, index])[..., None] * vh[index]
            return moved

        with plain.on_output(where.module, change):
            return plain.mean_loss(model, encoded(task))

    return loss


def derivative(f: Callable[[float], float], h: float = STEP) -> float:
    """Central difference of fourth order at 0."""
    return (f(-2 * h) - 8 * f(-h) + 8 * f(h) - f(2 * h)) / (12 * h)


def test_gradient_scores_equal_the_finite_difference_derivative(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, keys: tuple[MatrixKey, ...], mode: Mode
) -> None:
    found = score(view64, tiny_task, svds, keys, mode=mode)
    largest = max(float(matrix.score.abs().max()) for matrix in found.matrices.values())
    for place, key in enumerate(keys):
        matrix = found.matrices[key]
        index = place % len(matrix.s)
        mean = plain.record(plain64, key, encoded(tiny_task)).x.mean(axis=0) if mode == "freeze" else None
        slope = derivative(removal_path(plain64, key, index, mean, tiny_task))
        assert float(matrix.score[index]) == pytest.approx(slope, rel=1e-6, abs=1e-6 * largest), f"{key}, value {index}"


def test_exact_scores_equal_hand_made_weights(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, mode: Mode
) -> None:
    keys = (MatrixKey(1, Kind.K, 1), MatrixKey(0, Kind.O, 2), MatrixKey(1, Kind.V), MatrixKey(0, Kind.OUT))
    found = score(view64, tiny_task, svds, keys, scorer="exact", mode=mode)
    examples = encoded(tiny_task)
    base = plain.mean_loss(plain64, examples)
    for key in keys:
        mean = plain.record(plain64, key, examples).x.mean(axis=0) if mode == "freeze" else None
        for index in {0, len(found.matrices[key].s) - 1, 2}:
            edited = plain.without_value(plain64, key, index, mean)
            expected = plain.mean_loss(edited, examples) - base
            assert float(found.matrices[key].score[index]) == pytest.approx(expected, abs=2e-6), f"{key}, value {index}"
        assert float(found.matrices[key].score.abs().max()) > 1e-3
    assert found.loss == pytest.approx(base, abs=1e-6)


@pytest.mark.parametrize("scorer", ["gradient", "exact"])
def test_padding_does_not_change_scores(
    view64: View, tiny_task: Task, svds: SvdCache, keys: tuple[MatrixKey, ...], mode: Mode, scorer: str
) -> None:
    chosen = keys if scorer == "gradient" else keys[:1]
    results = [SCORERS[scorer](in_batches_of(size, view64, tiny_task, svds, chosen, mode)) for size in (1, 4, 64)]
    (loss, reference), *others = results
    for other_loss, other in others:
        assert other_loss == pytest.approx(loss, abs=1e-6)
        for key in chosen:
            scale = float(reference[key].score.abs().max())
            torch.testing.assert_close(other[key].score, reference[key].score, rtol=1e-5, atol=2e-6 * max(scale, 1.0))
            torch.testing.assert_close(other[key].c, reference[key].c, rtol=1e-6, atol=1e-6)


def test_what_never_varies_scores_zero_in_freeze_mode_only(view64: View, svds: SvdCache) -> None:
    """Without BOS and with prompts of one and the same word, every input is the mean input."""
    task = Task("constant", "", *((Example("w1", " w3"),) * 3,) * 3, seed=0, bos=False)
    key = MatrixKey(1, Kind.V)
    largest = {
        mode: float(score(view64, task, svds, [key], mode=mode).matrices[key].score.abs().max()) for mode in MODES
    }
    assert largest["freeze"] < 1e-6
    assert largest["zero"] > 1e-3


def test_the_random_scorer_follows_its_seed(view: View, tiny_task: Task, svds: SvdCache) -> None:
    keys = matrices(view, [Kind.K])

    def draw(seed: int) -> torch.Tensor:
        found = score(view, tiny_task, svds, keys, scorer="random", seed=seed)
        return torch.cat([found.matrices[key].score for key in keys])

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    values = torch.cat([draw(seed) for seed in range(30)])
    assert abs(float(values.mean())) < 0.1
    assert abs(float(values.std()) - 1) < 0.1


@pytest.mark.parametrize("scorer", sorted(SCORERS))
def test_scoring_leaves_the_view_unpruned_and_the_base_untouched(
    view: View, tiny_task: Task, svds: SvdCache, scorer: str
) -> None:
    keys = matrices(view, [Kind.Q], [0])
    tokens = torch.tensor([[0, 5, 6]])
    before = view.logits(tokens)
    clean = score(view, tiny_task, svds, keys, scorer=scorer)
    apply(view, mask_of(view, clean, [clean.removed(keys[0], 0)]), svds)
    again = score(view, tiny_task, svds, keys, scorer=scorer)
    for key in keys:
        assert torch.equal(again.matrices[key].score, clean.matrices[key].score)
    assert torch.equal(view.logits(tokens), before)
    assert not view.logits(tokens).requires_grad
    assert view.model.current_digest() == view.model.digest


def test_stopping_an_exact_score_leaves_the_view_unpruned(view: View, tiny_task: Task, svds: SvdCache) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise Stopped

    with pytest.raises(Stopped):
        score(view, tiny_task, svds, [MatrixKey(0, Kind.Q)], scorer="exact", progress=stop)
    assert view.applied == {}
    assert torch.equal(read(view, MatrixKey(0, Kind.Q)), read(view.model.view(), MatrixKey(0, Kind.Q)))


def test_progress_runs_from_nothing_to_everything(view: View, tiny_task: Task, svds: SvdCache) -> None:
    for scorer in ("gradient", "exact"):
        told: list[float] = []
        score(view, tiny_task, svds, [MatrixKey(0, Kind.K, 0)], scorer=scorer, progress=lambda d, t: told.append(d / t))  # noqa: B023
        assert told[0] == 0
        assert told[-1] == 1
        assert told == sorted(told)


def test_rankings_and_predictions_add_up(view: View, tiny_task: Task, svds: SvdCache) -> None:
    keys = matrices(view, [Kind.K])
    found: Scores = score(view, tiny_task, svds, keys)
    ranking = found.ranking()
    assert [entry[0] for entry in ranking] == sorted(float(v) for key in keys for v in found.matrices[key].score)
    assert len({(key, index) for _, key, index in ranking}) == len(ranking) == found.size
    mask = mask_of(view, found, [found.removed(key, index) for _, key, index in ranking[:3]])
    assert found.predicted(mask) == pytest.approx(sum(entry[0] for entry in ranking[:3]))
    assert found.predicted(empty_mask(view.model)) == 0
    unscored: Mask = mask.with_removed([found.removed(keys[0], 0).model_copy(update={"matrix": "L0.Q.H0"})])
    assert found.predicted(unscored) is None


def test_requests_that_cannot_be_met_are_refused(view: View, tiny_task: Task, svds: SvdCache) -> None:
    key = MatrixKey(0, Kind.Q)
    with pytest.raises(SettingsError, match="'best' is not a scorer: choose one of gradient, exact, random"):
        score(view, tiny_task, svds, [key], scorer="best")
    with pytest.raises(SettingsError, match="no matrices were chosen"):
        score(view, tiny_task, svds, [])
    with pytest.raises(TaskError, match="a limit of 0 examples leaves nothing to measure"):
        score(view, tiny_task, svds, [key], limit=0)
    assert score(view, tiny_task, svds, [key], limit=2).n == 2
