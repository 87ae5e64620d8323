"""Picks: what the user clicked or selected, read back from the browser.

The log that comes back is user input. Whatever does not fit is dropped without an error; each pick is handed
out once, in the order of its sequence number.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, TypeGuard, cast, get_args

import numpy as np

from explorer.ui.components.spectrum_chart.series import Series

PickKind = Literal["click", "box", "lasso", "card"]

_MAX_SEQ = 2**53 - 1  # the largest integer that JavaScript counts exactly
_MAX_PICKS = 10_000  # per delivery; the browser drops handled picks, so an honest log stays short


@dataclass(frozen=True)
class Pick:
    """One thing the user did in the plot.

    Attributes:
        seq: sequence number, rising within one session.
        kind: ``"click"`` and ``"card"``, which asks for the point's card, name exactly one point; ``"box"`` and
            ``"lasso"`` one or more.
        points: (matrix key, ascending indices) pairs, valid for what was shown when the user picked.
    """

    seq: int
    kind: PickKind
    points: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass
class PickLog:
    """Python's side of the log of one chart in one session.

    Attributes:
        epoch: random name of this log. A browser that reconnects to a new session still holds the old log;
            its epoch differs, so nothing is applied twice.
        handled: highest sequence number that was handed out or dropped.
        shown: matrix key -> number of singular values, as last drawn.
        lock: held while picks are taken and applied; a rerun's thread starts while the last one's still ends.
    """

    epoch: str = field(default_factory=lambda: secrets.token_hex(8))
    handled: int = 0
    shown: dict[str, int] = field(default_factory=dict)
    lock: AbstractContextManager[bool] = field(default_factory=threading.RLock, repr=False, compare=False)

    def take(self, raw: object) -> tuple[Pick, ...]:
        """Return the valid picks in ``raw`` that were not handed out before, and mark all as handled.

        Args:
            raw: the component's state as the browser sent it:
                ``{"epoch": str, "picks": [{"seq": int, "kind": str, "points": [[matrix, [start, stop, ...]]]}]}``
                with half-open index ranges. Anything else yields nothing.
        """
        if not isinstance(raw, Mapping) or raw.get("epoch") != self.epoch:
            return ()
        entries = raw.get("picks")
        if not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
            return ()
        fresh: list[Pick] = []
        for entry in entries[:_MAX_PICKS]:
            seq = entry.get("seq") if isinstance(entry, Mapping) else None
            if not _is_index(seq) or not self.handled < seq <= _MAX_SEQ:
                continue
            self.handled = seq
            pick = _parse(entry, seq, self.shown)
            if pick is not None:
                fresh.append(pick)
        return tuple(fresh)


def apply_picks(series: Iterable[Series], picks: Iterable[Pick], *, by_block: bool = True) -> dict[str, frozenset[int]]:
    """Return the removed indices after ``picks``, for each matrix that changed.

    A click toggles its value. A box or lasso removes everything inside it, or restores it if all of it was
    removed already; to ask for a card changes nothing. The browser draws the same rule at once, before Python answers.

    Args:
        series: what the plot showed.
        picks: picks in order; points of matrices that are not in ``series`` are ignored.
        by_block: widen each point to its degenerate block (METHOD.md, section 1).
    """
    known = {one.matrix: one for one in series}
    removed = {matrix: one.removed for matrix, one in known.items()}
    for pick in picks:
        if pick.kind == "card":
            continue
        points = [(known[matrix], indices) for matrix, indices in pick.points if matrix in known]
        restore = all(removed[one.matrix].issuperset(indices) for one, indices in points)
        for one, indices in points:
            target = _widen(one, indices) if by_block else frozenset(indices)
            before = removed[one.matrix]
            removed[one.matrix] = before - target if restore else before | target
    return {matrix: now for matrix, now in removed.items() if now != known[matrix].removed}


def _widen(series: Series, indices: Sequence[int]) -> frozenset[int]:
    chosen = frozenset(indices)
    return chosen.union(*(block for block in series.blocks if not chosen.isdisjoint(block)))


def _is_index(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _parse(entry: Mapping[str, object], seq: int, shown: Mapping[str, int]) -> Pick | None:
    kind, points = entry.get("kind"), entry.get("points")
    if kind not in get_args(PickKind) or not isinstance(points, list):
        return None
    chosen: dict[str, tuple[int, ...]] = {}
    for point in points:
        if not (isinstance(point, list) and len(point) == 2 and isinstance(point[0], str)):
            continue
        matrix, ranges = point
        if matrix in shown and matrix not in chosen:
            indices = _indices(ranges, shown[matrix])
            if indices:
                chosen[matrix] = indices
    count = sum(map(len, chosen.values()))
    if count == 0 or (kind in ("click", "card") and count != 1):
        return None
    return Pick(seq, cast(PickKind, kind), tuple(chosen.items()))


def _indices(ranges: object, size: int) -> tuple[int, ...]:
    """Expand ``[start, stop, ...]``; a range that is not inside ``0..size`` is dropped."""
    if not isinstance(ranges, list) or len(ranges) % 2 or not all(map(_is_index, ranges)):
        return ()
    inside = np.zeros(size, dtype=bool)
    for start, stop in zip(ranges[::2], ranges[1::2], strict=True):
        if 0 <= start < stop <= size:
            inside[start:stop] = True
    return tuple(np.flatnonzero(inside).tolist())
