"""Controls of a mask: masks that match it in size but were chosen without the score.

| control | matches | chosen |
|---|---|---|
| random-count | number of values in each matrix | at random |
| random-energy | removed energy, the sum of s_i^2, over the mask's matrices | at random |
| smallest | number of values in each matrix | the smallest singular values |
| largest | number of values in each matrix | the largest singular values |
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from explorer.attribution import Scores
from explorer.errors import SettingsError
from explorer.keys import MatrixKey
from explorer.masks import Mask, Removed

DRAWS = 20  # of a random control, unless another number is asked for
Control = Callable[[Scores, Mask, int], tuple[Removed, ...]]


def random_count(scores: Scores, mask: Mask, seed: int) -> tuple[Removed, ...]:
    """As many values in each matrix, drawn without replacement by `seed`."""
    generator = random.Random(seed)
    return _per_matrix(scores, mask, lambda rank, count: generator.sample(range(rank), count))


def random_energy(scores: Scores, mask: Mask, seed: int) -> tuple[Removed, ...]:
    """Values of the mask's matrices, drawn by `seed`, whose energy comes closest to the mask's.

    Values are taken in random order; one that would overshoot the mask's energy is passed over.
    """
    places = [(key, index) for key in mask.by_matrix for index in range(len(scores.matrices[key].s))]
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
    return _per_matrix(scores, mask, lambda rank, count: range(rank - count, rank))


def largest(scores: Scores, mask: Mask, seed: int = 0) -> tuple[Removed, ...]:
    """As many values in each matrix, the largest; the seed is not used."""
    return _per_matrix(scores, mask, lambda rank, count: range(count))


CONTROLS: dict[str, Control] = {
    "random-count": random_count,
    "random-energy": random_energy,
    "smallest": smallest,
    "largest": largest,
}
RANDOM = frozenset({"random-count", "random-energy"})  # differ from seed to seed; the others have one draw


def draws(scores: Scores, mask: Mask, control: str, seeds: Iterable[int]) -> tuple[Mask, ...]:
    """Masks of one control, one per seed (a single one for controls that know no chance).

    Raises:
        SettingsError: no such control, or a mask with matrices that were not scored.
    """
    if control not in CONTROLS:
        raise SettingsError(f"{control!r} is not a control: choose one of {', '.join(CONTROLS)}.")
    unscored = [str(key) for key in mask.by_matrix if key not in scores.matrices]
    if unscored:
        raise SettingsError(f"{unscored[0]} was not scored: score all matrices of the mask before drawing controls.")
    chosen = list(seeds) if control in RANDOM else [0]
    return tuple(mask.without_all().with_removed(CONTROLS[control](scores, mask, seed)) for seed in chosen)


def beaten(value: float, others: Sequence[float]) -> float:
    """Percent of the others that are lower than value, ties counted half."""
    return 100 * sum((value > other) + 0.5 * (value == other) for other in others) / len(others)


def _per_matrix(scores: Scores, mask: Mask, choose: Callable[[int, int], Iterable[int]]) -> tuple[Removed, ...]:
    return tuple(
        scores.removed(key, index)
        for key, removed in mask.by_matrix.items()
        for index in choose(len(scores.matrices[key].s), len(removed))
    )


def _energy(scores: Scores, key: MatrixKey, index: int) -> float:
    return float(scores.matrices[key].s[index]) ** 2
