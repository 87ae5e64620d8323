"""The divergence on plain text, against a loop over all tokens in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.core.keys import Kind
from explorer.masks.apply import apply
from explorer.measure.perplexity import TOKENS, read_text, tokens_of
from explorer.measure.tokens import front_tokens
from explorer.models import Model, View, load
from explorer.models.matrices import matrices, read, substituted
from explorer.search import anchor
from explorer.search.anchor import APART, EACH, HELD, READ, STRIDE, TEXTS, Anchor, anchor_blocks, windows
from explorer.search.outcome import Budget
from explorer.search.problem import Problem
from explorer.spectra.cache import SvdCache
from explorer.tasks import load_task
from tests import tiny

BLOCKS = (torch.tensor([[1, 5, 3, 8, 2, 9, 4, 7, 6, 1, 2, 3]]), torch.tensor([[4, 4, 9, 1, 7, 2, 2, 5, 3, 1, 8, 6]]))


@pytest.fixture
def problem(bundled: Model) -> Problem:
    view = bundled.view()
    keys = matrices(view, (Kind.Q, Kind.K), [0])
    return Problem(view, load_task("int-mult", 0), SvdCache(None), keys, Budget(8), limit=16)


def slow_divergence(before: View, after: View, block: torch.Tensor, first: int) -> float:
    """KL(before || after) over all tokens, token by token, at every APART-th position."""
    with torch.no_grad():
        p, q = (np.asarray(view.logits(block)[0].double().log_softmax(-1)) for view in (before, after))
    places = range(first, block.shape[1], APART)
    return sum(sum(np.exp(a) * (a - b) for a, b in zip(p[i], q[i], strict=True)) for i in places) / len(places)


def masked(problem: Problem) -> None:
    scores = problem.score()
    mask = problem.mask(scores.removed(key, index) for _, key, index in scores.ranking()[:40])
    apply(problem.view, mask, problem.svds)


def test_it_is_the_divergence_over_all_tokens_where_all_are_compared(problem: Problem, bundled: Model) -> None:
    given = Anchor(problem.view, BLOCKS, lambda: apply(problem.view, problem.mask(), problem.svds))
    masked(problem)
    for number, block in enumerate(BLOCKS):
        assert given.prepare(number)
        assert not given.prepare(number), "the unpruned model runs once per block"
        masked(problem)
        found = float(given.divergence(number))
        slow = slow_divergence(bundled.view(), problem.view, block, number)
        assert slow > 1e-4
        assert found == pytest.approx(slow, rel=1e-4)


def test_with_fewer_tokens_it_is_a_lower_bound(
    problem: Problem, bundled: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchor, "TOP", 3)
    given = Anchor(problem.view, BLOCKS, lambda: apply(problem.view, problem.mask(), problem.svds))
    given.prepare(0)
    assert abs(float(given.divergence(0))) < 1e-6, "the unpruned model does not differ from itself"
    masked(problem)
    found = float(given.divergence(0))
    assert 0 < found < slow_divergence(bundled.view(), problem.view, BLOCKS[0], 0)


def test_its_gradient_is_the_finite_difference(problem: Problem) -> None:
    given = Anchor(problem.view, BLOCKS, lambda: apply(problem.view, problem.mask(), problem.svds))
    given.prepare(0)
    site = problem.keys[0].stacked
    W = read(problem.view, site).detach()
    step = torch.randn(W.shape, generator=torch.Generator().manual_seed(0))
    along = torch.zeros((), requires_grad=True)
    with substituted(problem.view, {site: (W * 0.9 + along * step, None)}):
        (slope,) = torch.autograd.grad(given.divergence(0), along)
    near = []
    for far in (0.01, -0.01):
        with substituted(problem.view, {site: (W * 0.9 + far * step, None)}), torch.no_grad():
            near.append(float(given.divergence(0)))
    assert float(slope) == pytest.approx((near[0] - near[1]) / 0.02, rel=0.02)


def test_every_pass_over_the_windows_looks_at_other_positions(problem: Problem, bundled: Model) -> None:
    given = Anchor(problem.view, BLOCKS, lambda: apply(problem.view, problem.mask(), problem.svds))
    for number in range(len(BLOCKS)):
        given.prepare(number)
    masked(problem)
    for turn in range(APART):
        step = turn * len(BLOCKS)
        first = (STRIDE * turn) % APART
        slow = slow_divergence(bundled.view(), problem.view, BLOCKS[0], first)
        assert not given.prepare(step), "the unpruned model has answered for all positions"
        assert float(given.divergence(step)) == pytest.approx(slow, rel=1e-4, abs=1e-7)
    assert {(STRIDE * turn) % APART for turn in range(APART)} == set(range(APART))


def test_windows_are_all_of_the_text_but_short_ends(bundled: Model) -> None:
    view = bundled.view()
    block = torch.arange(2 * READ + READ // 2 - 1)[None] % 40
    first, second = windows(view, [block])
    front = tuple(front_tokens(view.model))
    assert torch.equal(first, block[:, :READ])
    assert second[0].tolist() == [*front, *block[0, READ : 2 * READ].tolist()]
    assert len(windows(view, [torch.cat([block, block[:, :1]], dim=1)])) == 3


def test_what_the_growth_is_measured_on_is_from_all_over_both_texts(tmp_path: Path) -> None:
    view = load(str(tiny.save_letters(tmp_path)), dtype="float32", device="cpu").view()
    blocks = [tuple(one[0].tolist()) for one in anchor_blocks(view)]
    front = len(front_tokens(view.model))
    placed: dict[Path, list[int]] = {}
    for path in TEXTS:
        ids = tokens_of(view.model.tokenizer, read_text(path), None)
        length = len(blocks[0]) - front
        starts = {tuple(ids[at : at + length]): at for at in range(TOKENS, len(ids) - length + 1, length)}
        found = [starts[one[front:]] for one in blocks if one[front:] in starts]
        assert sorted(found) == sorted(starts.values()), "every block once, and nothing that perplexity reads"
        held = [starts[one[front:]] for one in blocks[-HELD:] if one[front:] in starts]
        assert len(held) == EACH
        thirds = [(at - TOKENS) * EACH // (len(ids) - TOKENS) for at in sorted(held)]
        assert thirds == list(range(EACH))
        placed[path] = held
    assert len(placed) == len(TEXTS)
    assert len(blocks) == len(set(blocks))


def test_a_model_that_knows_no_words_has_no_text(bundled: Model) -> None:
    assert anchor_blocks(bundled.view()) == ()
