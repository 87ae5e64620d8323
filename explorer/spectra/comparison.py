"""One matrix in two models, such as a base model and its fine-tune: what changed in its singular values and vectors.

`W: [d_in, d_out]` is the base's, `W'` the other's, `D = W' - W`; primes mark what belongs to `W'`.

- relative change: (s'_i - s_i) / s_i of each singular value; NaN where s_i is null.
- size of the difference: Frobenius norm of D over that of W.
- rank of the difference: energy quantiles, stable and effective rank of D (`explorer.spectra.measures`).
- overlap: cosines of the principal angles between the spans of the k leading left (or right) singular vectors, which
  are the singular values of U_k^T U'_k (Bjorck and Golub 1973).
- similarity: their mean square |U_k^T U'_k|_F^2 / k, from 0 (orthogonal) to 1 (one subspace), as in section 7.2 of
  Hu et al. 2021 (LoRA).
- chance: the same for two uniformly random subspaces of k in d dimensions. Its similarity is k / d; its cosines are
  means over seeded draws.

No singular value moves by more than the largest one of D (Weyl), so small relative changes can hide large rotations:
that is what the overlap is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from explorer.core.errors import MatrixError
from explorer.spectra.measures import SpectrumSummary, blocks, null_from, summarise
from explorer.spectra.svd import Decomposition

DRAWS = 32  # random subspaces behind the cosines that chance gives
_SEED = 0


@dataclass(frozen=True, eq=False)
class Side:
    """The k leading singular vectors of one side, of both matrices.

    Attributes:
        dimension: d of the space that the vectors live in.
        cosines: of the principal angles, descending, from 0 to 1.
        chance: what random subspaces give on average, angle by angle.
    """

    dimension: int
    cosines: Float[Tensor, " k"]
    chance: Float[Tensor, " k"]

    @property
    def similarity(self) -> float:
        """Mean squared cosine."""
        return float(self.cosines.square().mean())

    @property
    def chance_similarity(self) -> float:
        """The mean squared cosine of random subspaces, k / d."""
        return len(self.cosines) / self.dimension


@dataclass(frozen=True, eq=False)
class SubspaceOverlap:
    """How far the k leading singular vectors span the same subspaces in both models.

    Attributes:
        left, right: of the inputs (u) and of the outputs (v).
        cuts_block: k ends inside a degenerate block of one of the two, whose leading subspace is then arbitrary.
    """

    k: int
    left: Side
    right: Side
    cuts_block: bool


@dataclass(frozen=True, eq=False)
class SpectrumDiff:
    """A matrix of a base model beside the same one of another model, of one shape.

    Attributes:
        base, other: both decompositions.
        difference: singular values of `other - base`, descending, in the units of the weights.
    """

    base: Decomposition
    other: Decomposition
    difference: Float[Tensor, " values"]

    def __post_init__(self) -> None:
        both = (self.base, self.other)
        if self.base.shape != self.other.shape:
            raise MatrixError(shapes_differ("the matrix", *(one.shape for one in both)))

    @property
    def shape(self) -> tuple[int, int]:
        """`(d_in, d_out)`."""
        return self.base.shape

    @property
    def relative_change(self) -> Float[Tensor, " r"]:
        """`(s'_i - s_i) / s_i`: positive where the other model's value is larger; NaN where the base's is null."""
        s, moved = self.base.s, self.other.s - self.base.s
        defined = torch.arange(len(s)) < null_from(s, *self.shape)
        return torch.where(defined, moved / s, torch.nan)

    @property
    def size(self) -> float:
        """Frobenius norm of the difference over that of the base; infinite if only the base is zero."""
        base, moved = (float(torch.linalg.vector_norm(s.double())) for s in (self.base.s, self.difference))
        return moved / base if base > 0 else float("inf") if moved > 0 else 0.0

    @property
    def rank(self) -> SpectrumSummary:
        """What describes the difference's own spectrum: its energy counts say how low its rank is."""
        return summarise(self.difference, *self.shape)

    def overlap(self, k: int) -> SubspaceOverlap:
        """Compare the spans of the k leading singular vectors.

        Raises:
            MatrixError: k is not from 1 to the number of singular values.
        """
        r = self.base.rank
        if not 1 <= k <= r:
            raise MatrixError(f"the {k} leading singular vectors were asked for: the matrix has 1 to {r}.")
        a, b = self.base, self.other
        return SubspaceOverlap(
            k,
            left=_side(a.u[:, :k], b.u[:, :k]),
            right=_side(a.vh[:k].T, b.vh[:k].T),
            cuts_block=any(block[0] < k <= block[-1] for one in (a, b) for block in blocks(one.s)),
        )


def shapes_differ(what: str, base: tuple[int, int], other: tuple[int, int]) -> str:
    """The sentence for matrices that have no difference."""
    first, second = (f"{d_in} x {d_out}" for d_in, d_out in (base, other))
    return f"{what} is {first} in the base model, {second} in the other: only matrices of one shape have a difference."


def cosines(a: Float[Tensor, "d k"], b: Float[Tensor, "d k"]) -> Float[Tensor, " k"]:
    """Cosines of the principal angles between the spans of orthonormal columns, descending."""
    found: Tensor = torch.linalg.svdvals(a.double().T @ b.double())
    return found.clamp(max=1.0)


@lru_cache(maxsize=256)
def random_cosines(d: int, k: int, draws: int = DRAWS) -> NDArray[np.float64]:
    """Mean of each cosine between two uniformly random k-dimensional subspaces of d dimensions, descending.

    Where 2 k > d the two meet in 2 k - d dimensions, and the other angles are those of their complements.
    """
    if 2 * k > d:
        return np.concatenate([np.ones(2 * k - d), random_cosines(d, d - k, draws)]) if k < d else np.ones(k)
    # One of the two may be the span of the first k axes: only the angle between them is random.
    generator = np.random.default_rng((_SEED, d, k))
    frames = (np.linalg.qr(generator.standard_normal((d, k)))[0] for _ in range(draws))
    found: NDArray[np.float64] = np.mean([np.linalg.svd(one[:k], compute_uv=False) for one in frames], axis=0)
    return found


def _side(a: Float[Tensor, "d k"], b: Float[Tensor, "d k"]) -> Side:
    d, k = a.shape
    return Side(d, cosines(a, b), torch.from_numpy(random_cosines(d, k).copy()))
