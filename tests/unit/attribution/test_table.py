"""The table of scorers, what a score run leaves behind, and what follows from scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
import torch

from explorer.attribution import NATS, SCORERS, Options, Scores, ScoringRequest, score
from explorer.core.errors import SettingsError, Stopped, TaskError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask, Mode
from explorer.measure.batches import batches
from explorer.models import View
from explorer.models.matrices import matrices, read
from explorer.search import mask_of
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task

FEW = Options(steps=2, batch_size=2)


@pytest.fixture
def level_task() -> Task:
    """Prompts of one length, which every scorer can take."""
    rows = (Example("w1 w2 w3", " w4"), Example("w5 w6 w7", " w7 w8"), Example("w9 w1 w11", " w14"))
    return Task("level", "", rows, rows, rows, seed=0)


def in_batches_of(
    size: int, view: View, task: Task, svds: SvdCache, keys: Sequence[MatrixKey], mode: Mode
) -> ScoringRequest:
    return ScoringRequest(view, svds, tuple(keys), batches(view, task, task.train, size), mode, 0, None, None, FEW)


def test_the_table_says_what_a_score_is() -> None:
    for name in ("gradient", "hybrid", "integrated", "curvature", "exact"):
        assert SCORERS[name].in_nats
    for name in ("as-released", "magnitude", "energy", "random"):
        assert not SCORERS[name].in_nats
    for spec in SCORERS.values():
        assert spec.summary.endswith(".")
        assert spec.cost
        assert spec.in_nats is (spec.unit == NATS)
        assert spec.at_mask or not spec.in_nats, "what predicts a change can do so from any mask"


@pytest.mark.slow
@pytest.mark.parametrize("scorer", sorted({*SCORERS} - {"as-released", "random"}))
def test_padding_does_not_change_scores(
    view64: View, tiny_task: Task, svds: SvdCache, keys: tuple[MatrixKey, ...], mode: Mode, scorer: str
) -> None:
    chosen = keys if scorer == "gradient" else keys[:1]
    if scorer == "curvature":  # the same answers must be drawn
        tiny_task = dataclasses.replace(tiny_task, train=tiny_task.train[:1])
    run = SCORERS[scorer].run
    results = [run(in_batches_of(size, view64, tiny_task, svds, chosen, mode)) for size in (1, 4, 64)]
    (loss, reference), *others = results
    for other_loss, other in others:
        assert other_loss == pytest.approx(loss, abs=1e-6)
        for key in chosen:
            scale = float(reference[key].score.abs().max())
            torch.testing.assert_close(other[key].score, reference[key].score, rtol=1e-5, atol=2e-6 * max(scale, 1.0))
            torch.testing.assert_close(other[key].c, reference[key].c, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scorer", sorted(SCORERS))
def test_scoring_leaves_the_view_unpruned_and_the_base_untouched(
    view: View, level_task: Task, svds: SvdCache, scorer: str
) -> None:
    keys = matrices(view, [Kind.Q], [0])
    tokens = torch.tensor([[0, 5, 6]])
    before = view.logits(tokens)
    clean = score(view, level_task, svds, keys, scorer=scorer, options=FEW)
    assert clean.unit == SCORERS[scorer].unit
    apply(view, mask_of(view, clean, [clean.removed(keys[0], 0)]), svds)
    again = score(view, level_task, svds, keys, scorer=scorer, options=FEW)
    for key in keys:
        assert torch.equal(again.matrices[key].score, clean.matrices[key].score)
    assert torch.equal(view.logits(tokens), before)
    assert not view.logits(tokens).requires_grad
    assert view.model.current_digest() == view.model.digest


@pytest.mark.parametrize("scorer", sorted(SCORERS))
def test_progress_runs_from_nothing_to_everything(view: View, level_task: Task, svds: SvdCache, scorer: str) -> None:
    told: list[float] = []
    keys = [MatrixKey(0, Kind.K, 0)]
    score(view, level_task, svds, keys, scorer=scorer, options=FEW, progress=lambda d, t: told.append(d / t))
    assert told[0] == 0
    assert told[-1] == 1
    assert told == sorted(told)


@pytest.mark.parametrize("scorer", ["integrated", "exact"])
def test_stopping_leaves_the_view_unpruned(view: View, level_task: Task, svds: SvdCache, scorer: str) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise Stopped

    with pytest.raises(Stopped):
        score(view, level_task, svds, [MatrixKey(0, Kind.Q)], scorer=scorer, progress=stop)
    assert view.applied == {}
    assert torch.equal(read(view, MatrixKey(0, Kind.Q)), read(view.model.view(), MatrixKey(0, Kind.Q)))
    assert not view.logits(torch.tensor([[0, 5]])).requires_grad


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
    moved = score(view, tiny_task, svds, keys, mask=mask)
    assert moved.predicted(mask) == 0
    one = mask.removed[0]
    assert moved.predicted(mask.without({(one.matrix, one.index)})) == float(moved.matrices[one.key].score[one.index])


@pytest.mark.parametrize("scorer", [name for name, spec in SCORERS.items() if not spec.in_nats])
def test_scores_that_are_no_changes_of_the_loss_predict_nothing(
    view: View, level_task: Task, svds: SvdCache, scorer: str
) -> None:
    keys = matrices(view, [Kind.K])
    found = score(view, level_task, svds, keys, scorer=scorer)
    _, key, index = found.ranking()[0]
    assert found.predicted(mask_of(view, found, [found.removed(key, index)])) is None


def test_requests_that_cannot_be_met_are_refused(view: View, tiny_task: Task, svds: SvdCache) -> None:
    key = MatrixKey(0, Kind.Q)
    with pytest.raises(SettingsError, match="'best' is not a scorer: choose one of gradient, "):
        score(view, tiny_task, svds, [key], scorer="best")
    with pytest.raises(SettingsError, match="no matrices were chosen"):
        score(view, tiny_task, svds, [])
    with pytest.raises(TaskError, match="a limit of 0 examples leaves nothing to measure"):
        score(view, tiny_task, svds, [key], limit=0)
    assert score(view, tiny_task, svds, [key], limit=2).n == 2
    for name in ("bootstrap", "steps", "draws", "batch_size", "answer_token"):
        with pytest.raises(SettingsError, match=rf"{name} is -1: give \d or more"):
            Options(**{name: -1})
    with pytest.raises(SettingsError, match="'straight' is not a path: choose all or matrix"):
        Options(path="straight")
