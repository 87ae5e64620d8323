"""Binary gates over all chosen values, trained by gradient on the train split, then hardened and pruned back.

1. Every value starts kept. Each step minimises, over the gates' logits, with Adam and on a mini-batch of examples,

       mean task loss + anchor * KL(unpruned || gated) on a block of plain text + price * number of removed values

   with straight-through gradients (`explorer.search.gates`). All of this is computed in the problem's `compute` type,
   since it only proposes.
2. Anchor and price are multipliers, not settings: each step moves them up or down, by STEP at most, as the divergence
   is above or below what is allowed, and as more or fewer values are removed than the budget has room for. So the gates
   first find what helps the task at any cost, and are then driven to where it costs little elsewhere. Without the text
   term, gates trained on few examples overfit and break everything else.
3. The learning rate falls along half a cosine, so that gates stop flipping. If the budget limits the time, the first
   PACED steps tell how many there is time for, with a share left for what follows; gates and multipliers then move
   faster in proportion, so that a short training comes down to what is allowed as well.
4. Every EVERY steps the gates are hardened into a mask within the budget and measured, unless the growth of the
   perplexity is limited and the divergence far from where it is steered to; the lowest validation loss wins.
   Training ends early once that has not improved for PATIENCE measurements within the budget.
5. If the last mask lets the perplexity grow too much, the values whose gates are least certain go back: how many is
   found by halving, in FITS measurements.
6. The best mask goes through a few rounds of `verified`, which restores what does not help, and checks every change.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.attribution import Scores
from explorer.masks.apply import apply
from explorer.measure.batches import Batch, batches
from explorer.measure.metrics import run
from explorer.search.anchor import HELD, Anchor
from explorer.search.gates import Gates
from explorer.search.outcome import State
from explorer.search.problem import Problem
from explorer.search.verified import Value, improved

START, FLOOR, CEILING = 0.4, -2.0, 1.0  # logits stay between the latter, so that a gate can change its mind
RATE, LOWEST_RATE, BETAS = 0.05, 0.005, (0.9, 0.99)
EVERY, PATIENCE, ROUNDS, FITS = 10, 6, 4, 4
SMALLEST = 4  # examples in a mini-batch
READ = 256  # tokens of a block of text that a step reads
PACED, TRAINING = 4, 0.6  # steps that are timed; share of the time left that training may take
FASTEST = 4.0  # times the usual rates
HOPELESS = 1.5  # times the divergence that is steered to: no mask within the budget is expected beyond it
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
    """Where training stands, besides the gates: what a step changes; `steps` is how many it is to have."""

    step: int = 0
    steps: int = 0
    best: float = math.inf
    waited: int = 0
    anchor: float = 3.0
    price: float = 1e-3
    divergence: float = math.nan

    def pace(self, asked: int) -> float:
        """How much faster a training of fewer steps than are asked for moves, so that it gets as far."""
        return min(FASTEST, asked / self.steps)

    def steer(self, divergence: float | None, settings: LearnedSettings, removed: int, room: int) -> None:
        """Move the multipliers by how far the constraints are missed."""
        pace = STEP * self.pace(settings.steps)
        self.price = moved(self.price, removed / max(room, 1), pace, bounds=PRICES)
        if divergence is not None:
            self.divergence = smoothed(self.divergence, divergence)
            self.anchor = moved(self.anchor, self.divergence / settings.divergence, pace, bounds=ANCHORS)


@dataclass(eq=False)
class _Trainer:
    """Gates, their optimizer, and the text that holds them back."""

    problem: Problem
    settings: LearnedSettings
    gates: Gates
    optimizer: torch.optim.Adam
    anchor: Anchor
    now: _Training

    def step(self, examples: tuple[Batch, ...]) -> None:
        """One step of the gates and of the multipliers."""
        now, logits = self.now, self.gates.logits.values()
        for group in self.optimizer.param_groups:
            fallen = (1 + math.cos(math.pi * now.step / now.steps)) / 2
            group["lr"] = now.pace(self.settings.steps) * (LOWEST_RATE + (RATE - LOWEST_RATE) * fallen)
        block = now.step % len(self.anchor.blocks) if self.anchor.blocks else None
        if block is not None:
            self.problem.forwards += self.anchor.prepare(block)
        with self.gates.applied():
            divergence = None if block is None else self._hold_back(block)
            self._backward(examples)
        finite = all(bool(one.grad.isfinite().all()) for one in logits if one.grad is not None)
        if finite and (divergence is None or math.isfinite(divergence)):
            self.optimizer.step()
        else:  # the gated model overflows on these examples: they teach nothing
            divergence = None
        self.optimizer.zero_grad()
        with torch.no_grad():
            for one in logits:
                one.clamp_(FLOOR, CEILING)
        now.steer(divergence, self.settings, self.gates.removed(), room=self.problem.budget.removed)

    def _hold_back(self, block: int) -> float:
        """Begin the gradient with that of the divergence on a block, which is given.

        It is taken apart from the task's, so that the two passes are not in memory together.
        """
        divergence, logits = self.anchor.divergence(block), list(self.gates.logits.values())
        for one, gradient in zip(logits, torch.autograd.grad(divergence, logits, retain_graph=True), strict=True):
            one.grad = self.now.anchor * gradient
        self.problem.forwards += 3
        return float(divergence.detach())

    def _backward(self, examples: tuple[Batch, ...]) -> None:
        """Accumulate the gradient of the task's loss and of the price; one set of weights serves all batches."""
        count = sum(len(batch) for batch in examples)
        total = self.now.price * self.gates.price()
        for batch in examples:
            total = total + run(self.gates.view, batch).loss.sum() / count
        self.problem.forwards += 3 * count
        total.backward()  # type: ignore[no-untyped-call]

    def keep(self) -> None:
        """Keep everything that the next step depends on."""
        moments = {
            f"{site} {name}": value
            for site, one in self.gates.logits.items()
            for name, value in self.optimizer.state[one].items()
        }
        logits = {f"{site} logits": one for site, one in self.gates.logits.items()}
        numbers = {name: float(value) for name, value in vars(self.now).items()}
        self.problem.keep({**logits, **moments}, numbers)

    def restore(self, state: State) -> None:
        """Go back to what was kept."""
        self.now = _Training(**{name: type(getattr(self.now, name))(value) for name, value in state.numbers.items()})
        self.now.steps = self.now.steps or self.settings.steps
        moments: dict[str, dict[str, Tensor]] = {str(site): {} for site in self.gates.logits}
        for name, value in state.tensors.items():
            place, _, what = name.partition(" ")
            if what and what != "logits":
                moments[place][what] = value
        for site, logits in self.gates.logits.items():
            with torch.no_grad():
                logits.copy_(state.tensors[f"{site} logits"])
            self.optimizer.state[logits] = {
                name: value if name == "step" else value.to(logits) for name, value in moments[str(site)].items()
            }


def learned(problem: Problem, settings: LearnedSettings | None = None) -> None:
    """Train gates, measure hardened masks on the way, and prune the best one back; see the module docstring."""
    given = settings or LearnedSettings()
    scores = problem.score()
    trainer = _trainer(problem, given, scores)
    gates, size = trainer.gates, batch_size(problem, given)
    if (state := problem.kept()) is not None:
        trainer.restore(state)
    now, begun = trainer.now, problem.seconds
    while now.step < now.steps and now.waited < PATIENCE:
        problem.at(now.step, now.steps)
        trainer.step(mini_batch(problem, size, now.step))
        now.step += 1
        if now.step == PACED:
            now.steps = _affordable(problem, given, (problem.seconds - begun) / PACED)
        far = problem.budget.growth is not None and now.divergence > HOPELESS * given.divergence
        if (now.step % EVERY or far) and now.step < now.steps:
            problem.check()
            continue
        chosen = gates.chosen(at_most=problem.budget.removed)
        point = problem.measure(
            problem.mask(scores.removed(*value) for value in chosen), train=False, rival=problem.best
        )
        settled = problem.allows(point) and gates.removed() <= problem.budget.removed
        loss = point.validation.mean_loss.value
        now.waited = now.waited + 1 if settled and loss >= now.best else 0
        now.best = min(now.best, loss) if settled else now.best
        trainer.keep()
    _fit(problem, scores, gates.chosen(at_most=problem.budget.removed))
    problem.at(given.steps, given.steps)  # how many rounds follow is not known
    if problem.best.removed:
        improved(problem, problem.best, ROUNDS)


def _affordable(problem: Problem, given: LearnedSettings, seconds: float) -> int:
    """How many steps of so many seconds there is time for, the first PACED among them; all that are asked if so."""
    if problem.budget.seconds is None:
        return given.steps
    left = TRAINING * (problem.budget.seconds - problem.seconds)
    return min(given.steps, PACED + max(1, int(left / max(seconds, 1e-9))))


def _fit(problem: Problem, scores: Scores, chosen: list[Value]) -> None:
    """Measure the largest beginnings of the chosen values, if all of them are beyond the growth that is allowed."""
    if problem.budget.growth is None or problem.allows(problem.curve[-1]):
        return
    within, beyond = 0, len(chosen)
    for _ in range(FITS):
        count = (within + beyond) // 2
        if count in (within, beyond):
            return
        mask = problem.mask(scores.removed(*value) for value in chosen[:count])
        point = problem.measure(mask, train=False, rival=problem.best)
        within, beyond = (count, beyond) if problem.allows(point) else (within, count)


def _trainer(problem: Problem, settings: LearnedSettings, scores: Scores) -> _Trainer:
    view = problem.proposing
    gates = Gates(view, problem.svds, scores.matrices, mode=problem.mode, start=START)
    optimizer = torch.optim.Adam(list(gates.logits.values()), lr=RATE, betas=BETAS)
    blocks = tuple(block[:, :READ] for block in problem.text[:-HELD])
    anchor = Anchor(view, blocks, lambda: apply(view, problem.mask(), problem.svds))
    return _Trainer(problem, settings, gates, optimizer=optimizer, anchor=anchor, now=_Training(steps=settings.steps))


def batch_size(problem: Problem, given: LearnedSettings) -> int:
    """Examples in a step."""
    examples = problem.examples
    tokens = sum(int(batch.real.sum()) for batch in batches(problem.view, problem.task, examples))
    fitting = max(SMALLEST, round(given.tokens * len(examples) / tokens))
    return min(fitting, given.batch, len(examples))


def mini_batch(problem: Problem, size: int, step: int) -> tuple[Batch, ...]:
    """The examples of one step: every epoch goes through all of them in an order of its own."""
    examples = problem.examples
    epoch, place = divmod(step, len(examples) // size)
    order = random.Random(f"{problem.seed} {epoch}").sample(examples, len(examples))
    return tuple(batches(problem.view, problem.task, order[place * size : (place + 1) * size], batch_size=size))


def smoothed(average: float, value: float) -> float:
    """A moving average with one more value; the value itself if it is the first."""
    return value if math.isnan(average) else SMOOTHING * average + (1 - SMOOTHING) * value


def moved(multiplier: float, ratio: float, pace: float, bounds: tuple[float, float]) -> float:
    """A multiplier after a step towards where the constraint holds: `ratio` is what is over what may be."""
    lowest, highest = bounds
    return min(highest, max(lowest, multiplier * math.exp(pace * max(-1.0, min(1.0, ratio - 1)))))
