"""Undo and redo over a session's masks, and forks of them, as frozen values.

A `History` is one line of steps that one can go along and jump in. `Lines` are several, one of which is current: a
fork leaves the line it comes from as it is and goes on in a line of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate

from explorer.core.errors import MaskError
from explorer.masks.mask import Mask, ModelIdentity

DEPTH, VALUES = 200, 1_000_000  # steps of a line, and removed values of all their masks together
FORKS = 20
MAIN = "main"
MAX_NAME = 60


@dataclass(frozen=True)
class Step:
    """A mask, and what led to it."""

    mask: Mask
    label: str


@dataclass(frozen=True)
class History:
    """The steps of a line, and which one it is at."""

    steps: tuple[Step, ...]
    position: int = 0

    @classmethod
    def start(cls, mask: Mask, label: str = "start") -> History:
        """A line of one step."""
        return cls((Step(mask, label),))

    @property
    def masks(self) -> tuple[Mask, ...]:
        """The masks of all steps."""
        return tuple(step.mask for step in self.steps)

    @property
    def mask(self) -> Mask:
        """The current mask."""
        return self.steps[self.position].mask

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier mask."""
        return self.position > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is a mask that was undone."""
        return self.position < len(self.steps) - 1

    def push(self, mask: Mask, label: str | None = None) -> History:
        """Go on with `mask`; what was undone is forgotten, and so is the oldest beyond `DEPTH` and `VALUES`.

        The step before is always there to go back to.

        Args:
            mask: the next mask; an equal one is no step.
            label: what led to it; by default what changed.
        """
        if mask.digest == self.mask.digest:
            return self
        step = Step(mask, label or change_text(self.mask, mask))
        steps = _newest((*self.steps[: self.position + 1], step))
        return History(steps, len(steps) - 1)

    def undo(self) -> History:
        """Step back, if there is a step."""
        return self.jump(self.position - 1)

    def redo(self) -> History:
        """Step forward again, if there is a step."""
        return self.jump(self.position + 1)

    def jump(self, position: int) -> History:
        """Be at another step; the first or the last if there is none at `position`."""
        return replace(self, position=min(max(position, 0), len(self.steps) - 1))

    def nearest(self, digest: str) -> int | None:
        """The position nearest to the current one whose mask has this digest, or one that begins so; None if none."""
        found = [at for at, step in enumerate(self.steps) if step.mask.digest.startswith(digest)]
        return min(found, key=lambda at: abs(at - self.position), default=None)


def _newest(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The last steps, as many as are kept."""
    values = list(accumulate(len(step.mask) for step in reversed(steps)))
    fitting = sum(total <= VALUES for total in values)
    return steps[-min(DEPTH, max(2, fitting)) :]


@dataclass(frozen=True)
class Line:
    """A history with a name."""

    name: str
    history: History


@dataclass(frozen=True)
class Lines:
    """The lines of a session for one model; `closed` is the line closed last, which can be opened again."""

    lines: tuple[Line, ...]
    current: int = 0
    closed: Line | None = None

    @classmethod
    def start(cls, history: History) -> Lines:
        """One line."""
        return cls((Line(MAIN, history),))

    @property
    def line(self) -> Line:
        """The current line."""
        return self.lines[self.current]

    @property
    def history(self) -> History:
        """The current line's history."""
        return self.line.history

    @property
    def mask(self) -> Mask:
        """The current mask."""
        return self.history.mask

    @property
    def names(self) -> tuple[str, ...]:
        """The lines' names, oldest first."""
        return tuple(line.name for line in self.lines)

    def changed(self, history: History) -> Lines:
        """The current line with another history."""
        lines = list(self.lines)
        lines[self.current] = Line(self.line.name, history)
        return replace(self, lines=tuple(lines))

    def of_model(self, identity: ModelIdentity) -> Lines:
        """The same lines, their masks with another model's identity."""
        lines = tuple(
            Line(one.name, replace(one.history, steps=tuple(
                Step(step.mask.of_model(identity), step.label) for step in one.history.steps
            )))
            for one in self.lines
        )  # fmt: skip
        return replace(self, lines=lines, closed=None)

    def fork(self, name: str) -> Lines:
        """Go on from the current mask in a new line; raises MaskError for a name that cannot be taken."""
        name = " ".join(name.split())
        if not 1 <= len(name) <= MAX_NAME:
            raise MaskError(f"a name of {len(name)} letters cannot be taken: give the fork one of 1 to {MAX_NAME}.")
        if name in self.names:
            raise MaskError(f"there is a fork {name!r} already: give the new one another name.")
        if len(self.lines) >= FORKS:
            raise MaskError(f"there are {FORKS} forks already: close one of them first.")
        line = Line(name, History.start(self.mask, f"forked from {self.line.name}"))
        return replace(self, lines=(*self.lines, line), current=len(self.lines))

    def switch(self, name: str) -> Lines:
        """Make another line the current one; nothing changes if there is none of this name."""
        return replace(self, current=self.names.index(name)) if name in self.names else self

    def close(self) -> Lines:
        """Close the current line, unless it is the only one; the one before it becomes current."""
        if len(self.lines) == 1:
            return self
        rest = (*self.lines[: self.current], *self.lines[self.current + 1 :])
        return Lines(rest, max(self.current - 1, 0), self.line)

    def reopen(self) -> Lines:
        """Open the line closed last again, and make it current."""
        if self.closed is None:
            return self
        name = self.closed.name
        while name in self.names:
            name += " again"
        return Lines((*self.lines, replace(self.closed, name=name)), len(self.lines))

    @property
    def free_name(self) -> str:
        """A name that no line has."""
        names = (f"fork {n}" for n in range(2, FORKS + 3))
        return next(name for name in names if name not in self.names)


def change_text(before: Mask, after: Mask) -> str:
    """What changed, in a few words: `+3 L2.Q.H1`, `+12 −4 in 7 matrices`, `restored all`, `scaled to 50 %`."""
    if not len(after) and len(before):
        return "restored all"
    changes = []
    for key in sorted({*before.by_matrix, *after.by_matrix}):
        old, new = before.indices(key), after.indices(key)
        if old != new:
            changes.append((str(key), len(new - old), len(old - new)))
    if not changes and before.gain != after.gain:
        return after.state
    if not changes:
        return f"mode {after.mode}" if before.mode != after.mode else "other frozen means"
    if len(changes) == 1:
        return f"{_counts(changes[0][1], changes[0][2])} {changes[0][0]}"
    added, restored = sum(one[1] for one in changes), sum(one[2] for one in changes)
    return f"{_counts(added, restored)} in {len(changes):,} matrices"


def _counts(added: int, restored: int) -> str:
    return " ".join(f"{sign}{count:,}" for sign, count in (("+", added), ("−", restored)) if count)
