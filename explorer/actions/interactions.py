"""`interactions`: what the removals of some values do together, beside the sum of what each does alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from explorer.actions.choices import (
    Limit,
    Mode,
    ModelChoice,
    OfTask,
    TaskChoice,
    asked,
    own_mask,
    read_mask,
    removal_mode,
)
from explorer.actions.effects import values_of
from explorer.actions.request import ALONE, Arg, Request, Tools
from explorer.core.errors import SettingsError
from explorer.core.keys import MatrixKey

if TYPE_CHECKING:
    from explorer.attribution.interactions import OrderStep, PairEffect, SingleEffect
    from explorer.masks.mask import Removed
    from explorer.models import View
    from explorer.spectra.cache import SvdCache
    from explorer.tasks import Task

SPLIT = "train"
MOST_VALUES = 32


@dataclass(frozen=True)
class InteractionsResult(OfTask):
    """How the removals of some values act together: changes of the mean loss, nats per example, negative = it helps.

    Attributes:
        n, loss: train examples, and the unpruned loss on them.
        values: matrix, index, effect of it alone with stderr, share (its Shapley value; all shares add up to
            `together`) with share_stderr, null where every subset was measured.
        pairs: two places in `values`, the effect of both, and the interaction: how far that is from the sum of the two
            alone, with stderr.
        together: the effect of removing all, and its standard error.
        greedy: the order in which removing helps most, with the effect of all so far.
        clusters: groups of places that are linked by interactions beyond chance (5 % over all pairs) of at least a
            twentieth of the largest effect.
        orders: how many orders Shapley values are the mean of; 0 where every subset was measured.
        masks: how many sets of values were measured.
    """

    split: str
    mode: str
    n: int
    loss: float
    values: Sequence[SingleEffect]
    pairs: Sequence[PairEffect]
    together: Sequence[float]
    greedy: Sequence[OrderStep]
    clusters: Sequence[Sequence[int]]
    orders: int
    masks: int


@dataclass(frozen=True, kw_only=True)
class MeasureInteractions(Request):
    """Measure how the removals of 2 to 32 values act together: pairs beside sums, the best order, fair shares.

    Everything is measured on train examples. Shares are Shapley values: exact for up to 8 values, else the mean over
    orders that are drawn, with standard errors.

    Example: `eigenprune interactions --model bundled --task int-mult --value L0.Q.H3:0,1 --value L0.K.H3:0 --limit 64`
    """

    command: ClassVar[str] = "interactions"

    model: ModelChoice
    task: TaskChoice
    value: Annotated[tuple[str, ...], Arg("Values of a matrix, such as L0.Q.H3:0 or L3.OUT:0,5,7; repeatable.")] = ()
    mask: Annotated[Path | None, Arg("The values of this mask, with its frozen means, instead of --value.")] = None
    orders: Annotated[int, Arg("Orders drawn for Shapley values of more than 8 values, an even number.", least=4)] = 8
    top: Annotated[int, Arg("Pairs shown, the furthest from their sums; --json has all.", least=0)] = 20
    mode: Mode = "freeze"
    limit: Limit = None

    def run(self, tools: Tools = ALONE) -> InteractionsResult:
        """Measure.

        Raises:
            ExplorerError: a model, task, mask or value that cannot be had, or too few or too many values.
        """
        named = list(dict.fromkeys(one for text in self.value for one in values_of(text)))
        if (self.mask is None) == (not named):
            raise SettingsError("interactions needs either --value, such as --value L0.Q.H3:0,1, or --mask: give one.")
        if named and not 2 <= len(named) <= MOST_VALUES:
            raise SettingsError(f"interactions were asked for of {len(named)} values: give 2 to {MOST_VALUES}.")
        mode, task = removal_mode(self.mode), self.task.open(SPLIT, self.limit, tools)
        from explorer.attribution.interactions import interactions
        from explorer.measure.batches import batches
        from explorer.spectra.cache import default_cache

        mask = None if self.mask is None else read_mask(self.mask)
        view = self.model.open_for(task, SPLIT, self.limit, tools=tools)
        svds = default_cache(tools.notice)
        if mask is not None:
            mask = own_mask(view, mask, tools)
            mode = mask.mode
        removed = self._removed(view, svds, task, values=named) if mask is None else mask.removed
        with tools.working("Measuring") as progress:
            found = interactions(
                view, batches(view, task, task.split(SPLIT, self.limit)), svds, removed=removed, mode=mode,
                orders=self.orders, seed=task.seed, progress=progress,
            )  # fmt: skip
        return InteractionsResult(**asked(view, task), split=SPLIT, mode=mode, **vars(found))

    def _removed(
        self, view: View, svds: SvdCache, task: Task, values: Sequence[tuple[MatrixKey, int]]
    ) -> Sequence[Removed]:
        """The values with their frozen means on the train examples."""
        from explorer.attribution import score
        from explorer.core.errors import MatrixError
        from explorer.models.matrices import check, shape

        for key, index in values:
            check(view, key)
            if index >= (rank := min(shape(view, key))):
                raise MatrixError(f"{key} has singular values 0 to {rank - 1}, not {index}: choose another.")
        keys = list(dict.fromkeys(key for key, _ in values))
        scores = score(view, task, svds, keys=keys, mode=removal_mode(self.mode), limit=self.limit, seed=task.seed)
        return [scores.removed(key, index) for key, index in values]
