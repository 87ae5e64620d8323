"""How removals act together: the effect of each pair beside the sum of its single effects, orders, and fair shares.

With f(S) the mean loss with the values S removed minus that of the unpruned model (nats per example, negative = it
helps), everything here is measured, never predicted:

- single: f({i}); pair: f({i, j}); interaction: f({i, j}) - f({i}) - f({j}), which is 0 where effects add up. Its
  standard error is over examples, each with its four losses.
- greedy order: from nothing, always the value that lowers the loss most (or raises it least) together with those that
  are gone already.
- Shapley value (Shapley 1953): the mean of f(S + i) - f(S) over the orders in which all values can go. The values add
  up to f(all). Up to `EXACT` values it is the sum over all subsets, each weighted by the orders that it stands for:
  `phi_i = sum_S |S|! (n - |S| - 1)! / n! (f(S + i) - f(S))`. Of more values it is the mean over orders that are drawn
  in pairs, each with its reverse, and has a standard error over these pairs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

from explorer.attribution.exact import keep_unpruned, mask_losses
from explorer.core.errors import SettingsError
from explorer.core.progress import Progress, part
from explorer.core.records import Record
from explorer.masks.apply import empty_mask
from explorer.masks.mask import Mask, Removed
from explorer.measure.batches import Batch
from explorer.measure.metrics import Mean, mean
from explorer.models import View
from explorer.spectra.cache import SvdCache

MOST, EXACT = 32, 8  # values at all, and of which every subset is measured
CHANCE, MATTERS = 0.05, 0.05  # of links: for all pairs together, and as a share of the largest effect
ORDERS = 8  # drawn for Shapley values of more, in pairs


@dataclass(frozen=True)
class SingleEffect(Record):
    """A value, its effect alone, and its Shapley value; `share_stderr` is null where every subset was measured."""

    matrix: str
    index: int
    effect: float
    stderr: float
    share: float
    share_stderr: float | None


@dataclass(frozen=True)
class PairEffect(Record):
    """Two values by their places in the list of values.

    Attributes:
        effect: of removing both.
        interaction, stderr: how far that is from the sum of the single effects.
    """

    first: int
    second: int
    effect: float
    interaction: float
    stderr: float


@dataclass(frozen=True)
class OrderStep(Record):
    """A step of the greedy order: the value that goes next, by its place in the list, and the effect of all so far."""

    value: int
    effect: float
    stderr: float


@dataclass(frozen=True)
class Interactions(Record):
    """How the removals of some values act together, nats per example.

    Attributes:
        n, loss: examples, and the unpruned model's mean loss on them.
        values: each alone.
        pairs: each two, in order.
        together: the effect of removing all, and its standard error.
        greedy: the order in which removing helps most.
        clusters: groups of values, by their places, that are linked (`links`).
        orders: how many orders the Shapley values are the mean of; 0 where every subset was measured.
        masks: how many sets of values were measured.
    """

    n: int
    loss: float
    values: tuple[SingleEffect, ...]
    pairs: tuple[PairEffect, ...]
    together: tuple[float, float]
    greedy: tuple[OrderStep, ...]
    clusters: tuple[tuple[int, ...], ...]
    orders: int
    masks: int


_Set = frozenset[int]  # of places in the list of values


def interactions(
    view: View,
    batches: Sequence[Batch],
    svds: SvdCache,
    removed: Sequence[Removed],
    *,
    mode: str = "freeze",
    orders: int = ORDERS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Interactions:
    """Measure single values, pairs, the greedy order and Shapley values of 2 to `MOST` values.

    The view is left unpruned, also when `progress` raises `Stopped`.

    Args:
        view: any state.
        batches: the examples.
        svds: decompositions.
        removed: the values, with what stands in their places.
        mode: how they are removed.
        orders: drawn for Shapley values, an even number of 4 or more; not used for `EXACT` values or fewer.
        seed: of these orders.
        progress: told (done, total).

    Raises:
        SettingsError: too few or too many values, one twice, or a number of orders that gives no error.
        MaskError: values that no mask can hold together.
    """
    n = len(removed)
    if not 2 <= n <= MOST or len({(one.matrix, one.index) for one in removed}) < n:
        raise SettingsError(f"interactions were asked for of {n} values: give 2 to {MOST} different ones.")
    if orders < 4 or orders % 2:
        raise SettingsError(f"{orders} orders were asked for: give an even number of 4 or more.")
    mask = empty_mask(view.model, mode)
    with view.lock:
        kept, before = keep_unpruned(view, batches, svds, progress=part(progress, 0.0, 0.02))

        def measure(masks: Sequence[Mask], stage: Progress | None) -> list[list[float]]:
            rows: list[list[float]] = mask_losses(view, kept, svds, masks=masks, progress=stage).tolist()
            return rows

        table = Sets(removed, mask, before, measure=measure)
        table.fill(_first_sets(n), part(progress, 0.02, 0.4))
        greedy = _greedy(table, n, part(progress, 0.4, 0.7))
        fair, errors = shares(table, n, orders, seed=seed, progress=part(progress, 0.7, 1.0))
    return _found(table, removed, greedy, shares=(fair, errors), orders=0 if n <= EXACT else orders)


def _found(
    table: Sets,
    removed: Sequence[Removed],
    greedy: tuple[OrderStep, ...],
    *,
    shares: tuple[Sequence[float], Sequence[float | None]],
    orders: int,
) -> Interactions:
    n, before = len(removed), table.losses[frozenset()]
    together = table.effect(frozenset(range(n)))
    singles = [table.effect(frozenset((i,))) for i in range(n)]
    pairs = tuple(_pair(table, i, j) for i, j in combinations(range(n), 2))
    return Interactions(
        n=len(before),
        loss=math.fsum(before) / len(before),
        values=tuple(
            SingleEffect(
                one.matrix, one.index, effect=effect.value, stderr=effect.stderr, share=share, share_stderr=error
            )
            for one, effect, share, error in zip(removed, singles, *shares, strict=True)
        ),
        pairs=pairs,
        together=(together.value, together.stderr),
        greedy=greedy,
        clusters=_clusters(n, links(pairs, [one.value for one in singles])),
        orders=orders,
        masks=len(table.losses) - 1,
    )


class Sets:
    """The loss of every example under the sets of values that have been measured."""

    def __init__(
        self,
        removed: Sequence[Removed],
        mask: Mask,
        before: Sequence[float],
        *,
        measure: Callable[[Sequence[Mask], Progress | None], list[list[float]]],
    ) -> None:
        self._removed, self._mask, self._measure = tuple(removed), mask, measure
        self.losses: dict[_Set, list[float]] = {frozenset(): list(before)}

    def fill(self, sets: Iterable[_Set], progress: Progress | None = None) -> None:
        """Measure the sets that have not been."""
        new = [one for one in dict.fromkeys(sets) if one not in self.losses]
        masks = [self._mask.with_removed(self._removed[i] for i in sorted(one)) for one in new]
        self.losses |= dict(zip(new, self._measure(masks, progress), strict=True))

    def effect(self, values: _Set) -> Mean:
        """F of a set."""
        return mean([now - then for now, then in zip(self.losses[values], self.losses[frozenset()], strict=True)])

    def change(self, values: _Set, value: int) -> float:
        """F(S + i) - f(S)."""
        return self.effect(values | {value}).value - self.effect(values).value


def _first_sets(n: int) -> list[_Set]:
    """Every value, every pair, all of them; of few values every set."""
    if n <= EXACT:
        return [frozenset(some) for size in range(1, n + 1) for some in combinations(range(n), size)]
    return [*(frozenset((i,)) for i in range(n)), *map(frozenset, combinations(range(n), 2)), frozenset(range(n))]


def _pair(table: Sets, i: int, j: int) -> PairEffect:
    none, one, other, both = (table.losses[frozenset(some)] for some in ((), (i,), (j,), (i, j)))
    excess = mean([d - b - c + a for a, b, c, d in zip(none, one, other, both, strict=True)])
    effect = table.effect(frozenset((i, j)))
    return PairEffect(i, j, effect.value, interaction=excess.value, stderr=excess.stderr)


def _greedy(table: Sets, n: int, progress: Progress | None) -> tuple[OrderStep, ...]:
    gone: _Set = frozenset()
    steps = []
    for place in range(n):
        candidates = [i for i in range(n) if i not in gone]
        table.fill((gone | {i} for i in candidates), part(progress, place / n, (place + 1) / n))
        best = min(candidates, key=lambda i: table.effect(gone | {i}).value)
        gone |= {best}
        effect = table.effect(gone)
        steps.append(OrderStep(best, effect.value, effect.stderr))
    return tuple(steps)


def shares(
    table: Sets, n: int, orders: int, *, seed: int, progress: Progress | None = None
) -> tuple[list[float], list[float | None]]:
    """Shapley values of n values, and their standard errors; None where every subset is measured."""
    if n <= EXACT:
        return [_exact_share(table, i, n) for i in range(n)], [None] * n
    lots, drawn = random.Random(seed), []
    for _ in range(orders // 2):
        order = lots.sample(range(n), n)
        drawn += [order, order[::-1]]
    prefixes = [[frozenset(order[:k]) for k in range(n + 1)] for order in drawn]
    table.fill((one for some in prefixes for one in some), progress)
    changes = [
        {order[k]: table.change(sets[k], order[k]) for k in range(n)}
        for order, sets in zip(drawn, prefixes, strict=True)
    ]
    halves = [
        [(one[i] + other[i]) / 2 for one, other in zip(changes[::2], changes[1::2], strict=True)] for i in range(n)
    ]
    found = [mean(some) for some in halves]
    return [one.value for one in found], [one.stderr for one in found]


def _exact_share(table: Sets, value: int, n: int) -> float:
    others = [i for i in range(n) if i != value]
    weight = [math.factorial(k) * math.factorial(n - k - 1) / math.factorial(n) for k in range(n)]
    return math.fsum(
        weight[size] * table.change(frozenset(some), value) for size in range(n) for some in combinations(others, size)
    )


def links(pairs: Sequence[PairEffect], singles: Iterable[float]) -> list[PairEffect]:
    """The pairs that go together: their interaction is beyond chance, and of a size that matters.

    Beyond chance: at 5 % over all pairs (Bonferroni), and beyond two standard errors. Of a size: at least a twentieth
    of the largest effect of a single value or a pair.
    """
    errors = max(2.0, NormalDist().inv_cdf(1 - CHANCE / 2 / max(len(pairs), 1)))
    largest = max(map(abs, (*singles, *(one.effect for one in pairs))), default=0.0)
    return [
        one for one in pairs if abs(one.interaction) > errors * one.stderr and abs(one.interaction) >= MATTERS * largest
    ]


def _clusters(n: int, linked: Iterable[PairEffect]) -> tuple[tuple[int, ...], ...]:
    """Groups of two or more values that are linked."""
    group = list(range(n))
    for one in linked:
        low, high = sorted((group[one.first], group[one.second]))
        group = [low if each == high else each for each in group]
    found = [tuple(i for i in range(n) if group[i] == name) for name in dict.fromkeys(group)]
    return tuple(some for some in found if len(some) > 1)
