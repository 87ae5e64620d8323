"""What long work takes, told before it begins, and how it is cut short: a few of its runs are measured first."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress

PROBE_SECONDS = 1.0  # runs measured before anything is told: one each of the first, middle and last, then any
PORTION = 64  # runs in order of their layers, so that the kept state moves through the model once for all of them
STEPS = 1000


@dataclass(frozen=True)
class Run:
    """Values that are run together, and the floating-point operations of it."""

    values: tuple[tuple[MatrixKey, int], ...]
    work: float


@dataclass(frozen=True)
class Estimate:
    """What measuring takes, from what a few runs of it took.

    Attributes:
        values: how many have to be measured.
        known: how many were measured before.
        probed: how many the estimate comes from; they count in `values` and are not measured again.
        seconds: of the whole, wall clock, those of the probes included.
        flops: floating-point operations per second in the probes.
    """

    values: int
    known: int
    probed: int
    seconds: float
    flops: float


@dataclass(frozen=True)
class Pace:
    """How long work goes on.

    Attributes:
        seconds: wall clock after which no run begins that would not end in time; None for all of them.
        told: called once with the estimate, before anything but the probes has run; not if these are all.
        seed: of the order of the runs.
        clock: seconds of some clock.
    """

    seconds: float | None = None
    told: Callable[[Estimate], None] = lambda estimate: None
    seed: int = 0
    clock: Callable[[], float] = field(default=time.monotonic)

    def ordered(self, runs: Sequence[Run], known: int) -> Iterator[Run]:
        """The runs in the order in which to run them, as long as there is time; each is run when it is given."""
        if not runs:
            return
        began = self.clock()
        first = sorted({0, len(runs) // 2, len(runs) - 1})
        rest = [run for place, run in enumerate(runs) if place not in first]
        random.Random(self.seed).shuffle(rest)
        probes: list[Run] = []
        for run in (*(runs[place] for place in first), *rest):
            if len(probes) >= len(first) and self.clock() - began >= PROBE_SECONDS:
                break
            yield run
            probes.append(run)
        rest = rest[len(probes) - len(first) :]
        spent = max(self.clock() - began, 1e-9)
        speed = math.fsum(run.work for run in probes) / spent
        seconds = math.fsum(run.work for run in runs) / speed
        counted, probed = (sum(len(run.values) for run in some) for some in (runs, probes))
        if rest:
            self.told(Estimate(counted, known, probed, seconds=seconds, flops=speed))
        for start in range(0, len(rest), PORTION):
            for run in sorted(rest[start : start + PORTION], key=lambda run: run.values[0]):
                if self.seconds is not None and self.clock() - began + run.work / speed > self.seconds:
                    return
                yield run


def tracked(runs: Iterable[Run], total: float, progress: Progress | None) -> Iterator[Run]:
    """Yield runs, telling `progress` before the first and after each one how much of `total` work is done."""
    done = 0.0
    if progress is not None:
        progress(0, STEPS)
    for run in runs:
        yield run
        done += run.work
        if progress is not None:
            progress(min(STEPS, round(STEPS * done / total)), STEPS)
    if progress is not None:
        progress(STEPS, STEPS)
