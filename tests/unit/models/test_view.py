"""Views share the model's weights and nothing else."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
import torch

from explorer.core.keys import Kind, MatrixKey
from explorer.models import Model, View, ViewPool
from explorer.models.matrices import read, replace
from tests import plain, tiny

TOKENS = torch.tensor([[0, 5, 9, 3, 11]])


def test_a_view_gives_the_logits_of_plain_transformers(view: View, folder: Path) -> None:
    with torch.no_grad():
        expected = plain.load_plain(folder)(TOKENS).logits
    torch.testing.assert_close(view.logits(TOKENS), expected, rtol=0, atol=1e-5)


def test_limiting_the_positions_changes_nothing_else(view: View) -> None:
    whole = view.logits(TOKENS)
    kept = view.logits(TOKENS, keep=torch.tensor([1, 4]))
    torch.testing.assert_close(kept, whole[:, [1, 4]], rtol=0, atol=1e-6)


def test_views_share_the_memory_of_the_weights(model: Model) -> None:
    first, second = model.view(), model.view()
    shared = {parameter.data_ptr() for parameter in model.bridge.original_model.parameters()}
    for view in (first, second):
        assert {parameter.data_ptr() for parameter in view.bridge.original_model.parameters()} == shared
        assert view.bridge.tokenizer is model.bridge.tokenizer
    assert first.bridge is not second.bridge
    assert first.bridge.blocks[0] is not model.bridge.blocks[0]


def test_views_can_be_made_in_many_threads_at_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    views: list[View] = []
    failures: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: failures.append(failure.exc_value))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns as often as they can
    try:
        threads = [threading.Thread(target=lambda: views.append(model.view())) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []
    expected = model.view().logits(TOKENS)
    assert len(views) == 12
    assert all(torch.equal(view.logits(TOKENS), expected) for view in views)


def test_a_hook_on_one_view_does_not_run_on_another(model: Model) -> None:
    first, second = model.view(), model.view()
    seen: list[str] = []
    with first.bridge.hooks(fwd_hooks=[("blocks.0.hook_out", lambda value, hook: seen.append("first"))]):
        second.logits(TOKENS)
        assert seen == []
        first.logits(TOKENS)
        assert seen == ["first"]


def test_lent_views_are_never_shared_and_come_back(model: Model) -> None:
    pool = ViewPool(model, idle=1)
    with pool.borrow() as first, pool.borrow() as second:
        assert first is not second
        replace(first, MatrixKey(0, Kind.Q), torch.zeros(tiny.SHAPES[_name(model)]["Q"]))
        assert float(read(second, MatrixKey(0, Kind.Q)).abs().sum()) > 0
    with pool.borrow() as third, pool.borrow() as fourth:
        assert third is second  # the first to come back; the pool keeps one
        assert fourth not in (first, second)


def _name(model: Model) -> str:
    return "gpt2" if model.architecture.startswith("GPT2") else "llama"
