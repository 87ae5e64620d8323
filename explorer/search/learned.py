"""Binary gates over all chosen values, trained by gradient on the train split, then hardened.

1. Every value starts kept. Each step minimises, over the gates' logits and with Adam,

       mean task loss + ANCHOR * KL(unpruned || gated) on plain text + price * number of removed values

   with straight-through gradients (`explorer.search.gates`). The price, in nats per removed value, is what a value must
   be worth to stay removed: logits whose gates earn less drift back to "kept".
2. The text term keeps the rest of the model's behaviour; without it, gates trained on few examples overfit and break
   everything else.
3. Every `EVERY` steps the gates are hardened into a mask within the budget and measured; the lowest validation loss
   wins. Training ends early once that has not improved for `PATIENCE` measurements within the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.batches import Batch, batches
from explorer.edit import apply
from explorer.metrics import run
from explorer.search.gates import Gates
from explorer.search.problem import Problem

START, FLOOR = 1.0, -2.0  # logits are kept in this range, so that a gate can change its mind in a few dozen steps
RATE, BETAS = 0.05, (0.9, 0.99)
EVERY, PATIENCE = 5, 12


@dataclass(frozen=True)
class LearnedSettings:
    """Settings of the `learned` strategy.

    Attributes:
        steps: gradient steps.
        price: nats per removed value.
        anchor: weight of the KL divergence on text, in nats per token.
    """

    steps: int = 150
    price: float = 1e-3
    anchor: float = 2.0


def learned(problem: Problem, settings: LearnedSettings | None = None) -> None:
    """Train gates and measure hardened masks on the way; see the module docstring."""
    given = settings or LearnedSettings()
    torch.manual_seed(problem.seed)
    scores = problem.score()
    gates = Gates(problem.view, problem.svds, scores.matrices, problem.mode, START)
    optimizer = torch.optim.Adam(list(gates.logits.values()), lr=RATE, betas=BETAS)
    examples = batches(problem.view, problem.task, problem.examples)
    best, waited = float("inf"), 0
    for step in range(given.steps):
        block = problem.text[step % len(problem.text)] if problem.text else None
        wanted = None if block is None else (block, _unpruned(problem, block))  # all blocks at once would fill memory
        with gates.applied():
            _backward(problem, gates, examples, given, wanted)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for logits in gates.logits.values():
                logits.clamp_(FLOOR, START)
        if (step + 1) % EVERY and step + 1 < given.steps:
            problem.check()
            continue
        chosen = gates.chosen(at_most=problem.budget.removed)
        loss = problem.measure(problem.mask(scores.removed(*value) for value in chosen)).validation.mean_loss.value
        waited = 0 if loss < best or gates.removed() > problem.budget.removed else waited + 1
        best = min(best, loss)
        if waited >= PATIENCE:
            return


def _backward(
    problem: Problem,
    gates: Gates,
    examples: Sequence[Batch],
    given: LearnedSettings,
    wanted: tuple[Int[Tensor, "1 position"], Float[Tensor, "position vocabulary"]] | None,
) -> None:
    """Accumulate the gradient of the whole objective: the weights of the step serve all of its passes."""
    count = sum(len(batch) for batch in examples)
    total = given.price * gates.price()
    for batch in examples:
        total = total + run(problem.view, batch).loss.sum() / count
    problem.forwards += 3 * count
    if wanted is not None:
        block, before = wanted
        now = _log_probabilities(problem, block)
        divergence = (before.exp() * (before - now)).sum(dim=-1).mean()
        total = total + given.anchor * divergence
        problem.forwards += 3
    total.backward()  # type: ignore[no-untyped-call]


def _unpruned(problem: Problem, block: Int[Tensor, "1 position"]) -> Float[Tensor, "position vocabulary"]:
    """What the unpruned model predicts after every token of a block of text."""
    apply(problem.view, problem.mask(), problem.svds)  # the last measured mask is still on the view
    with torch.no_grad():
        return _log_probabilities(problem, block)


def _log_probabilities(problem: Problem, block: Int[Tensor, "1 position"]) -> Float[Tensor, "position vocabulary"]:
    return torch.log_softmax(problem.view.logits(block)[0].float(), dim=-1)
