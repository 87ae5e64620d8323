"""How long work will still take, told only where its pace allows to tell.

Steps of one piece of work cost differently. So the time is worked out from the pace of the last quarter of the time so
far; where that differs much from the pace of all of it, nothing is said. What is said never grows: it stands still
until the work has caught up. After a silence it may start anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from explorer.ui.components import painting

LEAST_SHARE = 0.05  # done before anything is said
STEADY = 2.0  # largest ratio of the two paces
KEPT = 256  # points


@dataclass
class TimeLeft:
    """The pace of one piece of work, from (seconds, share done) as it goes on."""

    _points: list[tuple[float, float]] = field(default_factory=list)
    _said: float | None = None

    def note(self, now: float, share: float) -> None:
        """Tell how much is done at a time; less than before is a new beginning."""
        if self._points and share < self._points[-1][1]:
            self._points, self._said = [], None
        if not self._points or share > self._points[-1][1]:
            self._points.append((now, share))
        if len(self._points) > KEPT:
            del self._points[1:-1:2]

    def seconds(self, now: float) -> float | None:
        """Estimated seconds left; None where that cannot be told."""
        found = self._estimate(now)
        if found is not None and self._said is not None:
            found = min(found, self._said)
        self._said = found
        return found

    def _estimate(self, now: float) -> float | None:
        if len(self._points) < 2:
            return None
        (start, first), (_, share) = self._points[0], self._points[-1]
        elapsed = now - start
        if elapsed < painting.TOLD or share - first < LEAST_SHARE:
            return None
        whole = elapsed * (1 - share) / (share - first)
        then, before = max(one for one in self._points if one[0] <= now - elapsed / 4)
        if share <= before:
            return None  # nothing was done lately
        late = (now - then) * (1 - share) / (share - before)
        return late if max(late, whole) <= STEADY * min(late, whole) else None
