"""Examples as a forest: every token stands once for all examples that have read the same until then.

In a causal model what a token's streams hold depends on what stands before it and on nothing else, so examples that
begin alike share these tokens, and there is no padding. A forest holds the examples of several batches, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from explorer.measure.batches import Batch


@dataclass(frozen=True, eq=False)
class Forest:
    """The distinct beginnings of some examples; a node is a token with all that stands before it.

    Attributes:
        tokens, positions: of each node.
        paths: for each example and position its node; behind the example's end any of them.
        first: for each node one place in `paths`, flattened, at which it stands.
        answers: the nodes at which an answer token is predicted.
        routes: for each of `answers` an example whose path goes through it.
        sources, rows, targets: for each answer token its place in `answers`, its example, and its id.
    """

    tokens: Int[Tensor, " node"]
    positions: Int[Tensor, " node"]
    paths: Int[Tensor, "example position"]
    first: Int[Tensor, " node"]
    answers: Int[Tensor, " answer"]
    routes: Int[Tensor, " answer"]
    sources: Int[Tensor, " answer_token"]
    rows: Int[Tensor, " answer_token"]
    targets: Int[Tensor, " answer_token"]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def nodes(self) -> int:
        """How many there are."""
        return len(self.tokens)

    @property
    def seen(self) -> Bool[Tensor, "answer position"]:
        """Which positions of its route each answer node reads."""
        length = torch.arange(self.paths.shape[1], device=self.paths.device)
        return length <= self.positions[self.answers][:, None]

    def example_losses(self, token_losses: Float[Tensor, "copy answer_token"]) -> Float[Tensor, "copy example"]:
        """Losses of the answer tokens summed over each example."""
        summed = token_losses.new_zeros(len(token_losses), len(self))
        return summed.index_add(1, self.rows, token_losses)


def forests(batches: Sequence[Batch], most: int) -> tuple[Forest, ...]:
    """The examples of all batches, in order, in as few forests as have at most `most` nodes each, or one example."""
    rows = [(batch, row) for batch in batches for row in range(len(batch))]
    found, start = [], 0
    while start < len(rows):
        grown = _Grown()
        end = start
        while end < len(rows) and grown.take(*rows[end], most=most):
            end += 1
        found.append(grown.forest(batches[0].tokens.device))
        start = end
    return tuple(found)


class _Grown:
    """A forest that takes one example after the other."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[int, int], int] = {}  # (node before, token): node
        self.positions: list[int] = []
        self.paths: list[list[int]] = []
        self.answers: list[tuple[int, int, int]] = []  # node, example, target

    def take(self, batch: Batch, row: int, most: int) -> bool:
        """Add an example unless there would be more than `most` nodes; the first one always fits."""
        tokens = batch.tokens[row][batch.real[row]].tolist()
        before = len(self.nodes)
        path, node = [], -1
        for position, token in enumerate(tokens):
            if (node, token) not in self.nodes:
                self.positions.append(position)
            node = self.nodes.setdefault((node, token), len(self.nodes))
            path.append(node)
        if len(self.nodes) > most and self.paths:
            self.nodes = dict(list(self.nodes.items())[:before])
            self.positions = self.positions[:before]
            return False
        mine = batch.rows == row
        pairs = zip(batch.positions[mine].tolist(), batch.targets[mine].tolist(), strict=True)
        self.answers += [(path[position], len(self.paths), target) for position, target in pairs]
        self.paths.append(path)
        return True

    def forest(self, device: torch.device) -> Forest:
        """What was taken."""
        width = max(map(len, self.paths))
        paths = torch.tensor([path + [path[-1]] * (width - len(path)) for path in self.paths])
        first: dict[int, int] = {}
        for example, path in enumerate(self.paths):
            for position, node in enumerate(path):
                first.setdefault(node, example * width + position)
        predicted = list(dict.fromkeys(node for node, _, _ in self.answers))
        routes = {node: example for node, example, _ in reversed(self.answers)}
        places = {node: place for place, node in enumerate(predicted)}
        lists = {
            "tokens": [token for _, token in self.nodes],
            "positions": self.positions,
            "first": [first[node] for node in range(len(self.nodes))],
            "answers": predicted,
            "routes": [routes[node] for node in predicted],
            "sources": [places[node] for node, _, _ in self.answers],
            "rows": [example for _, example, _ in self.answers],
            "targets": [target for _, _, target in self.answers],
        }
        made = {name: torch.tensor(values, dtype=torch.long, device=device) for name, values in lists.items()}
        return Forest(paths=paths.to(device), **made)
