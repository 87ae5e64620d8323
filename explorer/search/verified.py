"""Greedy rounds of proposals that are checked before they count.

1. Score all values at the mask reached so far: what removing a kept value, or restoring a removed one, would do now.
2. Propose the lowest negative scores together, as far as the change that they predict, their sum, is within the
   *reach*: the range in which predictions have held in this search. A value whose score is beyond it is passed over.
3. Measure the proposal. It is accepted only if the validation loss falls and the train loss does not rise. If it is
   refused, predictions of this size do not hold here: the reach is half of it, and the round proposes again.
4. Effects do not add up, so the reach follows how much of an accepted prediction came true on the train examples, as
   the radius of a trust-region method does (Nocedal and Wright, Numerical Optimization, chapter 4).
5. While predictions come true, the same scores propose what comes next: a round ends with the first one that does not.
6. End when a round has accepted nothing: nothing within reach is worth measuring, nothing negative is left, or the
   budget is used up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from explorer.attribution import Scores
from explorer.core.keys import MatrixKey
from explorer.masks.mask import Mask
from explorer.search.outcome import Point
from explorer.search.problem import Problem

START, LARGEST = 8, 256  # values in the first proposal, and in any
GOOD, POOR = 0.5, 0.25  # shares of a prediction that came true: from GOOD on the reach doubles, below POOR it halves
LEAST = 1e-3  # of the unpruned loss: predictions below it are not worth measuring
Value = tuple[MatrixKey, int]


def verified(problem: Problem) -> None:
    """Improve the unpruned model round by round."""
    improved(problem, problem.start())


def improved(problem: Problem, start: Point, rounds: int | None = None) -> Point:
    """Improve a measured mask round by round, `rounds` times at most; the last that was accepted."""
    unpruned = problem.start()
    best = problem.complete(start)
    most, least = problem.budget.removed, LEAST * unpruned.train_loss
    reach, done = math.inf, 0
    while rounds is None or done < rounds:
        done += 1
        problem.at(best.removed, most)  # how many rounds there will be is not known
        scores, at = problem.score(best.mask), best
        ranked = [entry for entry in scores.ranking() if entry[0] < 0]
        while True:
            count = LARGEST if math.isfinite(reach) else START
            proposal, predicted = _within(reach, ranked, best.mask, most=most, count=count)
            if predicted < least:
                break
            point = problem.measure(_flipped(scores, best.mask, proposal), rival=best)
            if not better(problem, point, best):
                if best is not at:
                    break
                reach = predicted / 2
                continue
            came_true = (best.train_loss - point.train_loss) / predicted
            reach = predicted * (2 if came_true >= GOOD else 1 if came_true >= POOR else 0.5)
            best = point
            if came_true < GOOD:
                break
            flipped = set(proposal)
            ranked = [entry for entry in ranked if entry[1:] not in flipped]
            scores = problem.with_means(scores, best.mask)
        if best is at:
            break
    return best


def _within(
    reach: float, ranked: Iterable[tuple[float, MatrixKey, int]], mask: Mask, most: int, count: int
) -> tuple[list[Value], float]:
    """The most helpful flips, `count` at most, that leave at most `most` values removed; and the fall they predict."""
    chosen: list[Value] = []
    predicted, removed = 0.0, len(mask)
    for score, key, index in ranked:
        change = -1 if index in mask.indices(key) else 1
        if removed + change > most or (not chosen and -score > reach):
            continue
        if len(chosen) == count or predicted - score > reach:
            break
        chosen.append((key, index))
        predicted -= score
        removed += change
    return chosen, predicted


def _flipped(scores: Scores, mask: Mask, values: list[Value]) -> Mask:
    restored = {(str(key), index) for key, index in values if index in mask.indices(key)}
    removed = [scores.removed(key, index) for key, index in values if index not in mask.indices(key)]
    return mask.without(restored).with_removed(removed)


def better(problem: Problem, point: Point, best: Point) -> bool:
    """Whether a measured mask is to be accepted in place of another: validation loss lower, train loss no higher."""
    return problem.improves(point, best) and point.train_loss <= best.train_loss
