"""The model as a map: one cell per layer and matrix, with its most harmful score and how many values are harmful."""

from __future__ import annotations

from collections.abc import Iterable

from explorer.attribution import Scores
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.mask import Mask
from explorer.plots.scores import Cell

COLUMNS = 96  # more heads than that are too thin to be told apart or clicked


def cells(scores: Scores, mask: Mask) -> tuple[Cell, ...]:
    """The map's cells, layer by layer: heads side by side, or one cell per kind if there are too many heads.

    A cell of several heads has the most harmful score of any of them, and opens the head that it is of.
    """
    columns = {(key.kind, key.head) for key in scores.matrices}
    merged = len(columns) > COLUMNS
    groups: dict[tuple[int, Kind, int | None], list[MatrixKey]] = {}
    for key in sorted(scores.matrices):
        groups.setdefault((key.layer, key.kind, None if merged else key.head), []).append(key)
    return tuple(_cell(scores, mask, head, keys=keys) for (_, _, head), keys in groups.items())


def _cell(scores: Scores, mask: Mask, head: int | None, keys: Iterable[MatrixKey]) -> Cell:
    found = {key: scores.matrices[key].score for key in keys}
    worst, key = min((float(score.min()), key) for key, score in found.items())
    return Cell(
        matrix=str(key),
        layer=key.layer,
        kind=str(key.kind),
        head=head,
        worst=worst,
        harmful=sum(int((score < 0).sum()) for score in found.values()),
        values=sum(len(score) for score in found.values()),
        removed=sum(len(mask.indices(one)) for one in found),
    )
