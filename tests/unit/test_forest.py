"""Examples as a forest: beginnings once, answers where they are predicted, cut into forests of limited size."""

from __future__ import annotations

import torch

from explorer.measure.batches import Batch, batches
from explorer.measure.forest import forests
from explorer.models import View
from tests import tiny


def cut(view: View, size: int = 4) -> tuple[Batch, ...]:
    return batches(view, tiny.task(), tiny.task().train, size)


def begun(batch: Batch, row: int) -> list[int]:
    tokens: list[int] = batch.tokens[row][batch.real[row]].tolist()
    return tokens


def test_every_path_spells_its_example_and_beginnings_stand_once(view: View) -> None:
    prepared = cut(view)
    (forest,) = forests(prepared, 1000)
    texts = [begun(batch, row) for batch in prepared for row in range(len(batch))]
    assert len(forest) == len(texts)
    for path, text in zip(forest.paths.tolist(), texts, strict=True):
        assert forest.tokens[path[: len(text)]].tolist() == text
        assert forest.positions[path[: len(text)]].tolist() == list(range(len(text)))
        assert len(path) == max(map(len, texts))
    assert forest.nodes == len({tuple(text[: end + 1]) for text in texts for end in range(len(text))})
    assert forest.nodes < sum(map(len, texts)), "the tiny task's prompts begin alike"
    assert forest.paths.flatten()[forest.first].tolist() == list(range(forest.nodes))


def test_answers_are_where_batches_predict_them(view: View) -> None:
    prepared = cut(view)
    (forest,) = forests(prepared, 1000)
    expected = []
    for start, batch in zip((0, len(prepared[0])), prepared, strict=True):
        rows = zip(batch.rows.tolist(), batch.positions.tolist(), batch.targets.tolist(), strict=True)
        expected += [(start + row, position, target) for row, position, target in rows]
    nodes = forest.answers[forest.sources]
    found = zip(forest.rows.tolist(), forest.positions[nodes].tolist(), forest.targets.tolist(), strict=True)
    assert sorted(found) == sorted(expected)
    assert torch.equal(forest.paths[forest.rows, forest.positions[nodes]], nodes)
    routed = forest.paths[forest.routes, forest.positions[forest.answers]]
    assert torch.equal(routed, forest.answers)
    assert torch.equal(forest.seen.sum(dim=1), forest.positions[forest.answers] + 1)
    counts = forest.example_losses(torch.ones(2, len(forest.targets)))
    assert counts.tolist() == [torch.bincount(forest.rows).float().tolist()] * 2


def test_forests_hold_at_most_so_many_nodes_or_one_example(view: View) -> None:
    prepared = cut(view)
    (whole,) = forests(prepared, 1000)
    few = forests(prepared, whole.nodes - 1)
    assert len(few) > 1
    assert all(one.nodes <= whole.nodes - 1 for one in few)
    assert sum(map(len, few)) == len(whole)
    assert torch.equal(torch.cat([one.targets for one in few]), whole.targets)
    alone = forests(prepared, 1)
    assert [len(one) for one in alone] == [1] * len(whole)
    assert [one.nodes for one in alone] == [len(begun(batch, row)) for batch in prepared for row in range(len(batch))]
