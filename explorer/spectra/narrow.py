"""Decompositions of which the narrow side is kept, and the other made of the matrix where it is asked for.

Of `W: [d_in, d_out]` with d_in < d_out, u is `[d_in, d_in]` and vh as large as W itself; but

    v_i = W^T u_i / s_i,        s_i u_i v_i^T = u_i (W^T u_i)^T,        v_i . g = u_i . (W g) / s_i,

so that s, u and the weights, which the model holds anyway, are enough. Where d_out is the narrow side, vh is kept in
the same way. Removing a value costs one product of W with a vector. What is divided by s_i is computed in float64, so
that it carries u_i's rounding to float32 alone, magnified by s_0 / s_i at most: matrices whose smallest value is below
`LIMIT` of the largest are kept whole, and all others agree with LAPACK in float64 within 1e-5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.spectra.routes import right_vectors
from explorer.spectra.svd import Decomposition, Stack, Weight, conditioned, decompose_stack, groups, in_float64
from explorer.spectra.svd import signs as signs_of

LIMIT = 1e-3  # smallest s_r / s_0 of a matrix of which one side is kept
TOGETHER = 1024  # vectors' coordinates that are made in float64 together


@dataclass(frozen=True, eq=False)
class NarrowSide:
    """Singular values of a matrix, and the vectors of its narrow side; with the matrix they are a `Decomposition`.

    Attributes:
        s: singular values, descending.
        side: these vectors as columns.
        left: whether they are u's (d_in is the narrow side).
    """

    s: Float[Tensor, " r"]
    side: Float[Tensor, "r r"]
    left: bool

    @property
    def nbytes(self) -> int:
        """Bytes that are kept for it."""
        return self.s.nbytes + self.side.nbytes

    def of(self, weight: Weight) -> Decomposition:
        """The decomposition, given the matrix that it is of."""
        return _Narrow(self, weight)


@dataclass(frozen=True, eq=False)
class NarrowStack:
    """Narrow sides of n matrices of one shape, on the CPU; u or vh, whichever is kept."""

    s: Float[Tensor, "n r"]
    u: Float[Tensor, "n r r"] | None = None
    vh: Float[Tensor, "n r r"] | None = None

    def __len__(self) -> int:
        return self.s.shape[0]

    def each(self) -> tuple[NarrowSide, ...]:
        """All n of them, sharing the stack's memory."""
        (sides,) = (one for one in (self.u, None if self.vh is None else self.vh.mT) if one is not None)
        pairs = zip(self.s.unbind(), sides.unbind(), strict=True)
        return tuple(NarrowSide(s, side, left=self.u is not None) for s, side in pairs)

    def tensors(self) -> dict[str, Tensor]:
        """What is kept, by name."""
        kept = {"u": self.u, "s": self.s, "vh": self.vh}
        return {name: tensor for name, tensor in kept.items() if tensor is not None}

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return sum(one.nbytes for one in self.tensors().values())


class _Narrow(Decomposition):
    """A narrow side and its matrix. The wide side is made anew each time that it is asked for, and not kept."""

    _kept: NarrowSide
    _weight: Weight

    def __init__(self, kept: NarrowSide, weight: Weight) -> None:
        vars(self).update(s=kept.s, _kept=kept, _weight=weight)

    @property
    def u(self) -> Float[Tensor, "d_in r"]:
        """The left singular vectors."""
        return self._kept.side if self._kept.left else self._across(self._kept.side, self.s)

    @property
    def vh(self) -> Float[Tensor, "r d_out"]:
        """The right singular vectors, transposed."""
        return (self._across(self._kept.side, self.s) if self._kept.left else self._kept.side).T

    @property
    def shape(self) -> tuple[int, int]:
        """See `Decomposition`."""
        d_in, d_out = self._weight().shape
        return d_in, d_out

    @property
    def nbytes(self) -> int:
        """See `Decomposition`."""
        return self.s.nbytes + self._kept.side.nbytes

    def left(self, indices: Sequence[int]) -> Float[Tensor, "d_in n"]:
        """See `Decomposition`."""
        return self._vectors(indices, kept=self._kept.left)

    def right(self, indices: Sequence[int]) -> Float[Tensor, "n d_out"]:
        """See `Decomposition`."""
        return self._vectors(indices, kept=not self._kept.left).T

    def reads(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token r"]:
        """See `Decomposition`."""
        return x @ self._kept.side.to(x) if self._kept.left else self._through(x)

    def writes(self, g: Float[Tensor, " d_out"]) -> Float[Tensor, " r"]:
        """See `Decomposition`."""
        return self._through(g) if self._kept.left else self._kept.side.to(g.dtype).T @ g

    def part(self, indices: Sequence[int]) -> Float[Tensor, "d_in d_out"]:
        """See `Decomposition`."""
        side, W = self._kept.side[:, list(indices)], self._oriented()
        compute = torch.promote_types(W.dtype, side.dtype)
        made = (W.T.to(compute) @ side.to(W.device, compute)).to(side)
        stored = made @ side.T if self._kept.left else side @ made.T  # [d_out, d_in], as most checkpoints have it
        return stored.T

    def _vectors(self, indices: Sequence[int], *, kept: bool) -> Tensor:
        """Some vectors of one side, as columns."""
        chosen = list(indices)
        side = self._kept.side[:, chosen]
        return side if kept else self._across(side, self.s[chosen])

    def _across(self, side: Tensor, s: Tensor) -> Tensor:
        """Vectors of the wide side, from those of the narrow side and their values; on the CPU, as columns."""
        W = self._oriented()
        made = side.new_empty(W.shape[1], side.shape[1])
        exact, scale = side.to(W.device, torch.float64), s.to(W.device)
        for start in range(0, len(made), TOGETHER):
            rows = slice(start, start + TOGETHER)
            made[rows] = (W[:, rows].T.double() @ exact / scale).to(side)
        return made

    def _through(self, x: Tensor) -> Tensor:
        """Components of vectors of the wide side along its singular vectors, in the type of x."""
        W, side = self._oriented(), self._kept.side
        read = x.to(W.device, torch.float64) @ W.T.double()
        return (read @ side.to(read) / self.s.to(read)).to(x)

    def _oriented(self) -> Tensor:
        """W as `[narrow, wide]`, where there is float64."""
        W = self._weight().detach()
        W = W if W.device.type in ("cpu", "cuda") else W.cpu()
        return W if self._kept.left else W.T


Kept = Decomposition | NarrowSide


def decompose_narrow(
    matrices: Sequence[Float[Tensor, "d_in d_out"]],
) -> Iterator[tuple[list[int], NarrowStack | Stack]]:
    """Decompose at least one matrix of one shape and type, and keep narrow sides where that is exact enough.

    Returns:
        Places of matrices and their stack: of narrow sides, and whole ones for the others.

    Raises:
        ValueError: a matrix holds NaN or infinity.
    """
    (d_in, d_out), stored = matrices[0].shape, torch.promote_types(matrices[0].dtype, torch.float32)
    left, places = d_in < d_out, range(len(matrices))
    sides, values, usable = [], [], []
    for part in groups(matrices):
        side, s = _narrow(matrices[part], left=left)
        sides.append(side.to("cpu", stored))
        values.append(s.cpu())
        usable += conditioned(s, LIMIT).tolist()
    side, s = torch.cat(sides), torch.cat(values)
    if fitting := [place for place in places if usable[place]]:
        side = side[fitting] if len(fitting) < len(usable) else side
        kept = {"u": side} if left else {"vh": side.mT.contiguous()}
        yield fitting, NarrowStack(s[fitting], **kept)
    if others := [place for place in places if not usable[place]]:
        yield others, decompose_stack([matrices[place] for place in others])


def _narrow(matrices: Sequence[Tensor], *, left: bool) -> tuple[Float[Tensor, "n r r"], Float[Tensor, "n r"]]:
    """Vectors of the narrow side as columns, with canonical sign, and singular values."""
    tall = in_float64(matrices, wide=left)
    values, side = right_vectors(tall)
    u = side if left else tall @ side / values[:, None]
    return side * signs_of(u.float()).to(side)[:, None], values
