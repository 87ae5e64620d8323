"""The live sample: the first examples, as many as fit the budget, measured as `evaluate` measures them."""

from __future__ import annotations

import pytest
import torch

from explorer.core.errors import Stopped, TaskError
from explorer.core.keys import Kind
from explorer.masks.apply import apply
from explorer.measure import sampling
from explorer.measure.evaluate import Comparison, evaluate
from explorer.measure.sampling import draw_sample
from explorer.models import Model
from explorer.search import prune
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task


def test_a_large_budget_takes_all_and_measures_what_evaluate_does(
    model: Model, tiny_task: Task, svds: SvdCache
) -> None:
    view = model.view()
    found = draw_sample(view, tiny_task, "train", seconds=1e9)
    assert found.whole
    assert found.examples == tiny_task.train[: found.total]
    mask = prune(model.view(), tiny_task, svds, kinds=[Kind.V], count=5)
    before = evaluate(view, tiny_task, "train")
    apply(view, mask, svds)
    now = evaluate(view, tiny_task, "train")
    measured = found.measure(view)
    for one, expected in ((measured.masked, now), (measured.baseline, before)):
        assert (one.correct, one.answers, one.examples) == (expected.correct, expected.answers, expected.examples)
        assert one.loss == pytest.approx(expected.loss, abs=1e-5)
    assert measured.loss_change.value == pytest.approx(Comparison(now, before).loss_change.value, abs=1e-5)
    assert model.current_digest() == model.digest


def test_the_sample_doubles_until_twice_its_time_is_too_long(
    model: Model, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        """A second per example that went through the first block."""

        now = 0.0

        def perf_counter(self) -> float:
            return self.now

        def tick(self, block: object, args: tuple[torch.Tensor, ...]) -> None:
            self.now += len(args[0])

    clock, view = Clock(), model.view()
    view.bridge.blocks[0].register_forward_pre_hook(clock.tick)
    monkeypatch.setattr(sampling, "time", clock)
    monkeypatch.setattr(sampling, "START", 1)
    total = len(tiny_task.train)
    assert total == 6
    for budget, count in ((0.1, 1), (1.9, 1), (2.0, 2), (3.9, 2), (4.0, 4), (5.9, 4), (6.0, 6), (1e9, 6)):
        found = draw_sample(view, tiny_task, "train", seconds=budget)
        assert len(found.examples) == count
        assert found.seconds == count
        assert found.whole == (count == total)
    assert len(draw_sample(model.view(), tiny_task, "train", most=3, seconds=1e9).examples) == 3
    limited = draw_sample(model.view(), tiny_task, "train", limit=5, seconds=1e9)
    assert (len(limited.examples), limited.total, limited.whole) == (5, 5, True)


def test_it_can_be_stopped_and_refuses_what_a_task_refuses(model: Model, tiny_task: Task) -> None:
    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        draw_sample(model.view(), tiny_task, "train", progress=stop)
    with pytest.raises(TaskError, match="not a split"):
        draw_sample(model.view(), tiny_task, "dev")
