"""Score every singular value: the predicted change of the task loss, in nats per example, if it alone is removed.

Negative means that removing it helps. For a matrix `W = sum_i s_i u_i v_i^T` with input x_n, mean input m over real
tokens, and gradient g_n of the summed loss with respect to its output (paper, section 3, with the corrections of the
README's method section):

    freeze:  score_i = -(s_i / E) sum_n ((x_n - m) . u_i) (v_i . g_n)
    zero:    score_i = -(s_i / E) sum_n ( x_n      . u_i) (v_i . g_n)

1. One forward and backward per batch accumulates X^T G (the ordinary weight gradient) and 1^T G (the bias gradient)
   of all chosen matrices; hooks sum their inputs, which gives m.
2. At the end one contraction per matrix: score_i = -(s_i / E) u_i^T (X^T G - m 1^T G) v_i, without m for zero removal.

The frozen mean c_i = m . u_i comes with every score. `exact` measures the same change with one forward pass over the
examples per value: the slow reference. `random` is the control.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.batches import Batch, batches
from explorer.edit import apply, empty_mask
from explorer.errors import SettingsError
from explorer.keys import MatrixKey
from explorer.masks import Mask, Mode, Removed
from explorer.metrics import run
from explorer.models import View
from explorer.progress import Progress, part, track
from explorer.registry import differentiable, input_hook, parts_of
from explorer.svd_cache import SvdCache
from explorer.tasks import Task


@dataclass(frozen=True, eq=False)
class MatrixScores:
    """Scores of one matrix.

    Attributes:
        s: singular values [r].
        score: nats per example [r], negative = removing helps.
        c: frozen mean m . u_i [r].
    """

    s: Float[Tensor, " r"]
    score: Float[Tensor, " r"]
    c: Float[Tensor, " r"]


@dataclass(frozen=True)
class Scores:
    """Scores of several matrices from one scorer on one set of examples.

    Attributes:
        loss: mean loss of the view on these examples, nats per example.
        n: number of examples.
    """

    scorer: str
    mode: Mode
    task: str
    split: str
    n: int
    seed: int
    loss: float
    matrices: Mapping[MatrixKey, MatrixScores]

    @property
    def size(self) -> int:
        """Number of scored values."""
        return sum(len(matrix.s) for matrix in self.matrices.values())

    def ranking(self) -> list[tuple[float, MatrixKey, int]]:
        """All values as (score, matrix, index), the most harmful first; ties in canonical order."""
        entries = [
            (score, key, index)
            for key, matrix in self.matrices.items()
            for index, score in enumerate(matrix.score.tolist())
        ]
        return sorted(entries, key=lambda entry: (entry[0], entry[1], entry[2]))

    def removed(self, key: MatrixKey, index: int) -> Removed:
        """The mask entry that removes one scored value."""
        matrix = self.matrices[key]
        return Removed(matrix=str(key), index=index, sigma=float(matrix.s[index]), c=float(matrix.c[index]))

    def predicted(self, mask: Mask) -> float | None:
        """Sum of the scores of a mask's values: the linear prediction; None if one of them was not scored.

        Effects of several removals do not add up: show it beside the measured change.
        """
        if any(key not in self.matrices for key in mask.by_matrix):
            return None
        return math.fsum(float(self.matrices[one.key].score[one.index]) for one in mask.removed)


@dataclass(frozen=True, eq=False)
class Request:
    """What a scorer is asked: which matrices of which view, on which examples, for which removal mode."""

    view: View
    svds: SvdCache
    keys: tuple[MatrixKey, ...]
    batches: tuple[Batch, ...]
    mode: Mode
    seed: int
    progress: Progress | None

    @property
    def n(self) -> int:
        """Number of examples."""
        return sum(len(batch) for batch in self.batches)


Scorer = Callable[[Request], tuple[float, dict[MatrixKey, MatrixScores]]]


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


def gradient(request: Request) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """First-order score from one forward and backward pass per batch; see the module docstring."""
    sites = tuple(dict.fromkeys(key.stacked for key in request.keys))
    with differentiable(request.view, sites) as leaves:
        loss, means = _pass(request, sites, backward=True, progress=part(request.progress, 0.0, 0.7))
        gradients = {site: (leaf.weight_gradient, leaf.bias_gradient) for site, leaf in leaves.items()}
    scored = {}
    for key in track(request.keys, part(request.progress, 0.7, 1.0)):
        rows, columns = parts_of(request.view, key)
        weight_gradient, bias_gradient = (tensor.cpu() for tensor in gradients[key.stacked])
        mean = means[key.stacked][rows]
        decomposition = request.svds.get(request.view, key)
        u, s, vh = (tensor.to(mean.dtype) for tensor in (decomposition.u, decomposition.s, decomposition.vh))
        M = weight_gradient[rows, columns].to(mean.dtype)
        if request.mode == "freeze":
            M = M - torch.outer(mean, bias_gradient[columns].to(mean.dtype))
        slope = ((u.T @ M) * vh).sum(dim=1)
        scored[key] = MatrixScores(decomposition.s, -(s / request.n) * slope, mean @ u)
    return loss, scored


def exact(request: Request) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """Measured change of the loss for every value alone: one forward pass over the examples per value."""
    loss, unscored = _unscored(request)
    empty = empty_mask(request.view.model, request.mode)
    effects = {key: torch.zeros_like(matrix.score) for key, matrix in unscored.items()}
    places = [(key, index) for key, matrix in unscored.items() for index in range(len(matrix.s))]
    try:
        for key, index in track(places, part(request.progress, 0.05, 1.0)):
            matrix = unscored[key]
            value = Removed(matrix=str(key), index=index, sigma=float(matrix.s[index]), c=float(matrix.c[index]))
            apply(request.view, empty.with_removed([value]), request.svds)
            effects[key][index] = _loss(request) - loss
    finally:
        apply(request.view, empty, request.svds)
    return loss, {key: MatrixScores(matrix.s, effects[key], matrix.c) for key, matrix in unscored.items()}


def random(request: Request) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """The control: standard normal scores by seed. They predict nothing; only their order means anything."""
    loss, unscored = _unscored(request)
    generator = torch.Generator().manual_seed(request.seed)
    return loss, {
        key: MatrixScores(matrix.s, torch.randn(len(matrix.s), generator=generator, dtype=matrix.score.dtype), matrix.c)
        for key, matrix in unscored.items()
    }


SCORERS: dict[str, Scorer] = {"gradient": gradient, "exact": exact, "random": random}


def _unscored(request: Request) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """Singular values and frozen means of all matrices, with scores of zero, and the mean loss."""
    sites = tuple(dict.fromkeys(key.stacked for key in request.keys))
    loss, means = _pass(request, sites, backward=False, progress=part(request.progress, 0.0, 0.05))
    found = {}
    for key in request.keys:
        decomposition = request.svds.get(request.view, key)
        mean = means[key.stacked][parts_of(request.view, key)[0]]
        c = mean @ decomposition.u.to(mean.dtype)
        found[key] = MatrixScores(decomposition.s, torch.zeros_like(c), c)
    return loss, found


def _pass(
    request: Request, sites: Sequence[MatrixKey], *, backward: bool, progress: Progress | None
) -> tuple[float, dict[MatrixKey, Tensor]]:
    """Mean loss, and the mean input of every site over all real tokens (float32 or wider, on the CPU)."""
    sums: dict[MatrixKey, Tensor] = {}
    total, tokens = 0.0, 0
    real: Tensor

    def add(x: Tensor, hook: Any, site: MatrixKey) -> None:
        rows = x.detach().flatten(2)[real]
        added = rows.sum(dim=0, dtype=torch.promote_types(x.dtype, torch.float32))
        sums[site] = sums[site] + added if site in sums else added

    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad() if backward else torch.no_grad())
        stack.enter_context(
            request.view.bridge.hooks(fwd_hooks=[(input_hook(site), partial(add, site=site)) for site in sites])
        )
        for batch in track(request.batches, progress):
            real = batch.real
            tokens += int(real.sum())
            loss = run(request.view, batch).loss.sum()
            if backward:
                loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
    return total / request.n, {site: (added / tokens).cpu() for site, added in sums.items()}


def _loss(request: Request) -> float:
    with torch.no_grad():
        return sum(float(run(request.view, batch).loss.sum()) for batch in request.batches) / request.n
