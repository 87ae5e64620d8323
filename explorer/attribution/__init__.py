"""Score every singular value: the predicted change of the task loss, in nats per example, if it alone is removed.

Negative means that removing it helps. `SCORERS` is the table of scorers: one file each, one signature. The frozen mean
c_i = m . u_i comes with every score.
"""

from __future__ import annotations

from collections.abc import Sequence

from explorer.attribution.base import MatrixScores, Request, Scorer, Scores
from explorer.attribution.exact import exact
from explorer.attribution.gradient import gradient
from explorer.attribution.random import random
from explorer.batches import batches
from explorer.edit import apply, empty_mask
from explorer.errors import SettingsError
from explorer.keys import MatrixKey
from explorer.masks import Mode
from explorer.models import View
from explorer.progress import Progress
from explorer.svd_cache import SvdCache
from explorer.tasks import Task

__all__ = ["SCORERS", "MatrixScores", "Request", "Scorer", "Scores", "score"]

SCORERS: dict[str, Scorer] = {"gradient": gradient, "exact": exact, "random": random}


def score(
    view: View,
    task: Task,
    svds: SvdCache,
    keys: Sequence[MatrixKey],
    *,
    scorer: str = "gradient",
    mode: Mode = "freeze",
    split: str = "train",
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Scores:
    """Score all singular values of `keys` with a scorer of the SCORERS table.

    The view must be unpruned; it is left so.

    Raises:
        SettingsError: no such scorer, or no matrices.
        TaskError, MatrixError, ModelError: the examples, a matrix or its weights cannot be used.
    """
    if scorer not in SCORERS:
        raise SettingsError(f"{scorer!r} is not a scorer: choose one of {', '.join(SCORERS)}.")
    if not keys:
        raise SettingsError("no matrices were chosen: name at least one kind, such as Q or K.")
    examples = task.split(split, limit)
    with view.lock:
        apply(view, empty_mask(view.model), svds)
        request = Request(view, svds, tuple(keys), batches(view, task, examples), mode, seed, progress)
        loss, matrices = SCORERS[scorer](request)
    return Scores(scorer, mode, task.name, split, len(examples), seed, loss, matrices)
