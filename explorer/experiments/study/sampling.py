"""Which singular values a study measures: a stratified sample of every kind, and its extremes.

The places of a kind are dealt over its layers as evenly as they go; a layer's values are sorted by score, cut into as
many strata as the layer has places, and one value is drawn from each. The lowest and the highest scores of the kind
form a group of their own: a mask would choose among these, and predictions are worst there.
"""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Literal

from explorer.attribution import Scores
from explorer.core.keys import MatrixKey

Value = tuple[MatrixKey, int]
Group = Literal["stratified", "extremes"]


def sample(scores: Scores, *, per_kind: int, extremes: int, seed: int) -> dict[Value, Group]:
    """Sampled values with their group, in order of matrix and index; see the module docstring.

    A value that is both drawn and extreme counts as extreme. A kind with fewer values than places gives all it has.

    Args:
        scores: what the strata and the extremes are taken from.
        per_kind: places of a kind in the stratified group.
        extremes: values at either end of a kind's ranking.
        seed: of the draw inside each stratum.
    """
    generator = random.Random(seed)
    groups: dict[Value, Group] = {}
    ranking = scores.ranking()
    for kind in dict.fromkeys(key.kind for key in scores.matrices):
        ranked = [(key, index) for _, key, index in ranking if key.kind is kind]
        for values, places in _places(ranked, per_kind):
            edges = [len(values) * i // places for i in range(places + 1)]
            drawn = [values[generator.randrange(low, high)] for low, high in pairwise(edges)]
            groups.update(dict.fromkeys(drawn, "stratified"))
        ends = (*ranked[:extremes], *ranked[max(0, len(ranked) - extremes) :]) if extremes else ()
        groups.update(dict.fromkeys(ends, "extremes"))
    return dict(sorted(groups.items()))


def _places(ranked: list[Value], total: int) -> list[tuple[list[Value], int]]:
    """Each layer's values, still ranked, and how many of them to draw."""
    layers: dict[int, list[Value]] = {}
    for value in ranked:
        layers.setdefault(value[0].layer, []).append(value)
    left, shares = total, []
    by_size = sorted(layers.values(), key=len)  # what a small layer cannot take goes to the others
    for done, values in enumerate(by_size):
        places = min(len(values), -(-left // (len(by_size) - done)))
        left -= places
        shares.append((values, places))
    return [(values, places) for values, places in shares if places > 0]
