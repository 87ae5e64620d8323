"""Singular value decomposition of one matrix.

`W = U diag(s) Vh` with `W: [d_in, d_out]`, `U: [d_in, r]`, `s: [r]` descending, `Vh: [r, d_out]`,
r = min(d_in, d_out), and canonical sign: the entry of largest modulus of each u_i is positive.

1. Form the Gram matrix of the narrow side in float64 and take its eigenvectors: the cost is cubic in the narrow
   side only. A singular value then carries a relative error of about eps * (s_0 / s_i)^2. Small matrices of one shape
   go through together, so that the heads of a model cost arithmetic and not calls.
2. Where s_i is too small for that to stay below 1e-8, that matrix is decomposed again with LAPACK in float64.
3. Store u and vh in float32 (or the weight's own type if wider), s in float64, and fix the signs by u in float32, so
   that equal weights have equal signs in any type.

Of a difference of weights (`explorer.models.delta`) values below a floor are null, and exactly 0, with vectors of
zeros: the floor is max(d_in, d_out) eps s_0, or what rounding of the weights can make if that is more. Step 2 looks at
the values above it, so that of a large matrix of low rank nothing is decomposed twice.

On CUDA the weights stay on their device until step 3; the result is on the CPU. Which of its solvers decomposes there
is the business of `explorer.spectra.routes`.

Of a large model's matrices one side is kept and the other is made of it again: `explorer.spectra.narrow`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from explorer.spectra.routes import exact, right_vectors

EPS = torch.finfo(torch.float32).eps
_GRAM_LIMIT = 1e-4  # smallest s_i / s_0 for which the Gram route keeps a relative error of 1e-8
_TINY = 1e-140  # largest values below this have a Gram matrix that loses digits to underflow, or is zero
_WORKING_BYTES = 2 << 20  # float64 weights decomposed together: what a core's own cache holds,
_DEVICE_BYTES = 256 << 20  # and what keeps a GPU busy

Weight = Callable[[], Float[Tensor, "d_in d_out"]]


@dataclass(frozen=True, eq=False)
class Decomposition:
    """`W = u @ diag(s) @ vh`, on the CPU, s descending, canonical sign."""

    u: Float[Tensor, "d_in r"]
    s: Float[Tensor, " r"]
    vh: Float[Tensor, "r d_out"]

    @property
    def rank(self) -> int:
        """Number of singular values r = min(d_in, d_out), null ones included."""
        return self.s.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """`(d_in, d_out)` of the matrix."""
        return self.u.shape[0], self.vh.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes that are kept for it."""
        return self.u.nbytes + self.s.nbytes + self.vh.nbytes

    def left(self, indices: Sequence[int]) -> Float[Tensor, "d_in n"]:
        """u_i of some singular values, in the order given."""
        return self.u[:, list(indices)]

    def right(self, indices: Sequence[int]) -> Float[Tensor, "n d_out"]:
        """v_i of some singular values, in the order given."""
        return self.vh[list(indices)]

    def reads(self, x: Float[Tensor, "*token d_in"]) -> Float[Tensor, "*token r"]:
        """The products x . u_i for every i, in the type of x."""
        return x @ self.u.to(x)

    def writes(self, g: Float[Tensor, " d_out"]) -> Float[Tensor, " r"]:
        """The products v_i . g for every i, in the type of g."""
        return self.vh.to(g.dtype) @ g

    def contract(self, G: Float[Tensor, "d_in d_out"]) -> Float[Tensor, " r"]:
        """The products u_i^T G v_i for every i, in the type of G."""
        return ((self.u.to(G.dtype).T @ G) * self.vh.to(G.dtype)).sum(dim=1)

    def part(self, indices: Sequence[int]) -> Float[Tensor, "d_in d_out"]:
        """The part of W that the given singular values carry: the sum of s_i u_i v_i^T."""
        chosen = torch.as_tensor(list(indices), dtype=torch.long)
        scaled = self.u[:, chosen] * self.s[chosen].to(self.u.dtype)
        return scaled @ self.vh[chosen]

    def recompose(self) -> Float[Tensor, "d_in d_out"]:
        """W again, from all singular values."""
        return self.part(range(self.rank))

    def of(self, weight: Weight) -> Decomposition:
        """Itself, since all of it is kept; see `explorer.spectra.narrow.NarrowSide`."""
        return self


@dataclass(frozen=True, eq=False)
class Stack:
    """Decompositions of n matrices of one shape, on the CPU; `stack[i]` is the i-th and shares its memory."""

    u: Float[Tensor, "n d_in r"]
    s: Float[Tensor, "n r"]
    vh: Float[Tensor, "n r d_out"]

    def __len__(self) -> int:
        return self.s.shape[0]

    def __getitem__(self, index: int) -> Decomposition:
        return Decomposition(self.u[index], self.s[index], self.vh[index])

    def each(self) -> tuple[Decomposition, ...]:
        """All n decompositions, sharing the stack's memory."""
        return tuple(map(Decomposition, self.u.unbind(), self.s.unbind(), self.vh.unbind()))

    def tensors(self) -> dict[str, Tensor]:
        """What is kept, by name."""
        return {"u": self.u, "s": self.s, "vh": self.vh}

    @property
    def nbytes(self) -> int:
        """Bytes that u, s and vh take."""
        return sum(one.nbytes for one in self.tensors().values())


def decompose(W: Float[Tensor, "d_in d_out"]) -> Decomposition:
    """Decompose W by the route described in the module docstring; W itself is not changed.

    Raises:
        ValueError: W holds NaN or infinity.
    """
    return decompose_stack([W])[0]


def decompose_stack(matrices: Sequence[Float[Tensor, "d_in d_out"]], noises: Sequence[float] | None = None) -> Stack:
    """Decompose at least one matrix of one shape and type: several small ones at a time, large ones one by one.

    Args:
        matrices: to be decomposed.
        noises: for differences of weights: the size of values, matrix by matrix, that rounding may have made.

    Raises:
        ValueError: a matrix holds NaN or infinity.
    """
    (d_in, d_out), n = matrices[0].shape, len(matrices)
    r, stored = min(d_in, d_out), torch.promote_types(matrices[0].dtype, torch.float32)
    stack = Stack(
        torch.empty(n, d_in, r, dtype=stored),
        torch.empty(n, r, dtype=torch.float64),
        torch.empty(n, r, d_out, dtype=stored),
    )
    for part in groups(matrices):
        _into(
            stack.u[part], stack.s[part], stack.vh[part], matrices=matrices[part],
            noises=None if noises is None else torch.tensor(noises[part], dtype=torch.float64),
        )  # fmt: skip
    return stack


def groups(matrices: Sequence[Tensor]) -> list[slice]:
    """Matrices of one shape as they are decomposed together on their device."""
    budget = _DEVICE_BYTES if matrices[0].device.type == "cuda" else _WORKING_BYTES
    together = max(1, budget // (8 * matrices[0].numel()))
    return [slice(start, start + together) for start in range(0, len(matrices), together)]


def _into(u: Tensor, s: Tensor, vh: Tensor, matrices: Sequence[Tensor], noises: Float[Tensor, " n"] | None) -> None:
    """Decompose a few matrices into slices of a stack; the narrow side is always the columns of `tall`."""
    wide = u.shape[-2] < vh.shape[-1]
    tall = in_float64(matrices, wide=wide)
    values, v = right_vectors(tall)
    projected, scale = tall @ v, values.clone()
    inexact = ~conditioned(values, _GRAM_LIMIT) if noises is None else ~_conditioned_above(values, noises, tall)
    for i in inexact.nonzero().flatten().tolist():
        if not bool(torch.isfinite(tall[i]).all()):
            raise ValueError("the matrix holds NaN or infinite weights")
        projected[i], values[i], right = exact(tall[i])
        v[i], scale[i] = right.T, 1.0
    if noises is not None:
        null = values < _floors(values, noises, tall)[:, None]
        values, scale = values.masked_fill(null, 0.0), scale.masked_fill(null, torch.inf)
        v = v.masked_fill(null[:, None], 0.0)
    s.copy_(values)
    (vh.mT if wide else u).copy_(projected.div_(scale[:, None]))
    (u if wide else vh.mT).copy_(v)
    sign = signs(u.float()).to(u.dtype)
    u.mul_(sign[:, None])
    vh.mul_(sign[..., None])


def conditioned(values: Float[Tensor, "n r"], limit: float) -> Bool[Tensor, " n"]:
    """Which of n matrices have no singular value that the Gram route loses: the smallest is `limit` of the largest."""
    return (values[:, -1] >= limit * values[:, 0]).logical_and(values[:, 0] >= _TINY)


def _floors(values: Float[Tensor, "n r"], noises: Float[Tensor, " n"], tall: Tensor) -> Float[Tensor, " n"]:
    """The size below which values of a difference are null."""
    return torch.maximum(noises.to(values), max(tall.shape[1:]) * EPS * values[:, 0]).clamp_min(_TINY)


def _conditioned_above(values: Float[Tensor, "n r"], noises: Float[Tensor, " n"], tall: Tensor) -> Bool[Tensor, " n"]:
    """Which of n differences have no value above the floor that the Gram route loses."""
    present = values >= _floors(values, noises, tall)[:, None]
    smallest = values.masked_fill(~present, torch.inf).amin(dim=-1)
    return (smallest >= _GRAM_LIMIT * values[:, 0]).logical_and(tall.isfinite().all(dim=-1).all(dim=-1))


def in_float64(matrices: Sequence[Tensor], *, wide: bool) -> Float[Tensor, "n long narrow"]:
    """The matrices in float64, tall: `wide` ones transposed.

    All in one layout, so that equal weights give equal bits however they are stored.
    """
    first = matrices[0].mT if wide else matrices[0]
    device = first.device if first.device.type == "cuda" else "cpu"  # other accelerators lack float64
    tall = torch.empty(len(matrices), *first.shape, dtype=torch.float64, device=device)
    for i, W in enumerate(matrices):
        tall[i].copy_(W.detach().mT if wide else W.detach())
    return tall


def signs(u: Tensor) -> Tensor:
    """+1 or -1 for every column: the sign of its entry of largest modulus, the first of equals."""
    highest, lowest = u.amax(dim=-2), u.amin(dim=-2)
    if bool((highest == -lowest).any()):
        largest = u.gather(-2, u.abs().argmax(dim=-2, keepdim=True)).squeeze(-2)
        return torch.where(largest < 0, -1.0, 1.0).to(u.dtype)
    return torch.where(highest < -lowest, -1.0, 1.0).to(u.dtype)
