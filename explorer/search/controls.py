"""Controls of a mask: masks that match it in size but were chosen without the score.

What has no finite score or frozen mean is never drawn.

| control | matches | chosen |
|---|---|---|
| random-pool | number of values | at random among all values of the pool: all matrices of some kinds |
| random-per-matrix | number of values in each matrix | at random |
| random-energy | removed energy, the sum of s_i^2, over the mask's matrices | at random |
| smallest | number of values in each matrix | the smallest singular values |
| largest | number of values in each matrix | the largest singular values |

DEFAULT is what every page, command and report compares a mask with unless another one is asked for. It needs nothing
but the mask, so that one mask and one seed have one null wherever it is measured; a pool would depend on which kinds
were looked at. It is also the harder rival: it knows how many values were taken from which matrix.

`random-search` is no control of a mask but a strategy (`explorer.search.chance`): the best of many draws of
random-per-matrix, chosen with the validation split's help.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from explorer.attribution import Scores, score
from explorer.core.errors import NotFiniteError, SettingsError
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress
from explorer.masks.mask import Mask, Removed
from explorer.models import View
from explorer.search.lowest import check_count
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task

DRAWS = 20  # of a random control, unless another number is asked for
POOL, PER_MATRIX, RANDOM_SEARCH = "random-pool", "random-per-matrix", "random-search"
DEFAULT = PER_MATRIX
EARLIER = "random-count"  # named all three
TIE = 1e-6  # losses that are closer than this share of them are equal: runs of one mask differ by so much
Control = Callable[[Scores, Mask, int], tuple[Removed, ...]]


def random_pool(scores: Scores, count: int, seed: int = 0) -> tuple[Removed, ...]:
    """`count` values drawn without replacement from all scored ones by `seed`; scores play no part.

    Raises:
        SettingsError: a count below 0 or above the number of scored values.
    """
    check_count(scores, count)
    places = [(key, index) for key in sorted(scores.matrices) for index in scores.usable[key]]
    return tuple(scores.removed(key, index) for key, index in random.Random(seed).sample(places, count))


def random_per_matrix(scores: Scores, mask: Mask, seed: int) -> tuple[Removed, ...]:
    """As many values in each matrix, drawn without replacement by `seed`."""
    generator = random.Random(seed)
    return _per_matrix(scores, mask, lambda among, count: generator.sample(among, count))


def random_energy(scores: Scores, mask: Mask, seed: int) -> tuple[Removed, ...]:
    """Values of the mask's matrices, drawn by `seed`, whose energy comes closest to the mask's.

    Values are taken in random order; one that would overshoot the mask's energy is passed over.
    """
    places = [(key, index) for key in mask.by_matrix for index in scores.usable[key]]
    random.Random(seed).shuffle(places)
    left = sum(_energy(scores, one.key, one.index) for one in mask.removed)
    chosen = []
    for key, index in places:
        energy = _energy(scores, key, index)
        if energy <= left:
            left -= energy
            chosen.append(scores.removed(key, index))
    return tuple(chosen)


def smallest(scores: Scores, mask: Mask, seed: int = 0) -> tuple[Removed, ...]:
    """As many values in each matrix, the smallest; the seed is not used."""
    return _per_matrix(scores, mask, lambda among, count: among[len(among) - count :])


def largest(scores: Scores, mask: Mask, seed: int = 0) -> tuple[Removed, ...]:
    """As many values in each matrix, the largest; the seed is not used."""
    return _per_matrix(scores, mask, lambda among, count: among[:count])


CONTROLS: dict[str, Control] = {
    POOL: lambda scores, mask, seed: random_pool(scores, len(mask), seed),
    PER_MATRIX: random_per_matrix,
    "random-energy": random_energy,
    "smallest": smallest,
    "largest": largest,
}
RANDOM = frozenset({POOL, PER_MATRIX, "random-energy"})  # differ from seed to seed; the others have one draw
OF_THE_MASK = tuple(name for name in CONTROLS if name != POOL)  # need nothing but the mask; what reports hold


def check_control(name: str) -> None:
    """Raise SettingsError unless there is such a control."""
    refuse_earlier(name)
    if name not in CONTROLS:
        raise SettingsError(f"{name[:40]!r} is not a control: choose one of {', '.join(CONTROLS)}.")


def refuse_earlier(name: str) -> None:
    """Raise SettingsError for the name that three controls had."""
    if name == EARLIER:
        raise SettingsError(
            f"{EARLIER} was the name of three controls: say {POOL} (drawn from all values of the chosen kinds), "
            f"{PER_MATRIX} (as many in each matrix as the mask has) or {RANDOM_SEARCH} (a search strategy: the best of "
            "many draws on the validation split)."
        )


def by_today(controls: Any) -> Any:
    """What was saved by the names of controls, under today's; the earlier one was random-per-matrix there."""
    if not isinstance(controls, Mapping):
        return controls
    return {PER_MATRIX if name == EARLIER else name: value for name, value in controls.items()}


def draws(scores: Scores, mask: Mask, control: str, seeds: Iterable[int]) -> tuple[Mask, ...]:
    """Masks of one control, one per seed (a single one for controls that know no chance).

    `scores` are those of the pool, whose values `random-pool` draws; other controls look at the mask's matrices only.

    Raises:
        SettingsError: no such control, or a mask with matrices that were not scored.
    """
    check_control(control)
    unscored = [] if control == POOL else [str(key) for key in mask.by_matrix if key not in scores.matrices]
    if unscored:
        raise SettingsError(f"{unscored[0]} was not scored: score all matrices of the mask before drawing controls.")
    chosen = list(seeds) if control in RANDOM else [0]
    return tuple(mask.without_all().with_removed(CONTROLS[control](scores, mask, seed)) for seed in chosen)


def means_of(
    view: View,
    task: Task,
    svds: SvdCache,
    mask: Mask,
    *,
    pool: Sequence[MatrixKey] = (),
    examples: int | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Frozen means for `draws` to draw with: of the mask's matrices, or of a pool.

    They come from so many train examples as the mask's own, where it says how many of this task these were; otherwise
    from all, unless `examples` says another number. The view must be free for them: it is left as they need it.

    Raises:
        TaskError, MatrixError, ModelError: the examples, a matrix or its weights cannot be used.
    """
    made = mask.provenance
    limit = examples or (made.examples if made.task == task.name else None)
    keys = tuple(pool) or tuple(mask.by_matrix)
    return score(view, task, svds, keys=keys, scorer="random", mode=mask.mode, limit=limit, progress=progress)


def beaten(value: float, others: Sequence[float]) -> float:
    """Percent of the others that are lower than value, ties counted half; what is not finite is lower than all else."""
    return 100 * sum(_beats(value, other) for other in others) / len(others)


def _beats(value: float, other: float) -> float:
    if not (math.isfinite(value) and math.isfinite(other)):
        return 0.5 * (1 + math.isfinite(value) - math.isfinite(other))
    return 0.5 if math.isclose(value, other, rel_tol=TIE) else float(value > other)


def _per_matrix(scores: Scores, mask: Mask, choose: Callable[[list[int], int], Iterable[int]]) -> tuple[Removed, ...]:
    """`choose` takes so many of the values of a matrix that can be chosen, in their order."""
    chosen = []
    for key, removed in mask.by_matrix.items():
        among = scores.usable[key]
        if len(removed) > len(among):
            raise NotFiniteError(
                f"a control cannot take {len(removed)} values of {key}: only {len(among)} have finite scores and "
                "frozen means; load the model in float32."
            )
        chosen += [scores.removed(key, index) for index in choose(among, len(removed))]
    return tuple(chosen)


def _energy(scores: Scores, key: MatrixKey, index: int) -> float:
    return float(scores.matrices[key].s[index]) ** 2
