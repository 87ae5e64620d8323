"""What a scorer says that it costs is what hooks on every block count while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.attribution import SCORERS, Options, score
from explorer.core.config import settings
from explorer.core.keys import MatrixKey
from explorer.models import View
from explorer.models.matrices import matrices
from explorer.search.outcome import Budget
from explorer.search.problem import Problem
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task
from tests import tiny

KEYS = ("L0.Q", "L1.O", "L0.OUT", "L1.IN")


@pytest.fixture
def level_task() -> Task:
    """Prompts of one length, which every scorer can take; the last mini-batch of two holds one."""
    prompts = ("w1 w2 w3", "w5 w6 w7", "w9 w1 w11", "w2 w2 w4", "w8 w7 w1")
    rows = tuple(Example(prompt, " w4") for prompt in prompts)
    return Task("level", "", rows, rows[:2], rows[:1], seed=0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No exact effects from elsewhere."""
    monkeypatch.setenv("EIGENPRUNE_CACHE", str(tmp_path))
    settings.cache_clear()
    yield
    settings.cache_clear()


class Counter:
    """Rows that went through blocks, in units of the whole model, and rows that went back through it, twice.

    Attributes:
        last: rows of the run before.
    """

    def __init__(self) -> None:
        self.forwards = 0.0
        self.last = 0


@contextmanager
def counting(view: View, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    counter, backward = Counter(), torch.Tensor.backward

    def forward(module: Any, args: Any, kwargs: Any) -> None:
        rows = (*args, *kwargs.values())[0].shape[0]
        counter.forwards += rows / tiny.LAYERS
        counter.last = rows

    def back(loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        counter.forwards += 2 * counter.last
        backward(loss, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "backward", back)
    # The MLP of a block, as blocks that are skipped are still called.
    handles = [block.mlp.register_forward_pre_hook(forward, with_kwargs=True) for block in view.bridge.blocks]
    try:
        yield counter
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_the_cost_is_what_was_run(
    view: View, level_task: Task, svds: SvdCache, monkeypatch: pytest.MonkeyPatch, scorer: str
) -> None:
    monkeypatch.setattr("explorer.attribution.runs.arithmetic", lambda view, longest: None)  # modules run, and count
    keys = tuple(MatrixKey.parse(name) for name in KEYS)
    options = [Options(steps=3, draws=2, batch_size=2)]
    if scorer == "integrated":
        options.append(Options(steps=2, path="matrix"))
    if SCORERS[scorer].bootstraps:
        options.append(Options(steps=2, bootstrap=3))
    for given in options:
        with counting(view, monkeypatch) as counter:
            found = score(view, level_task, svds, keys, scorer=scorer, options=given)
        assert found.forwards == pytest.approx(counter.forwards)
        assert found.forwards >= found.n


def test_a_search_adds_up_what_its_scorer_costs(view: View, level_task: Task, svds: SvdCache) -> None:
    keys = matrices(view)
    for scorer, forwards in (("gradient", None), ("random", 5), ("energy", 10)):
        given = Problem(view, level_task, svds, keys, Budget(3), scorer=scorer)
        cost = given.score().forwards
        assert given.forwards == round(cost)
        assert cost == (forwards or 3 * 5 + 5)  # and one pass that marks uncertain values
        given.start()
        assert given.forwards == round(cost) + 2 + 5
