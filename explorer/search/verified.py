"""Greedy rounds of proposals that are checked before they count.

1. Score all values at the mask reached so far: what removing a kept value, or restoring a removed one, would do now.
2. Propose the `size` lowest negative scores together. Effects do not add up, so `size` starts small.
3. Measure the proposal. It is accepted only if the validation loss falls and the train loss does not rise; then the
   next round may propose twice as many. If not, half as many of the same proposals are tried.
4. End when a single best proposal is refused, nothing negative is left, or the budget is used up.
"""

from __future__ import annotations

from explorer.attribution import Scores
from explorer.keys import MatrixKey
from explorer.masks import Mask
from explorer.search.outcome import Point
from explorer.search.problem import Problem

START, LARGEST = 8, 256
Value = tuple[MatrixKey, int]


def verified(problem: Problem, start: Mask | None = None, rounds: int | None = None) -> None:
    """Improve a mask (the unpruned model if none is given) round by round, `rounds` times at most."""
    best = problem.start() if start is None else problem.measure(start)
    size, done = START, 0
    while rounds is None or done < rounds:
        done += 1
        problem.at(best.removed, problem.budget.removed)  # how many rounds there will be is not known
        scores = problem.score(best.mask)
        proposals = _proposals(scores, best.mask, problem.budget.removed)
        size = min(size, len(proposals))
        while size >= 1:
            point = problem.measure(_flipped(scores, best.mask, proposals[:size]))
            if _better(problem, point, best):
                break
            size //= 2
        if size < 1:
            return
        best, size = point, min(2 * size, LARGEST)


def _proposals(scores: Scores, mask: Mask, most: int) -> list[Value]:
    """Values whose flip should help, the most helpful first, as many as leave at most `most` removed."""
    chosen, removed = [], len(mask)
    for value, key, index in scores.ranking():
        if value >= 0:
            break
        change = -1 if index in mask.indices(key) else 1
        if removed + change <= most:
            chosen.append((key, index))
            removed += change
    return chosen


def _flipped(scores: Scores, mask: Mask, values: list[Value]) -> Mask:
    restored = {(str(key), index) for key, index in values if index in mask.indices(key)}
    removed = [scores.removed(key, index) for key, index in values if index not in mask.indices(key)]
    return mask.without(restored).with_removed(removed)


def _better(problem: Problem, point: Point, best: Point) -> bool:
    assert point.train is not None
    before = best.train.mean_loss.value if best.train is not None else float("inf")
    return problem.improves(point, best) and point.train.mean_loss.value <= before
