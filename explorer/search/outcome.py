"""What a search may use up, and what it finds: values that pages, reports and strategies share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from explorer.masks.mask import Mask
from explorer.measure.evaluate import Evaluation


@dataclass(frozen=True)
class Budget:
    """What a search may use up.

    Attributes:
        removed: largest number of removed values.
        seconds: time after which the best mask so far is returned; None for no limit.
        growth: largest growth of the perplexity on the problem's text, 0.1 for 10 %; None for no limit.
    """

    removed: int
    seconds: float | None = None
    growth: float | None = None

    def allows(self, removed: int, growth: float | None) -> bool:
        """Whether a mask of so many values with this growth is within it; the empty one is.

        Under a limit to the growth a mask whose growth was not measured is not.
        """
        within = self.growth is None or (growth is not None and growth <= self.growth)
        return not removed or (removed <= self.removed and within)


@dataclass(frozen=True)
class Point:
    """A mask on a search's way, measured; losses in nats per example.

    Attributes:
        train: None where it was not measured.
        growth: of the perplexity on the problem's text, 0.1 for 10 %; None if the budget sets no limit to it, and where
            it was not measured.
    """

    mask: Mask
    train: Evaluation | None
    validation: Evaluation
    growth: float | None = None

    @property
    def removed(self) -> int:
        """Number of removed values."""
        return len(self.mask)

    @property
    def train_loss(self) -> float:
        """Mean loss on the train examples; not a number where they were not measured."""
        return math.nan if self.train is None else self.train.mean_loss.value

    @property
    def finite(self) -> bool:
        """Whether all of its losses are; a mask that makes one infinite or not a number is never a result."""
        return not self.validation.not_finite and (self.train is None or not self.train.not_finite)


@dataclass(frozen=True)
class Found:
    """The result of a strategy.

    Attributes:
        best: the measured mask with the lowest validation loss within the budget; the unpruned model counts.
        curve: every measured mask, in order.
        stopped: why it ended early: "time", "stopped", or "" if it ran to its end.
        nearest: what comes nearest to the growth that is allowed, if no mask within it helps; see `Problem.nearest`.
    """

    best: Point
    curve: tuple[Point, ...]
    stopped: str = ""
    nearest: Point | None = None

    @property
    def reported(self) -> Point:
        """The best mask, or the nearest one in the place of an empty mask, which would say that nothing was found."""
        return self.nearest or self.best


@dataclass(frozen=True)
class Status:
    """How far a search is.

    Attributes:
        share: of the work, as far as the strategy and the time budget tell.
        measured: how many masks.
        best: as in `Found`.
    """

    share: float
    measured: int
    best: Point


@dataclass(frozen=True, eq=False)
class State:
    """What a strategy keeps of its own between two measurements."""

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, float]
