"""Binary gates over all chosen values, trained by gradient on the train split, then hardened and pruned back.

1. Every value starts kept. Each step minimises, over the gates' logits, with Adam and on a mini-batch of examples,

       mean task loss + anchor * KL(unpruned || gated) on a block of plain text + price * number of removed values

   with straight-through gradients (`explorer.search.gates`).
2. Anchor and price are multipliers, not settings: each step moves them up or down, by STEP at most, as the divergence
   is above or below what is allowed, and as more or fewer values are removed than the budget has room for. So the gates
   first find what helps the task at any cost, and are then driven to where it costs little elsewhere. Without the text
   term, gates trained on few examples overfit and break everything else.
3. The learning rate falls along half a cosine, so that gates stop flipping.
4. Every EVERY steps the gates are hardened into a mask within the budget and measured; the lowest validation loss wins.
   Training ends early once that has not improved for PATIENCE measurements within the budget.
5. The best mask goes through a few rounds of `verified`, which restores what does not help, and checks every change.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.masks.apply import apply
from explorer.measure.batches import Batch, batches
from explorer.measure.metrics import run
from explorer.search.anchor import HELD
from explorer.search.gates import Gates
from explorer.search.problem import Problem
from explorer.search.verified import verified

START, FLOOR = 0.4, -2.0  # logits stay between FLOOR and 1, so that a gate can change its mind in a few dozen steps
RATE, LOWEST_RATE, BETAS = 0.05, 0.005, (0.9, 0.99)
EVERY, PATIENCE, ROUNDS = 10, 6, 4
SMALLEST = 4  # examples in a mini-batch
STEP, SMOOTHING = 0.05, 0.9  # of the multipliers, on a logarithmic scale; of the divergence that moves one of them
ANCHORS, PRICES = (0.5, 60.0), (1e-4, 5e-2)  # nats per nat per token of text; nats per removed value


@dataclass(frozen=True)
class LearnedSettings:
    """Settings of the `learned` strategy.

    Attributes:
        steps: gradient steps.
        batch: examples per step, at most.
        tokens: tokens per step, about, if the prompts are long; a step has SMALLEST examples at least.
        divergence: KL divergence from the unpruned model on plain text that training steers to, nats per token.
    """

    steps: int = 150
    batch: int = 32
    tokens: int = 512
    divergence: float = 0.12


@dataclass
class _Training:
    """Where training stands, besides the gates: what a step changes."""

    step: int = 0
    best: float = math.inf
    waited: int = 0
    anchor: float = 3.0
    price: float = 1e-3
    divergence: float = math.nan

    def steer(self, divergence: float | None, allowed: float, removed: int, room: int) -> None:
        """Move the multipliers by how far the constraints are missed."""
        self.price = _moved(self.price, removed / max(room, 1), PRICES)
        if divergence is not None:
            first = math.isnan(self.divergence)
            self.divergence = divergence if first else SMOOTHING * self.divergence + (1 - SMOOTHING) * divergence
            self.anchor = _moved(self.anchor, self.divergence / allowed, ANCHORS)


def learned(problem: Problem, settings: LearnedSettings | None = None) -> None:
    """Train gates, measure hardened masks on the way, and prune the best one back; see the module docstring."""
    given = settings or LearnedSettings()
    scores = problem.score()
    gates = Gates(problem.view, problem.svds, scores.matrices, mode=problem.mode, start=START)
    optimizer = torch.optim.Adam(list(gates.logits.values()), lr=RATE, betas=BETAS)
    now, size = _Training(), _batch_size(problem, given)
    if (state := problem.kept()) is not None:
        now = _Training(**{name: type(getattr(now, name))(value) for name, value in state.numbers.items()})
        _restore(gates, optimizer, state.tensors)
    while now.step < given.steps and now.waited < PATIENCE:
        problem.at(now.step, given.steps)
        _train(problem, given, gates, optimizer=optimizer, now=now, examples=_mini_batch(problem, size, now.step))
        now.step += 1
        if now.step % EVERY and now.step < given.steps:
            problem.check()
            continue
        chosen = gates.chosen(at_most=problem.budget.removed)
        point = problem.measure(problem.mask(scores.removed(*value) for value in chosen))
        settled = problem.allows(point) and gates.removed() <= problem.budget.removed
        loss = point.validation.mean_loss.value
        now.waited = now.waited + 1 if settled and loss >= now.best else 0
        now.best = min(now.best, loss) if settled else now.best
        problem.keep(_state(gates, optimizer), {name: float(value) for name, value in vars(now).items()})
    problem.at(given.steps, given.steps)  # how many rounds follow is not known
    if problem.best.removed:
        verified(problem, problem.best.mask, ROUNDS)


def _train(
    problem: Problem,
    given: LearnedSettings,
    gates: Gates,
    optimizer: torch.optim.Optimizer,
    now: _Training,
    examples: tuple[Batch, ...],
) -> None:
    """One step of the gates and of the multipliers."""
    blocks = problem.text[:-HELD]
    block = blocks[now.step % len(blocks)] if blocks else None
    wanted = None if block is None else (block, _unpruned(problem, block))  # all blocks at once would fill memory
    for group in optimizer.param_groups:
        group["lr"] = LOWEST_RATE + (RATE - LOWEST_RATE) * (1 + math.cos(math.pi * now.step / given.steps)) / 2
    with gates.applied():
        divergence = _backward(problem, gates, examples, now=now, wanted=wanted)
    gradients = [logits.grad for logits in gates.logits.values() if logits.grad is not None]
    if (divergence is None or math.isfinite(divergence)) and all(bool(one.isfinite().all()) for one in gradients):
        optimizer.step()
    else:  # the gated model overflows on these examples: they teach nothing
        divergence = None
    optimizer.zero_grad()
    with torch.no_grad():
        for logits in gates.logits.values():
            logits.clamp_(FLOOR, 1.0)
    now.steer(divergence, given.divergence, gates.removed(), room=problem.budget.removed)


def _batch_size(problem: Problem, given: LearnedSettings) -> int:
    examples = problem.examples
    tokens = sum(int(batch.real.sum()) for batch in batches(problem.view, problem.task, examples))
    fitting = max(SMALLEST, round(given.tokens * len(examples) / tokens))
    return min(fitting, given.batch, len(examples))


def _mini_batch(problem: Problem, size: int, step: int) -> tuple[Batch, ...]:
    """The examples of one step: every epoch goes through all of them in an order of its own."""
    examples = problem.examples
    epoch, place = divmod(step, len(examples) // size)
    order = random.Random(f"{problem.seed} {epoch}").sample(examples, len(examples))
    return tuple(batches(problem.view, problem.task, order[place * size : (place + 1) * size]))


def _moved(multiplier: float, ratio: float, bounds: tuple[float, float]) -> float:
    """A multiplier after a step towards where the constraint holds: `ratio` is what is over what may be."""
    lowest, highest = bounds
    return min(highest, max(lowest, multiplier * math.exp(STEP * max(-1.0, min(1.0, ratio - 1)))))


def _state(gates: Gates, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """Everything that the next step depends on."""
    moments = {
        f"{site} {name}": value for site, one in gates.logits.items() for name, value in optimizer.state[one].items()
    }
    logits = {f"{site} logits": one for site, one in gates.logits.items()}
    return {**logits, **moments}


def _restore(gates: Gates, optimizer: torch.optim.Adam, tensors: Mapping[str, Tensor]) -> None:
    """Put gates and optimizer back to a `_state`."""
    moments: dict[str, dict[str, Tensor]] = {str(site): {} for site in gates.logits}
    for name, value in tensors.items():
        place, _, what = name.partition(" ")
        if what and what != "logits":
            moments[place][what] = value
    for site, logits in gates.logits.items():
        with torch.no_grad():
            logits.copy_(tensors[f"{site} logits"])
        optimizer.state[logits] = {
            name: value if name == "step" else value.to(logits) for name, value in moments[str(site)].items()
        }


def _backward(
    problem: Problem,
    gates: Gates,
    examples: tuple[Batch, ...],
    now: _Training,
    wanted: tuple[Int[Tensor, "1 position"], Float[Tensor, "position vocabulary"]] | None,
) -> float | None:
    """Accumulate the gradient of the whole objective; the divergence on the text, nats per token.

    The weights of the step serve all of its passes.
    """
    count = sum(len(batch) for batch in examples)
    total, divergence = now.price * gates.price(), None
    for batch in examples:
        total = total + run(problem.view, batch).loss.sum() / count
    problem.forwards += 3 * count
    if wanted is not None:
        block, before = wanted
        after = _log_probabilities(problem, block)
        divergence = (before.exp() * (before - after)).sum(dim=-1).mean()
        total = total + now.anchor * divergence
        problem.forwards += 4  # the unpruned pass is one of them
    total.backward()  # type: ignore[no-untyped-call]
    return None if divergence is None else float(divergence.detach())


def _unpruned(problem: Problem, block: Int[Tensor, "1 position"]) -> Float[Tensor, "position vocabulary"]:
    """What the unpruned model predicts after every token of a block of text."""
    apply(problem.view, problem.mask(), problem.svds)  # the last measured mask is still on the view
    with torch.no_grad():
        return _log_probabilities(problem, block)


def _log_probabilities(problem: Problem, block: Int[Tensor, "1 position"]) -> Float[Tensor, "position vocabulary"]:
    return torch.log_softmax(problem.view.logits(block)[0].float(), dim=-1)
