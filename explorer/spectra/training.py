"""One matrix over training: how its spectrum and its leading directions moved from checkpoint to checkpoint.

The last stage is a loaded model; stages before are checkpoints, whose files are read matrix by matrix without loading
them (`explorer.spectra.checkpoint`): of each nothing but singular values and the k leading singular vectors is kept.

- similarity of two stages: mean squared cosine of the principal angles between the spans of their k leading left (or
  right) singular vectors, from 0 to 1 (`explorer.spectra.comparison`); random subspaces of d dimensions give k / d.
- direction i of two stages: (u_i . u'_i) (v_i . v'_i), the cosine between the parts u_i v_i^T of rank one. Inside a
  degenerate block single directions are not identified, and it says nothing.

In the basis `delta` every stage is the difference from the base model: what training had added until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.core.errors import MatrixError, ModelError, SettingsError
from explorer.core.keys import AnyKey, Circuit, CircuitKey, MatrixKey
from explorer.core.progress import Progress
from explorer.models import View, locate
from explorer.models.matrices import parts_of
from explorer.models.stored import StoredMatrices
from explorer.spectra.cache import SvdCache
from explorer.spectra.checkpoint import Checkpoint
from explorer.spectra.circuits import check_any, factored, factors_of
from explorer.spectra.comparison import cosines
from explorer.spectra.model_diff import decomposed
from explorer.spectra.svd import Decomposition, decompose_stack


@dataclass(frozen=True, eq=False)
class Stage:
    """A matrix at one point of training.

    Attributes:
        name: of the checkpoint.
        s: all singular values, descending.
        u, v: the k leading singular vectors, as columns.
    """

    name: str
    s: Float[Tensor, " r"]
    u: Float[Tensor, "d_in k"]
    v: Float[Tensor, "d_out k"]

    @classmethod
    def of(cls, name: str, found: Decomposition, k: int) -> Stage:
        """From a decomposition, of which the rest may go."""
        some = range(min(k, found.rank))
        return cls(name, found.s.clone(), found.left(some).double().clone(), found.right(some).double().T.clone())


@dataclass(frozen=True, eq=False)
class Alignment:
    """How far two stages point in the same directions; see the module docstring.

    Attributes:
        left, right: similarity of the leading inputs (u) and outputs (v).
        directions: of each of the k leading values.
    """

    left: float
    right: float
    directions: Float[Tensor, " k"]

    @classmethod
    def of(cls, first: Stage, second: Stage) -> Alignment:
        """Of two stages of one matrix."""
        left, right = (float(cosines(*pair).square().mean()) for pair in ((first.u, second.u), (first.v, second.v)))
        return cls(left, right, (first.u * second.u).sum(dim=0) * (first.v * second.v).sum(dim=0))


@dataclass(frozen=True, eq=False)
class Course:
    """One matrix from the first checkpoint to the last.

    Attributes:
        key: the matrix, or a head's product.
        shape: `(d_in, d_out)`.
        stages: in the order of training.
    """

    key: AnyKey
    shape: tuple[int, int]
    stages: tuple[Stage, ...]

    @property
    def k(self) -> int:
        """How many leading directions are compared."""
        return self.stages[0].u.shape[1]

    @property
    def chance(self) -> tuple[float, float]:
        """Similarity of random subspaces: of inputs, and of outputs."""
        return self.k / self.shape[0], self.k / self.shape[1]

    @property
    def with_last(self) -> tuple[Alignment, ...]:
        """Each stage beside the last one."""
        return tuple(Alignment.of(one, self.stages[-1]) for one in self.stages)

    @property
    def with_previous(self) -> tuple[Alignment | None, ...]:
        """Each stage beside the one before it; None for the first."""
        pairs = zip(self.stages[1:], self.stages, strict=False)
        return (None, *(Alignment.of(one, before) for one, before in pairs))


def courses(
    view: View,
    checkpoints: Sequence[str],
    keys: Sequence[AnyKey],
    *,
    svds: SvdCache,
    k: int,
    progress: Progress | None = None,
) -> tuple[Course, ...]:
    """Matrices over training, one checkpoint after the other.

    Args:
        view: of the last stage, in the basis `raw` or `delta`.
        checkpoints: earlier stages in their order, named as models are.
        keys: matrices, or heads' products.
        svds: decompositions of the last stage.
        k: leading directions to compare, at least 1; as many as there are if fewer.
        progress: told (done, total) checkpoints.

    Raises:
        SettingsError: no checkpoints, or the folded basis.
        MatrixError: no such matrix, or a checkpoint with another shape of it.
        ModelError: a checkpoint that cannot be read, or of another architecture.
    """
    if not checkpoints:
        raise SettingsError("a course over training needs earlier checkpoints: give one or more.")
    if view.model.basis == "folded":
        raise SettingsError("checkpoints are read as they are stored: take the raw basis, or delta.")
    for key in keys:
        check_any(view, key)
    last = {key: decomposed(view, svds, key) for key in keys}
    stages: dict[AnyKey, list[Stage]] = {key: [] for key in keys}
    base = StoredMatrices(view)
    for done, name in enumerate(checkpoints):
        if progress is not None:
            progress(done, len(checkpoints))
        reader = _Reader(view, Checkpoint(locate(name)), base)
        for key in keys:
            found = reader.decompose(key)
            if found.shape != last[key].shape:
                mine, its = (f"{d_in} x {d_out}" for d_in, d_out in (last[key].shape, found.shape))
                raise MatrixError(
                    f"{key} is {mine} in {view.model.source.name} and {its} in {name}: give checkpoints of one run."
                )
            stages[key].append(Stage.of(name, found, k))
    if progress is not None:
        progress(len(checkpoints), len(checkpoints))
    for key, found in last.items():
        stages[key].append(Stage.of(view.model.source.name, found, k))
    return tuple(Course(key, last[key].shape, tuple(stages[key])) for key in keys)


@dataclass(frozen=True, eq=False)
class _Reader:
    """One checkpoint, read as the last stage's basis has it."""

    view: View
    checkpoint: Checkpoint
    base: StoredMatrices

    def __post_init__(self) -> None:
        mine, its = self.view.model.architecture, self.checkpoint.class_name
        if mine != its:
            raise ModelError(
                f"{self.checkpoint.source.name} is a {its}, {self.view.model.source.name} a {mine}: give checkpoints "
                "of one run."
            )

    def decompose(self, key: AnyKey) -> Decomposition:
        if isinstance(key, CircuitKey):
            first, second = factors_of(self.view, key)
            A, B = self._weight(first), self._weight(second)
            return factored(A, B.T if key.circuit is Circuit.QK else B)
        W = self._weight(key)
        if self.view.model.against is None:
            return decompose_stack([W.to(self.base.dtype)])[0]
        subtracted = self.base.base(key.stacked)[0][parts_of(self.view, key)].double()
        if subtracted.shape != W.shape:
            d_in, d_out = W.shape
            raise MatrixError(
                f"{key} is {d_in} x {d_out} in {self.checkpoint.source.name}: give checkpoints of one run."
            )
        noise = self.view.model.rounding * float(torch.linalg.vector_norm(W))
        return decompose_stack([(W - subtracted).to(self.base.dtype)], [noise])[0]

    def _weight(self, key: MatrixKey) -> Float[Tensor, "d_in d_out"]:
        there = self.checkpoint.matrices((key.kind,), (key.layer,), per_head=key.head is not None)
        if key not in there:
            raise MatrixError(f"{self.checkpoint.source.name} has no {key}: give checkpoints of one run.")
        return self.checkpoint.weight(key)
