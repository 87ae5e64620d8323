"""Damage: what evaluate, alternatives and perplexity say one by one, and an unpruned view afterwards."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from explorer.core.errors import MaskError, Stopped, TaskError
from explorer.core.keys import Kind
from explorer.masks.apply import apply, empty_mask
from explorer.masks.damage import damage
from explorer.masks.mask import Mask
from explorer.measure.choices import alternatives
from explorer.measure.evaluate import evaluate
from explorer.measure.paired import bootstrap_interval, mcnemar
from explorer.measure.perplexity import growth, perplexity
from explorer.models import Model
from explorer.search import prune
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests.unit.test_perplexity import TEXT
from tests.unit.test_scoring import TASK


@pytest.fixture
def mask(model: Model, tiny_task: Task, svds: SvdCache) -> Mask:
    return prune(model.view(), tiny_task, svds, kinds=[Kind.V, Kind.K], count=6)


def test_it_is_what_the_parts_say(model: Model, mask: Mask, tiny_task: Task, svds: SvdCache) -> None:
    found = damage(model.view(), mask, svds, [tiny_task, TASK], TEXT)
    view, empty = model.view(), empty_mask(model)
    for one, task in zip(found.tasks, (tiny_task, TASK), strict=True):
        for state, expected in ((mask, one.comparison.masked), (empty, one.comparison.baseline)):
            apply(view, state, svds)
            found_now = evaluate(view, task)
            assert expected.correct == found_now.correct
            assert expected.loss == pytest.approx(found_now.loss, abs=1e-5)
        assert one.accuracy_test == mcnemar(one.comparison.masked.correct, one.comparison.baseline.correct)
    words, choices = found.tasks
    assert (words.masked, words.baseline, words.choice_test()) == (None, None, None)
    assert found.text is not None
    apply(view, mask, svds)
    assert choices.masked == alternatives(view, TASK)
    assert found.text.masked == perplexity(view, TEXT)
    apply(view, empty, svds)
    assert choices.baseline == alternatives(view, TASK)
    assert found.text.baseline == perplexity(view, TEXT)
    assert found.text.growth == growth(found.text.masked, found.text.baseline)
    assert found.text.masked.loss != found.text.baseline.loss
    pairs = zip(choices.comparison.masked.loss, choices.comparison.baseline.loss, strict=True)
    assert choices.loss_interval() == bootstrap_interval([now - then for now, then in pairs])


def test_the_report_is_json_with_n_and_spread_everywhere(model: Model, mask: Mask, svds: SvdCache) -> None:
    report = json.loads(json.dumps(damage(model.view(), mask, svds, [TASK], TEXT, limit=3).as_dict()))
    (task,) = report["tasks"]
    assert report["removed"] == 6
    assert task["masked"]["n"] == task["baseline"]["n"] == 3
    assert set(task["choice_test"]) == {"sum", "mean"}
    assert len(task["loss_change"]["interval"]) == len(report["text"]["growth"]["interval"]) == 2
    assert report["text"]["masked"]["tokens"] == 40
    assert damage(model.view(), mask, svds).as_dict()["text"] is None


def test_an_empty_mask_does_no_damage(model: Model, tiny_task: Task, svds: SvdCache) -> None:
    found = damage(model.view(), empty_mask(model), svds, [tiny_task], TEXT)
    assert found.tasks[0].comparison.loss_change.value == 0
    assert found.tasks[0].accuracy_test.p == 1
    assert found.text is not None
    assert found.text.growth == (0.0, (0.0, 0.0))


def test_the_view_is_left_unpruned_whatever_happens(model: Model, mask: Mask, tiny_task: Task, svds: SvdCache) -> None:
    view = model.view()
    before = evaluate(view, tiny_task)
    damage(view, mask, svds, [tiny_task])
    assert evaluate(view, tiny_task) == before

    def stop(done: int, total: int) -> None:
        if done:
            raise Stopped

    with pytest.raises(Stopped):
        damage(view, mask, svds, [tiny_task], TEXT, progress=stop)
    assert evaluate(view, tiny_task) == before
    with pytest.raises(TaskError):
        damage(view, mask, svds, [replace(tiny_task, test=())])
    assert evaluate(view, tiny_task) == before
    foreign = mask.model_copy(update={"model": mask.model.model_copy(update={"digest": "sha256:" + "0" * 64})})
    with pytest.raises(MaskError, match="the mask was made for"):
        damage(view, foreign, svds, [tiny_task])


def test_progress_reaches_the_end(model: Model, mask: Mask, tiny_task: Task, svds: SvdCache) -> None:
    told: list[float] = []
    damage(model.view(), mask, svds, [tiny_task, TASK], TEXT, progress=lambda done, total: told.append(done / total))
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0, 1)
