"""Strategies that choose which singular values to remove: one signature, one table, controls among them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Unpack

from explorer.attribution import ScoreOptions, Scores, score
from explorer.core.errors import SettingsError
from explorer.core.keys import Kind
from explorer.masks.apply import empty_mask
from explorer.masks.mask import Mask, Removed
from explorer.models import View
from explorer.models.matrices import matrices, shape
from explorer.search.chance import CHANCE
from explorer.search.chance import SUMMARIES as OF_CHANCE
from explorer.search.controls import POOL, random_pool, refuse_earlier
from explorer.search.ensemble import BASES, ensemble
from explorer.search.lowest import lowest
from explorer.search.problem import Search
from explorer.search.provenance import provenance
from explorer.spectra.cache import SvdCache
from explorer.spectra.measures import null_from
from explorer.tasks import Task

__all__ = [
    "METHODS",
    "SEARCHES",
    "STRATEGIES",
    "SUMMARIES",
    "check_strategy",
    "lowest",
    "mask_of",
    "null_notice",
    "prune",
    "random_pool",
]

# Chooses `count` of the scored values; the seed matters to random strategies only.
Strategy = Callable[[Scores, int, int], tuple[Removed, ...]]
STRATEGIES: dict[str, Strategy] = {"lowest": lowest, POOL: random_pool}

# Searches of any number of rounds, each measured on the validation split; controls among them.
METHODS: dict[str, Search] = {**BASES, "ensemble": ensemble}
SEARCHES: dict[str, Search] = {**METHODS, **CHANCE}
# What each does, in a sentence: the beginning of its module's docstring, if it is alone in there.
SUMMARIES = {
    name: (sys.modules[one.__module__].__doc__ or name).split("\n")[0] for name, one in METHODS.items()
} | OF_CHANCE


def prune(
    view: View,
    task: Task,
    svds: SvdCache,
    *,
    kinds: Iterable[Kind],
    count: int,
    strategy: str = "lowest",
    per_head: bool = True,
    gain: float = 0.0,
    **how: Unpack[ScoreOptions],
) -> Mask:
    """Score all matrices of some kinds on the task's train split and choose `count` values to remove, or to scale.

    They are scaled if `gain`, the share of each that stays, is above 0. The view is left unpruned: put the mask onto it
    with `explorer.masks.apply.apply`. `how`: how they are scored.

    Raises:
        SettingsError: no such strategy or scorer, or more values asked for than there are.
        MaskError: a gain outside of [0, 1).
        MatrixError, TaskError, ModelError: a kind, the examples or the weights cannot be used.
    """
    check_strategy(strategy)
    keys = matrices(view, tuple(kinds), per_head=per_head)
    scores = score(view, task, svds, keys=keys, **how)
    chosen = STRATEGIES[strategy](scores, count, scores.seed)
    return mask_of(view, scores, chosen, task=task, strategy=strategy, gain=gain)


def check_strategy(strategy: str) -> None:
    """Raise SettingsError unless there is such a strategy in STRATEGIES."""
    refuse_earlier(strategy)
    if strategy not in STRATEGIES:
        raise SettingsError(f"{strategy[:40]!r} is not a strategy: choose one of {', '.join(STRATEGIES)}.")


def mask_of(
    view: View,
    scores: Scores,
    removed: Iterable[Removed],
    *,
    task: Task | None = None,
    strategy: str | None = None,
    gain: float = 0.0,
) -> Mask:
    """A mask of the view's model that removes the given values, or scales them to `gain`, with its provenance.

    `task`, the scored one, and `strategy`, which chose the values, are noted if they are given.
    """
    made = provenance(
        task=task or scores.task, split=scores.split, examples=scores.n, seed=scores.seed, scorer=scores.scorer,
        strategy=strategy,
    )  # fmt: skip
    empty = empty_mask(view.model, scores.mode).model_copy(update={"provenance": made})
    return empty.scaled(gain).with_removed(removed)


def null_notice(view: View, scores: Scores, removed: Iterable[Removed]) -> str | None:
    """A sentence for a person if some of the chosen values are zero but for rounding: removing these does nothing."""
    first = {key: null_from(one.s, *shape(view, key)) for key, one in scores.matrices.items()}
    values = tuple(removed)
    null = [one for one in values if one.index >= first[one.key]]
    if not null:
        return None
    return (
        f"{len(null):,} of the {len(values):,} chosen values, such as {null[0].index} of {null[0].matrix}, have size "
        "zero: removing them does nothing."
    )
