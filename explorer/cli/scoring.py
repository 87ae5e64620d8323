"""What `score`, `prune` and `curve` share: scoring the values of some kinds of matrix on the train split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.actions.choices import kinds_or_all, removal_mode
from explorer.cli.console import notice, working
from explorer.cli.reports import Scoring
from explorer.cli.setup import Asked, identity, open_for, open_task, own_mask, seed_or_default, wording
from explorer.core.errors import SettingsError
from explorer.tasks import Task

if TYPE_CHECKING:
    from explorer.attribution import Scores
    from explorer.models import View

SCORE_SPLIT = "train"


@dataclass(frozen=True)
class ScoringRequest:
    """Options that `score`, `prune` and `curve` share."""

    model: str
    task: str
    kinds: str
    scorer: str
    mode: str
    stacked: bool
    limit: int | None
    seed: int | None
    basis: str
    dtype: str | None
    device: str | None
    asked: Asked
    settings: Mapping[str, Any] = field(default_factory=dict)
    mask: Path | None = None

    @cached_property
    def opened(self) -> Task:
        """The task, as it is asked."""
        return open_task(self.task, seed_or_default(self.seed), SCORE_SPLIT, self.limit, self.asked)

    def run(self, count: int = 0) -> tuple[View, Scores]:
        """Check everything that needs no model, load it, make sure that it has `count` values, and score."""
        chosen, mode, seed = kinds_or_all(self.kinds), removal_mode(self.mode), seed_or_default(self.seed)
        task = self.opened
        from explorer.attribution import SCORERS, Options
        from explorer.attribution import score as score_values
        from explorer.masks.mask import load_mask
        from explorer.models.matrices import matrices, shape
        from explorer.spectra.cache import default_cache

        if self.scorer not in SCORERS:
            raise SettingsError(f"{self.scorer[:40]!r} is not a scorer: choose one of {', '.join(SCORERS)}.")
        how, at = Options(**self.settings), None if self.mask is None else load_mask(self.mask)
        view = open_for([task], SCORE_SPLIT, self.limit, self.model, self.dtype, self.device, self.basis)
        at = None if at is None else own_mask(view, at)
        keys = matrices(view, chosen, per_head=not self.stacked)
        total = sum(min(shape(view, key)) for key in keys)
        if count > total:
            raise SettingsError(f"{count:,} values cannot be removed: choose 0 to {total:,}.")
        with working("Scoring") as progress:
            scores = score_values(
                view,
                task,
                default_cache(notice),
                keys,
                scorer=self.scorer,
                mode=mode,
                split=SCORE_SPLIT,
                limit=self.limit,
                seed=seed,
                mask=at,
                options=how,
                progress=progress,
            )
        return view, scores

    def carried(self, seed: int) -> list[str]:
        """Options that a later command needs to see the same splits and the same weights."""
        basis = None if self.basis == "raw" else self.basis
        named = (("--seed", str(seed)), ("--basis", basis), ("--dtype", self.dtype), ("--device", self.device))
        return [*self.asked.carried(), *(word for name, value in named if value is not None for word in (name, value))]


def scoring(view: View, scores: Scores, task: Task) -> Scoring:
    """The part of a report that says what was scored, how and on what."""
    return {
        **identity(view),
        "task": scores.task,
        **wording(task),
        "split": scores.split,
        "n": scores.n,
        "seed": scores.seed,
        "scorer": scores.scorer,
        "mode": scores.mode,
        "loss": scores.loss,
    }
