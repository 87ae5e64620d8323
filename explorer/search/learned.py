"""Binary gates over all chosen values, trained by gradient on the train split, then hardened and pruned back.

1. Every value starts kept. Each step minimises, over the gates' logits and on a mini-batch of examples,

       mean task loss + anchor * KL(unpruned || gated) on a window of plain text + PRICE * number of removed values

   with straight-through gradients (`explorer.search.gates`). All of this is computed in the problem's `compute` type,
   since it only proposes. Never more values are removed than the budget has room for, and gates that matter move first.
2. The anchor is a multiplier, not a setting: each step moves it up or down, by STEP at most, as the divergence is above
   or below what is wanted. So the gates first find what helps the task, and are then driven to where it costs little
   elsewhere. Without the text term, gates trained on few examples overfit and break everything else. What is wanted
   follows from the growth of the perplexity that is allowed, if one is: whatever is measured tells how the two go
   together for this model and task.
3. The learning rate falls along half a cosine, so that gates stop flipping. If the budget limits the time, the first
   PACED steps tell how many there is time for, with a share left for what follows; gates and anchor then move faster in
   proportion, so that a short training comes down to what is allowed as well.
4. Every EVERY steps the gates are hardened into a mask and measured, unless the growth of the perplexity is limited and
   the divergence far from where it is steered to; the lowest validation loss wins. Training ends early once that has
   not improved for PATIENCE measurements within the budget.
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
from explorer.search.anchor import HELD, Anchor, windows
from explorer.search.gates import Gates, Momentum
from explorer.search.outcome import State
from explorer.search.problem import Problem
from explorer.search.verified import Value, improved

START, FLOOR, CEILING = 0.4, -0.8, 1.0  # logits stay between the latter, so that a gate can change its mind
RATE, LOWEST_RATE, BETAS = 0.05, 0.005, (0.9, 0.99)  # the last for what else is trained with Adam
EVERY, PATIENCE, ROUNDS, FITS = 10, 6, 4, 4
SMALLEST = 4  # examples in a mini-batch
PACED, TRAINING = 4, 0.6  # steps that are timed; share of the time left that training may take
FASTEST = 4.0  # times the usual rates
HOPELESS = 2.0  # times the divergence that is steered to: no mask within the budget is expected beyond it
STEP, SMOOTHING = 0.05, 0.9  # of the anchor, on a logarithmic scale; of the divergence that moves it
ANCHOR, ANCHORS = 20.0, (0.5, 200.0)  # nats per nat per token of text, at first and at any time
PRICE = 1e-3  # nats per removed value
PER_GROWTH = 2.0  # divergence wanted per growth of the loss on text that is allowed, before anything is measured
ADAPTED = 2.0  # times by which a measurement changes that at most


@dataclass(frozen=True)
class LearnedSettings:
    """Settings of the `learned` strategy.

    Attributes:
        steps: gradient steps.
        batch: examples per step, at most.
        tokens: tokens per step, about, if the prompts are long; a step has SMALLEST examples at least.
        divergence: KL divergence from the unpruned model on plain text that training steers to, nats per token, if the
            growth of the perplexity is not limited.
    """

    steps: int = 250
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
    anchor: float = ANCHOR
    divergence: float = math.nan
    wanted: float = math.nan

    def pace(self, asked: int) -> float:
        """How much faster a training of fewer steps than are asked for moves, so that it gets as far."""
        return min(FASTEST, asked / self.steps)

    def steer(self, divergence: float, asked: int) -> None:
        """Move the anchor by how far the divergence is from what is wanted."""
        self.divergence = smoothed(self.divergence, divergence)
        self.anchor = moved(self.anchor, self.divergence / self.wanted, STEP * self.pace(asked), bounds=ANCHORS)

    def adapt(self, growth: float | None, allowed: float | None) -> None:
        """Want as much divergence as goes with the growth that is allowed, if it goes along with what was measured."""
        if allowed and growth is not None and growth > 0 and math.isfinite(growth) and self.divergence > 0:
            told = self.divergence * math.log1p(allowed) / math.log1p(growth)
            self.wanted = min(ADAPTED * self.wanted, max(self.wanted / ADAPTED, told))


@dataclass(eq=False)
class _Trainer:
    """Gates, their optimizer, and the text that holds them back."""

    problem: Problem
    settings: LearnedSettings
    gates: Gates
    optimizer: Momentum
    anchor: Anchor
    now: _Training

    def step(self, examples: tuple[Batch, ...]) -> None:
        """One step of the gates and of the multipliers."""
        now, logits = self.now, self.gates.logits.values()
        fallen = (1 + math.cos(math.pi * now.step / now.steps)) / 2
        self.optimizer.rate = now.pace(self.settings.steps) * (LOWEST_RATE + (RATE - LOWEST_RATE) * fallen)
        if self.anchor.windows:
            self.problem.forwards += self.anchor.prepare(now.step)
        with self.gates.applied():
            divergence = self._hold_back() if self.anchor.windows else None
            self._backward(examples)
        finite = all(bool(one.grad.isfinite().all()) for one in logits if one.grad is not None)
        if finite and (divergence is None or math.isfinite(divergence)):
            self.optimizer.step()
        else:  # the gated model overflows on these examples: they teach nothing
            divergence = None
        self.optimizer.forget()
        with torch.no_grad():
            for one in logits:
                one.clamp_(FLOOR, CEILING)
        if divergence is not None:
            now.steer(divergence, self.settings.steps)

    def _hold_back(self) -> float:
        """Begin the gradient with that of the divergence on a window, which is given.

        It is taken apart from the task's, so that the two passes are not in memory together.
        """
        divergence, logits = self.anchor.divergence(self.now.step), list(self.gates.logits.values())
        for one, gradient in zip(logits, torch.autograd.grad(divergence, logits, retain_graph=True), strict=True):
            one.grad = self.now.anchor * gradient
        self.problem.forwards += 3
        return float(divergence.detach())

    def _backward(self, examples: tuple[Batch, ...]) -> None:
        """Accumulate the gradient of the task's loss and of the price; one set of weights serves all batches."""
        count = sum(len(batch) for batch in examples)
        total = PRICE * self.gates.price()
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
                name: value.to(logits) if name == "mean" else value for name, value in moments[str(site)].items()
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
        far = problem.budget.growth is not None and now.divergence > HOPELESS * now.wanted
        if (now.step % EVERY or far) and now.step < now.steps:
            problem.check()
            continue
        mask = problem.mask(scores.removed(*value) for value in gates.chosen())
        point = problem.measure(mask, train=False, rival=problem.best)
        now.adapt(point.growth, problem.budget.growth)
        settled = problem.allows(point)
        loss = point.validation.mean_loss.value
        now.waited = now.waited + 1 if settled and loss >= now.best else 0
        now.best = min(now.best, loss) if settled else now.best
        trainer.keep()
    _fit(problem, scores, gates.chosen())
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
    room, growth = problem.budget.removed, problem.budget.growth
    gates = Gates(view, problem.svds, scores.matrices, mode=problem.mode, start=START, room=room)
    optimizer = Momentum(gates.logits.values(), RATE, room=room)
    text = windows(view, problem.text[:-HELD])
    anchor = Anchor(view, text, lambda: apply(view, problem.mask(), problem.svds))
    now = _Training(steps=settings.steps, wanted=wanted_divergence(settings, growth))
    return _Trainer(problem, settings, gates, optimizer=optimizer, anchor=anchor, now=now)


def wanted_divergence(settings: LearnedSettings, growth: float | None) -> float:
    """What the divergence on text is steered to, in nats per token, before anything is measured."""
    wanted = settings.divergence if growth is None else PER_GROWTH * math.log1p(growth)
    return max(wanted, torch.finfo(torch.float32).eps)


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
