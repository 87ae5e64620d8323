"""What a scorer is asked and what it answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import TypedDict

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from explorer.core import finite
from explorer.core.errors import NotFiniteError, SettingsError
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress, track
from explorer.masks.mask import Mask, Mode, Removed
from explorer.measure.batches import Batch
from explorer.models import View
from explorer.models.matrices import parts_of
from explorer.spectra.cache import SvdCache
from explorer.spectra.svd import Decomposition

NATS = "nats per example"
PATHS = ("all", "matrix")


class ScoreOptions(TypedDict, total=False):
    """How singular values are scored.

    Attributes:
        scorer: name in the table SCORERS; `gradient` if not given.
        mode: how a value is removed; `freeze` if not given.
        split: examples to score on; `train` if not given.
        limit: the first so many of them only.
        seed: of random scores, resamples and draws.
        mask: score what flipping each value does from here, with the frozen means of the masked model for kept values
            and the mask's own for removed ones; it may remove values of other matrices, too.
        options: settings of single scorers.
    """

    scorer: str
    mode: Mode
    split: str
    limit: int | None
    seed: int
    mask: Mask | None
    options: Options | None


@dataclass(frozen=True, eq=False)
class MatrixScores:
    """Scores of one matrix.

    Attributes:
        s: singular values [r].
        score: in the scorer's unit [r], negative = removing helps (at a mask: flipping the value helps).
        c: frozen mean m . u_i [r]; for a value that the mask removes, the mask's own.
        stderr: bootstrap standard error of the score over examples [r], None if it was not asked for.
        uncertain: values the sign of whose score is in doubt (`explorer.attribution.doubt`) [r]; None
            for scores that estimate no effect, or measure it.
    """

    s: Float[Tensor, " r"]
    score: Float[Tensor, " r"]
    c: Float[Tensor, " r"]
    stderr: Float[Tensor, " r"] | None = None
    uncertain: Bool[Tensor, " r"] | None = None

    @property
    def present(self) -> Bool[Tensor, " r"]:
        """Which values are not exactly 0, as null ones of the basis `delta` are: only these can be chosen."""
        return self.s != 0

    @property
    def present_indices(self) -> list[int]:
        """Indices of the values that are not exactly 0."""
        found: list[int] = self.present.nonzero().flatten().tolist()
        return found

    @property
    def uncertain_indices(self) -> frozenset[int]:
        """Indices of the values marked as uncertain."""
        return frozenset() if self.uncertain is None else frozenset(self.uncertain.nonzero().flatten().tolist())


@dataclass(frozen=True)
class Scores:
    """Scores of several matrices from one scorer on one set of examples.

    Attributes:
        loss: mean loss of the view, as it was scored, on these examples, nats per example.
        n: number of examples.
        unit: what a score is measured in.
        mask: the mask at which the scores were taken, None for the unpruned model.
        forwards: what they cost, see `Meter`.
    """

    scorer: str
    mode: Mode
    task: str
    split: str
    n: int
    seed: int
    loss: float
    matrices: Mapping[MatrixKey, MatrixScores]
    unit: str = NATS
    mask: Mask | None = None
    forwards: float = 0.0

    @cached_property
    def size(self) -> int:
        """Number of scored values that are not exactly 0."""
        return sum(int(matrix.present.sum()) for matrix in self.matrices.values())

    @cached_property
    def usable(self) -> dict[MatrixKey, list[int]]:
        """Per matrix the values that can be chosen: not 0, with finite score, singular value and frozen mean."""
        return {
            key: (one.present & one.score.isfinite() & one.s.isfinite() & one.c.isfinite()).nonzero().flatten().tolist()
            for key, one in self.matrices.items()
        }

    @property
    def unusable(self) -> list[tuple[float, MatrixKey, int]]:
        """The values that are not finite and so cannot be chosen, in canonical order."""
        return [
            (score, key, index)
            for key, matrix in sorted(self.matrices.items())
            for unusable in (set(matrix.present_indices) - set(self.usable[key]),)
            for index, score in enumerate(matrix.score.tolist())
            if index in unusable
        ]

    def ranking(self) -> list[tuple[float, MatrixKey, int]]:
        """All values that can be chosen (`usable`) as (score, matrix, index), the most harmful first.

        Ties go in canonical order.
        """
        entries = [
            (scores[index], key, index)
            for key, matrix in self.matrices.items()
            for scores in (matrix.score.tolist(),)
            for index in self.usable[key]
        ]
        return sorted(entries, key=lambda entry: (entry[0], entry[1], entry[2]))

    def removed(self, key: MatrixKey, index: int) -> Removed:
        """The mask entry that removes one scored value; raises NotFiniteError if its numbers are not finite."""
        matrix = self.matrices[key]
        sigma, c = float(matrix.s[index]), float(matrix.c[index])
        if not (math.isfinite(sigma) and math.isfinite(c)):
            raise NotFiniteError(
                f"value {index} of {key} has the singular value {sigma} and the frozen mean {c}: a mask holds finite "
                "numbers only; choose other values, or load the model in float32."
            )
        return Removed(matrix=str(key), index=index, sigma=sigma, c=c)

    def predicted(self, mask: Mask) -> float | None:
        """Sum of the scores of the values that a mask flips: the linear prediction of its change of the loss.

        A value is flipped if the mask and the one at which the scores were taken differ in it. One that goes only a
        part of the way that its score is for, since the two masks differ in their gain, counts in that proportion: from
        scores of the unpruned model a mask of gain g is predicted to do 1 - g times what removal does. Effects of
        several removals do not add up: show the sum beside the measured change. It is None if a flipped value was not
        scored or its score is not finite, or if the scores are not in nats per example and so predict nothing.
        """
        before, at = (set(), 0.0) if self.mask is None else (_places(self.mask), self.mask.gain)
        after = _places(mask)
        ways = dict.fromkeys(before - after, 1.0) | dict.fromkeys(after - before, (1.0 - mask.gain) / (1.0 - at))
        if mask.gain != at:
            ways |= dict.fromkeys(after & before, (mask.gain - at) / (1.0 - at))
        if self.unit != NATS or any(key not in self.matrices for key, _ in ways):
            return None
        shares = [way * float(self.matrices[key].score[index]) for (key, index), way in ways.items()]
        return math.fsum(shares) if finite.all_finite(shares) else None


def _places(mask: Mask) -> set[tuple[MatrixKey, int]]:
    return {(key, one.index) for key, removed in mask.by_matrix.items() for one in removed}


@dataclass(frozen=True)
class Options:
    """Settings of single scorers; each scorer reads its own and ignores the rest.

    Attributes:
        bootstrap: resamples of the examples for standard errors, 0 for none (gradient, integrated, curvature).
        steps: points on the removal path (integrated).
        path: what is scaled down together: `all` scored values, or each stacked `matrix` by itself (integrated).
        draws: answers drawn per example (curvature).
        batch_size: examples in a mini-batch, whose neighbours are each other's counterfactual (as-released).
        answer_token: which token of the answer the loss looks at, from 0 (as-released).
        padded_to: fill prompts on the left to so many tokens, 0 for not at all, and count `answer_token` in what the
            tokenizer makes of an answer alone, with its BOS if it adds one (as-released).

    Raises:
        SettingsError: a number that is out of range.
    """

    bootstrap: int = 0
    steps: int = 8
    path: str = "all"
    draws: int = 1
    batch_size: int = 16
    answer_token: int = 0
    padded_to: int = 0

    def __post_init__(self) -> None:
        for name, least in (("bootstrap", 0), ("steps", 1), ("draws", 1), ("batch_size", 1), ("answer_token", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} is {getattr(self, name)}: give {least} or more.")
        if self.bootstrap == 1:
            raise SettingsError("one resample has no spread: give a bootstrap of 0 (none) or of 2 or more.")
        if self.path not in PATHS:
            raise SettingsError(f"{self.path!r} is not a path: choose {' or '.join(PATHS)}.")


@dataclass(eq=False)
class Meter:
    """What a scorer has cost so far.

    Attributes:
        forwards: forward passes of one example. A backward pass counts as two, a run from layer l on as its share of
            the layers, and an exact effect that was kept from an earlier run as if it had been measured now.
    """

    forwards: float = 0.0


@dataclass(frozen=True, eq=False)
class ScoringRequest:
    """What a scorer is asked: which matrices of which view, on which examples, for which removal mode.

    Attributes:
        mask: what the view has removed while it is scored, None for nothing; its mode is `mode`, and its gain is what
            scoring scales a kept value to.
        meter: told what the scorer costs.
    """

    view: View
    svds: SvdCache
    keys: tuple[MatrixKey, ...]
    batches: tuple[Batch, ...]
    mode: Mode
    seed: int
    progress: Progress | None
    mask: Mask | None = None
    options: Options = Options()
    meter: Meter = field(default_factory=Meter)

    @property
    def n(self) -> int:
        """Number of examples."""
        return sum(len(batch) for batch in self.batches)

    @property
    def sites(self) -> tuple[MatrixKey, ...]:
        """The stacked matrices that the asked ones are stored in."""
        return tuple(dict.fromkeys(key.stacked for key in self.keys))

    def decompositions(self, progress: Progress | None = None) -> Iterator[tuple[MatrixKey, Decomposition]]:
        """The asked matrices with their decompositions: a layer's are fetched together, and held for that long."""
        by_layer = [list(keys) for _, keys in groupby(self.keys, key=lambda key: key.layer)]
        for keys in track(by_layer, progress):
            yield from self.svds.get_many(self.view, keys).items()

    def removed(self, key: MatrixKey) -> dict[int, Removed]:
        """Values of a matrix that the mask removes, by index."""
        return {} if self.mask is None else {one.index: one for one in self.mask.by_matrix.get(key, ())}

    @property
    def taken(self) -> float:
        """Share of a value that removing it takes away, and restoring it gives back: 1 - gain."""
        return 1.0 if self.mask is None else 1.0 - self.mask.gain

    def steps(self, key: MatrixKey) -> Float[Tensor, " r"]:
        """Share of each value that flipping it adds: -1 for a kept one, +1 for a removed one, each times `taken`."""
        steps = torch.full((self.svds.get(self.view, key).rank,), -self.taken, dtype=torch.float64)
        steps[list(self.removed(key))] = self.taken
        return steps

    def frozen(self, key: MatrixKey, means: Float[Tensor, "*sample r"]) -> Float[Tensor, "*sample r"]:
        """Frozen means of a matrix: m . u_i as measured for kept values, the mask's own c_i for removed ones."""
        removed = self.removed(key)
        if not removed:
            return means
        frozen = means.clone()
        frozen[..., list(removed)] = torch.tensor([one.c for one in removed.values()], dtype=means.dtype)
        return frozen


def frozen_means(
    view: View, key: MatrixKey, svd: Decomposition, *, inputs: Mapping[MatrixKey, Tensor], mask: Mask
) -> Float[Tensor, " r"]:
    """M . u_i of a matrix for kept values, the mask's own c_i for removed ones.

    Args:
        view: of the model.
        key: the matrix.
        svd: its decomposition.
        inputs: mean input m of each stacked matrix.
        mask: what is removed.
    """
    mean = inputs[key.stacked][parts_of(view, key)[0]]
    c = svd.reads(mean)
    for one in mask.by_matrix.get(key, ()):
        c[one.index] = one.c
    return c


Scorer = Callable[[ScoringRequest], tuple[float, dict[MatrixKey, MatrixScores]]]


@dataclass(frozen=True)
class ScorerSpec:
    """One entry of the table of scorers.

    Attributes:
        run: the scorer.
        summary: what its score is, in one sentence.
        cost: what it costs, in words; a pass is one over all examples.
        unit: what its score is measured in; only `NATS` predicts a change of the loss.
        at_mask: whether it can score at a mask.
        bootstraps: whether it knows standard errors.
        linear: whether it is a local estimate, of which some values are marked as uncertain.
    """

    run: Scorer
    summary: str
    cost: str
    unit: str = NATS
    at_mask: bool = False
    bootstraps: bool = False
    linear: bool = False

    @property
    def in_nats(self) -> bool:
        """Whether a score predicts a change of the loss, so that it may be compared with exact effects and summed."""
        return self.unit == NATS
