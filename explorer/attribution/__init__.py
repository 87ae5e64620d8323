"""Score every singular value: the predicted change of the task loss, in nats per example, if it alone is removed.

Negative means that removing it helps. `SCORERS` is the table of scorers: one file each, one signature. The frozen mean
c_i = m . u_i comes with every score. A score in another unit than nats per example orders values and predicts nothing.

At a mask, a score says what flipping the value would do now: removing it if it is kept, restoring it if it is removed.
Where the mask has a gain, flipping goes from 1 to the gain, or from the gain to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

from explorer.attribution.base import (
    NATS,
    MatrixScores,
    Options,
    ScoreOptions,
    Scorer,
    ScorerSpec,
    Scores,
    ScoringRequest,
)
from explorer.attribution.curvature import curvature
from explorer.attribution.doubt import marked
from explorer.attribution.energy import energy
from explorer.attribution.exact import exact
from explorer.attribution.gradient import gradient
from explorer.attribution.hybrid import hybrid
from explorer.attribution.integrated import integrated
from explorer.attribution.magnitude import magnitude
from explorer.attribution.random import random
from explorer.attribution.released import as_released
from explorer.core.errors import MaskError, SettingsError
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress, part
from explorer.masks.apply import apply, empty_mask
from explorer.masks.fitting import fitted
from explorer.masks.mask import Mask, Mode
from explorer.measure.batches import batches
from explorer.measure.overflow import check_batches
from explorer.models import View
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task

__all__ = [
    "NATS",
    "SCORERS",
    "MatrixScores",
    "Options",
    "ScoreOptions",
    "Scorer",
    "ScorerSpec",
    "Scores",
    "ScoringRequest",
    "score",
]

SCORERS: dict[str, ScorerSpec] = {
    "gradient": ScorerSpec(
        gradient,
        "First-order change of the loss, from the gradient.",
        "one forward and backward pass; about 1.2 with standard errors",
        at_mask=True,
        bootstraps=True,
        linear=True,
    ),
    "integrated": ScorerSpec(
        integrated,
        "The value's share in the effect of removing all scored values together: gradients averaged along that path.",
        "one forward pass, then `steps` forward and backward passes (with path `matrix`: for every stacked matrix)",
        at_mask=True,
        bootstraps=True,
    ),
    "curvature": ScorerSpec(
        curvature,
        "First-order change plus half the Gauss-Newton diagonal: sharper only where the model is mostly right.",
        "about 1.3 + 0.7 `draws` forward and backward passes",
        at_mask=True,
        bootstraps=True,
        linear=True,
    ),
    "hybrid": ScorerSpec(
        hybrid,
        "First-order change, corrected by exact effects where it is most likely to be wrong.",
        "at most as much as 10 forward and backward passes",
        at_mask=True,
    ),
    "exact": ScorerSpec(exact, "Measured change of the loss.", "one forward pass per value", at_mask=True),
    "as-released": ScorerSpec(
        as_released,
        "Largest effect on any token of swapping in the previous example, as in the paper's released code.",
        "about two forward and backward passes",
        unit="nats on one token of a mini-batch",
    ),
    "magnitude": ScorerSpec(
        magnitude, "The singular value itself: small ones first.", "one forward pass", unit="singular value"
    ),
    "energy": ScorerSpec(
        energy,
        "Mean squared output that the value writes on the task's inputs.",
        "two forward passes",
        unit="squared output per token",
    ),
    "random": ScorerSpec(
        random, "Standard normal numbers by seed: the control.", "one forward pass", unit="standard normal"
    ),
}


def score(
    view: View,
    task: Task,
    svds: SvdCache,
    keys: Sequence[MatrixKey],
    *,
    progress: Progress | None = None,
    **how: Unpack[ScoreOptions],
) -> Scores:
    """Score all singular values of `keys` with a scorer of the SCORERS table.

    Args:
        view: any state; left unpruned, or with `mask` on it, also when `progress` raises `Stopped`.
        task: what the loss is of.
        svds: decompositions.
        keys: matrices; attention either per head or stacked, or both where no path joins them.
        progress: told (done, total).
        how: see `ScoreOptions`.

    Raises:
        SettingsError: no such scorer, no matrices, a mode other than the mask's, or more than the scorer can do.
        MaskError: a mask that does not fit the model, or that holds per head what is scored stacked (or vice versa).
        NotFiniteError: an example whose loss is not finite; says which, and where in the model that begins.
        TaskError, MatrixError, ModelError: the examples, a matrix or its weights cannot be used.
    """
    scorer, mode, split = how.get("scorer", "gradient"), how.get("mode", "freeze"), how.get("split", "train")
    seed, mask, options = how.get("seed", 0), how.get("mask"), how.get("options") or Options()
    _check(scorer, keys, mode, mask=mask, options=options)
    examples = task.split(split, how.get("limit"))
    spec = SCORERS[scorer]
    with view.lock:
        apply(view, mask or empty_mask(view.model), svds)
        svds = fitted(view, mask, svds)
        given = batches(view, task, examples)
        if missing := svds.missing(view, keys):  # together they take a few files, one by one as many as matrices
            svds.get_many(view, missing, part(progress, 0.0, 0.5))
            progress = part(progress, 0.5, 1.0)
        request = ScoringRequest(
            view, svds, tuple(keys), batches=given, mode=mode, seed=seed, progress=progress, mask=mask, options=options
        )
        loss, matrices = spec.run(request)
        if not math.isfinite(loss):
            check_batches(view, task, examples, given=given, what=split)
        if spec.linear:
            matrices = marked(request, matrices)
    cost = request.meter.forwards
    return Scores(
        scorer,
        mode,
        task.name,
        split=split,
        n=len(examples),
        seed=seed,
        loss=loss,
        matrices=matrices,
        unit=spec.unit,
        mask=mask,
        forwards=cost,
    )


def _check(scorer: str, keys: Sequence[MatrixKey], mode: Mode, mask: Mask | None, options: Options) -> None:
    if scorer not in SCORERS:
        raise SettingsError(f"{scorer!r} is not a scorer: choose one of {', '.join(SCORERS)}.")
    if not keys:
        raise SettingsError("no matrices were chosen: name at least one kind, such as Q or K.")
    if options.bootstrap and not SCORERS[scorer].bootstraps:
        able = ", ".join(name for name, spec in SCORERS.items() if spec.bootstraps)
        raise SettingsError(f"{scorer} has no bootstrap standard errors: choose one of {able}, or a bootstrap of 0.")
    if mask is None:
        return
    if not SCORERS[scorer].at_mask:
        able = ", ".join(name for name, spec in SCORERS.items() if spec.at_mask)
        raise SettingsError(f"{scorer} cannot score at a mask: choose one of {able}, or no mask.")
    if mask.mode != mode:
        raise SettingsError(f"the mask removes by {mask.mode}, but scores were asked for {mode}: use one mode.")
    for other in mask.by_matrix:
        for key in keys:
            if key.stacked == other.stacked and key != other and None in (key.head, other.head):
                raise MaskError(f"{key} overlaps {other} of the mask: score matrices as the mask holds them.")
