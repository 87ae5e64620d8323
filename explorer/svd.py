"""Singular value decomposition of one matrix, and what follows from its spectrum.

`W = U diag(s) Vh` with `W: [d_in, d_out]`, `U: [d_in, r]`, `s: [r]` descending, `Vh: [r, d_out]`,
r = min(d_in, d_out), and canonical sign: the entry of largest modulus of each u_i is positive.

1. Form the Gram matrix of the narrow side in float64 and take its eigenvectors: the cost is cubic in the narrow
   side only. A singular value then carries a relative error of about eps * (s_0 / s_i)^2.
2. Where s_i is too small for that to stay below 1e-8, decompose again with LAPACK in float64.
3. Fix the signs; store u and vh in float32 (or the weight's own type if wider), s in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK_GAP = 1e-2
_GRAM_LIMIT = 1e-4  # smallest s_i / s_0 for which the Gram route keeps a relative error of 1e-8


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

    def part(self, indices: Sequence[int]) -> Float[Tensor, "d_in d_out"]:
        """The part of W that the given singular values carry: the sum of s_i u_i v_i^T."""
        chosen = torch.as_tensor(list(indices), dtype=torch.long)
        scaled = self.u[:, chosen] * self.s[chosen].to(self.u.dtype)
        return scaled @ self.vh[chosen]

    def recompose(self) -> Float[Tensor, "d_in d_out"]:
        """W again, from all singular values."""
        return self.part(range(self.rank))


def decompose(W: Float[Tensor, "d_in d_out"]) -> Decomposition:
    """Decompose W by the route described in the module docstring; W itself is not changed.

    Raises:
        ValueError: W holds NaN or infinity.
    """
    exact = W.detach().to(device="cpu", dtype=torch.float64).contiguous()  # equal weights, equal bits, however stored
    if not bool(torch.isfinite(exact).all()):
        raise ValueError("the matrix holds NaN or infinite weights")
    u, s, vh = _gram(exact) if exact.shape[0] >= exact.shape[1] else _flip(*_gram(exact.T))
    if s[-1] < _GRAM_LIMIT * s[0] or s[0] == 0:
        u, s, vh = torch.linalg.svd(exact, full_matrices=False)
    sign = torch.sign(u.gather(0, u.abs().argmax(dim=0, keepdim=True)))
    sign = torch.where(sign == 0, torch.ones_like(sign), sign)
    stored = torch.promote_types(W.dtype, torch.float32)
    return Decomposition((u * sign).to(stored).contiguous(), s, (vh * sign.T).to(stored).contiguous())


def _gram(tall: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    _, vectors = torch.linalg.eigh(tall.T @ tall)
    v = vectors.flip(1)
    projected = tall @ v
    s = torch.linalg.vector_norm(projected, dim=0)
    s, order = s.sort(descending=True, stable=True)
    return projected[:, order] / s.clamp_min(torch.finfo(s.dtype).tiny), s, v[:, order].T


def _flip(u: Tensor, s: Tensor, vh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return vh.T, s, u.T


@dataclass(frozen=True)
class SpectrumSummary:
    """Scale-free descriptions of one spectrum; see `summarise`."""

    frobenius_norm: float
    spectral_norm: float
    stable_rank: float
    effective_rank: float
    null_count: int


def summarise(s: Float[Tensor, " r"], d_in: int, d_out: int) -> SpectrumSummary:
    """Norms and ranks of a spectrum.

    Stable rank is sum(s_i^2) / s_0^2 (Rudelson and Vershynin 2007). Effective rank is exp of the entropy of
    s_i / sum(s) (Roy and Vetterli 2007). Null values are those below max(d_in, d_out) * eps * s_0.
    """
    values = s.double()
    top = float(values[0])
    if top == 0:
        return SpectrumSummary(0.0, 0.0, 0.0, 0.0, len(values))
    share = values / values.sum()
    entropy = -torch.special.xlogy(share, share).sum()
    return SpectrumSummary(
        frobenius_norm=float(values.square().sum().sqrt()),
        spectral_norm=top,
        stable_rank=float(values.square().sum() / top**2),
        effective_rank=float(entropy.exp()),
        null_count=len(values) - null_from(values, d_in, d_out),
    )


def cumulative_energy(s: Float[Tensor, " r"]) -> Float[Tensor, " r"]:
    """Share of the squared Frobenius norm carried by the first i + 1 singular values; all ones for a zero matrix."""
    energy = s.double().square().cumsum(0)
    return energy / energy[-1] if float(energy[-1]) > 0 else torch.ones_like(energy)


def null_from(s: Float[Tensor, " r"], d_in: int, d_out: int, eps: float = torch.finfo(torch.float32).eps) -> int:
    """Index of the first numerically null value: s_i < max(d_in, d_out) * eps * s_0 (r if there is none)."""
    return int((s >= max(d_in, d_out) * eps * s[0]).sum()) if float(s[0]) > 0 else 0


def blocks(s: Float[Tensor, " r"], gap: float = BLOCK_GAP) -> tuple[tuple[int, ...], ...]:
    """Degenerate blocks: maximal runs of two or more neighbours with (s_i - s_{i+1}) / s_i below `gap`.

    Inside a block single directions are not identified: any rotation of them decomposes W as well. Null values
    are left out by `gap` itself only if they are exactly zero; callers that know d_in and d_out may cut at `null_from`.
    """
    values = s.double().tolist()
    runs: list[list[int]] = [[0]]
    for i in range(1, len(values)):
        close = values[i - 1] > 0 and (values[i - 1] - values[i]) / values[i - 1] < gap
        if close:
            runs[-1].append(i)
        else:
            runs.append([i])
    return tuple(tuple(run) for run in runs if len(run) > 1)
