"""Trained baselines: what as many numbers as the mask has values can do, trained as `learned` trains its gates.

1. The same train examples in the same mini-batches, as many steps, Adam, and a rate that falls along half a cosine.
2. The same text that holds back: the KL divergence from the unpruned model on plain text, whose weight in the loss
   moves until the divergence is what `learned` steers to.
3. Every EVERY steps validation loss, and the growth of the perplexity if that is limited, are measured; the best state
   within the limit is the result, the unpruned model among them.
   A time limit plans fewer steps, as in `learned`, so that the rate falls in time.
4. No rate is right for all: each of RATES trains anew, and the lowest validation loss wins. A time limit is that of all
   of them together.

Which numbers are trained is told in `explorer.search.evidence.tunable`. All of it happens on a view; what is shared
stays as it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.core.finite import expm1
from explorer.core.progress import Progress
from explorer.measure.evaluate import evaluate
from explorer.measure.metrics import run
from explorer.models.matrices import substituted
from explorer.search.anchor import HELD, Anchor, text_loss, windows
from explorer.search.evidence.claim import Claim, hits
from explorer.search.evidence.figures import RivalFigures
from explorer.search.evidence.tunable import Adapters, BiasShifts, Gains, Tunable
from explorer.search.learned import (
    ANCHORS,
    BETAS,
    EVERY,
    PACED,
    PATIENCE,
    STEP,
    TRAINING,
    LearnedSettings,
    batch_size,
    mini_batch,
    moved,
    smoothed,
    wanted_divergence,
)

RATES = (0.003, 0.03)
LOWEST_RATE = 0.1  # of the rate, at the end
Choose = Callable[[Claim, int], Tunable]


@dataclass
class _Run:
    """A training as far as it is: its best state, what that gives on validation, and how the text is weighed."""

    state: list[Tensor]
    loss: float
    planned: int
    steps: int = 0
    waited: int = 0
    anchor: float = 3.0
    divergence: float = math.nan

    def steer(self, divergence: float, wanted: float) -> None:
        """Move the text's weight by how far the divergence is from what is wanted."""
        self.divergence = smoothed(self.divergence, divergence)
        self.anchor = moved(self.anchor, self.divergence / wanted, STEP, bounds=ANCHORS)


def bias_only(claim: Claim, progress: Progress | None = None) -> RivalFigures:
    """Shifts of output biases."""
    return _trained(claim, BiasShifts.chosen, progress)


def lora_1(claim: Claim, progress: Progress | None = None) -> RivalFigures:
    """Adapters of rank one."""
    return _trained(claim, Adapters.chosen, progress)


def scaling(claim: Claim, progress: Progress | None = None) -> RivalFigures:
    """A real gain per singular value."""
    return _trained(claim, Gains.chosen, progress)


def _trained(claim: Claim, choose: Choose, progress: Progress | None) -> RivalFigures:
    """Train with every rate, and measure the best on the test split."""
    settings, found = LearnedSettings(), []
    seconds = claim.problem.budget.seconds
    for number, rate in enumerate(RATES):
        tunable = choose(claim, len(claim.mask))

        def tell(step: int, done: int = number) -> None:
            if progress is not None:
                progress(done * settings.steps + step, len(RATES) * settings.steps)

        share = None if seconds is None else seconds / len(RATES)
        found.append((train(claim, tunable, rate, settings=settings, seconds=share, tell=tell), tunable, rate))
    best, tunable, rate = min(found, key=lambda one: one[0].loss)
    _set(tunable, best.state)
    before = claim.text_before
    with claim.running(tunable.weights()):
        test = claim.test()
        growth = None if before is None else claim.growth()
    changed = "" if best.loss < claim_loss(claim) else " No state helped within the limits: as unpruned."
    return RivalFigures(
        role="baseline", accuracy=(test.accuracy,), loss=(test.mean_loss.value,), hits=hits((test,)), growth=growth,
        numbers=tunable.numbers, steps=best.steps, note=f"Rate {rate:g} of {RATES[0]:g} and {RATES[1]:g}.{changed}",
    )  # fmt: skip


def claim_loss(claim: Claim) -> float:
    """The unpruned model's validation loss."""
    return claim.problem.curve[0].validation.mean_loss.value


def train(
    claim: Claim,
    tunable: Tunable,
    rate: float,
    *,
    settings: LearnedSettings,
    seconds: float | None,
    tell: Callable[[int], None],
) -> _Run:
    """Train the numbers of `tunable` in place with one rate; the view is left unpruned."""
    problem, view, begun = claim.problem, claim.view, time.monotonic()
    parameters = tunable.parameters
    optimizer = torch.optim.Adam(parameters, lr=rate, betas=BETAS)
    anchor = Anchor(view, windows(view, problem.text[:-HELD]), claim.unprune)
    size, wanted = batch_size(problem, settings), wanted_divergence(settings, problem.budget.growth)
    now = _Run([one.detach().clone() for one in parameters], claim_loss(claim), settings.steps)
    claim.unprune()
    _ = problem.unpruned_text_loss if problem.budget.growth is not None else None
    while now.steps < now.planned and now.waited < PATIENCE:
        tell(now.steps)
        fallen = (1 + math.cos(math.pi * now.steps / now.planned)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate * (LOWEST_RATE + (1 - LOWEST_RATE) * fallen)
        _step(claim, tunable, now, anchor=anchor, optimizer=optimizer, size=size, wanted=wanted)
        now.steps += 1
        if seconds is not None and now.steps == PACED:
            spent = time.monotonic() - begun
            now.planned = min(settings.steps, PACED + max(1, int((TRAINING * seconds - spent) * PACED / spent)))
        if now.steps % EVERY == 0 or now.steps == now.planned:
            _measure(claim, tunable, now)
    return now


def _step(
    claim: Claim,
    tunable: Tunable,
    now: _Run,
    *,
    anchor: Anchor,
    optimizer: torch.optim.Optimizer,
    size: int,
    wanted: float,
) -> None:
    """One step of the numbers, and of the text's weight."""
    view, parameters = claim.view, tunable.parameters
    if anchor.windows:
        anchor.prepare(now.steps)
    examples = mini_batch(claim.problem, size, now.steps)
    count = sum(map(len, examples))
    with view.lock, torch.enable_grad(), substituted(view, tunable.weights()):
        if anchor.windows:
            divergence = anchor.divergence(now.steps)
            for one, gradient in zip(
                parameters, torch.autograd.grad(divergence, parameters, retain_graph=True), strict=True
            ):
                one.grad = now.anchor * gradient
            now.steer(float(divergence.detach()), wanted)
        loss = sum((run(view, batch).loss.sum() / count for batch in examples), torch.zeros((), device=view.device))
        loss.backward()  # type: ignore[no-untyped-call]
    if all(bool(one.grad.isfinite().all()) for one in parameters if one.grad is not None):
        optimizer.step()
    optimizer.zero_grad()


def _measure(claim: Claim, tunable: Tunable, now: _Run) -> None:
    """Measure the state of now, and keep it if it is the best within the limit."""
    problem = claim.problem
    with claim.running(tunable.weights()):
        loss = evaluate(claim.view, problem.task, "validation").mean_loss.value
        grown = 0.0
        if problem.budget.growth is not None and loss < now.loss:
            grown = expm1(text_loss(claim.view, problem.text[-HELD:]) - problem.unpruned_text_loss)
    if loss < now.loss and (problem.budget.growth is None or grown <= problem.budget.growth):
        now.loss, now.waited = loss, 0
        now.state = [one.detach().clone() for one in tunable.parameters]
    else:
        now.waited += 1


def _set(tunable: Tunable, state: list[Tensor]) -> None:
    with torch.no_grad():
        for one, value in zip(tunable.parameters, state, strict=True):
            one.copy_(value)
