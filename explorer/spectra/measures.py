"""What describes the spectrum of one matrix: norms, ranks, energy, near-equal values, power law and random bulk.

Everything follows from the singular values s_i (descending) and the shape alone; lambda_i = s_i^2 are the eigenvalues
of W^T W, whose distribution is the empirical spectral density (ESD).

| measure | definition | source |
|---|---|---|
| stable rank | sum(lambda) / lambda_0 | Rudelson and Vershynin 2007 |
| effective rank | exp of the entropy of s_i / sum(s) | Roy and Vetterli 2007 |
| participation ratio | sum(lambda)^2 / sum(lambda^2) | Bell and Dean 1970; Gao et al. 2017 |
| condition number | s_0 / s_{r-1}, infinite if s_{r-1} = 0 | numpy.linalg.cond |
| energy quantile q | the fewest largest values that carry a share q of sum(lambda) | |
| power law | see `power_law` | Clauset, Shalizi and Newman 2009; Martin and Mahoney 2021 |
| bulk edge | see `bulk_edge` | Marchenko and Pastur 1967; Gavish and Donoho 2014 |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

BLOCK_GAP = 1e-2
QUANTILES = (0.5, 0.9, 0.99)
MIN_TAIL = 2  # fewest values above xmin that a power law is fitted to


@dataclass(frozen=True)
class PowerLaw:
    """Power-law fit of the tail of an ESD; see `power_law`.

    Attributes:
        alpha: exponent of the density, p(lambda) ~ lambda^-alpha for lambda >= xmin.
        stderr: standard error of alpha, (alpha - 1) / sqrt(tail).
        xmin: where the tail begins, in the units of lambda = s^2.
        tail: number of values in it.
        distance: Kolmogorov-Smirnov distance between the tail and the fit, in [0, 1].
    """

    alpha: float
    stderr: float
    xmin: float
    tail: int
    distance: float


@dataclass(frozen=True)
class SpectrumSummary:
    """Descriptions of one spectrum; see the module docstring.

    Attributes:
        energy_counts: number of largest values that carry each share of `QUANTILES`.
        power_law: None where fewer than three distinct values are not null.
        bulk_edge: in the units of s; None where it is not defined.
        above_bulk: number of values above the edge, None with it.
    """

    frobenius_norm: float
    spectral_norm: float
    stable_rank: float
    effective_rank: float
    participation_ratio: float
    condition_number: float
    null_count: int
    energy_counts: tuple[int, ...]
    power_law: PowerLaw | None
    bulk_edge: float | None
    above_bulk: int | None


def summarise(s: Float[Tensor, " r"], d_in: int, d_out: int) -> SpectrumSummary:
    """All measures of a spectrum of a `[d_in, d_out]` matrix.

    Null values are those below max(d_in, d_out) * eps * s_0; the power law leaves them out. A product of two narrow
    matrices has fewer values than min(d_in, d_out), and is no matrix of independent entries even at random: its bulk
    edge is None.
    """
    values = s.double()
    top = float(values[0])
    if top == 0:
        nothing = tuple(0 for _ in QUANTILES)
        return SpectrumSummary(
            0.0,
            0.0,
            0.0,
            effective_rank=0.0,
            participation_ratio=0.0,
            condition_number=math.inf,
            null_count=len(values),
            energy_counts=nothing,
            power_law=None,
            bulk_edge=None,
            above_bulk=None,
        )
    share, weight = values / values.sum(), (values / top).square()  # relative: squares of tiny weights underflow
    first_null = null_from(values, d_in, d_out)
    edge = bulk_edge(values, d_in, d_out) if len(values) == min(d_in, d_out) else None
    smallest = float(values[-1])
    return SpectrumSummary(
        frobenius_norm=top * float(weight.sum().sqrt()),
        spectral_norm=top,
        stable_rank=float(weight.sum()),
        effective_rank=float((-torch.special.xlogy(share, share).sum()).exp()),
        participation_ratio=float(weight.sum().square() / weight.square().sum()),
        condition_number=top / smallest if smallest > 0 else math.inf,
        null_count=len(values) - first_null,
        energy_counts=tuple(energy_count(values, quantile) for quantile in QUANTILES),
        power_law=power_law(values[:first_null]),
        bulk_edge=edge,
        above_bulk=None if edge is None else int((values > edge).sum()),
    )


def cumulative_energy(s: Float[Tensor, " r"]) -> Float[Tensor, " r"]:
    """Share of the squared Frobenius norm carried by the first i + 1 singular values; all ones for a zero matrix."""
    energy = s.double().square().cumsum(0)
    return energy / energy[-1] if float(energy[-1]) > 0 else torch.ones_like(energy)


def energy_count(s: Float[Tensor, " r"], share: float) -> int:
    """The fewest largest values that together carry at least `share` of the squared Frobenius norm."""
    reached = cumulative_energy(s) >= share * (1 - 1e-12)
    return 1 + int(reached.int().argmax())


def power_law(s: Float[Tensor, " r"]) -> PowerLaw | None:
    """Fit p(lambda) ~ lambda^-alpha to the tail of lambda = s^2 (Clauset, Shalizi and Newman 2009, section 3).

    1. For every distinct value as xmin (but the largest), alpha = 1 + n / sum(log(lambda_i / xmin)) over the n values
       from xmin on: the maximum likelihood estimate.
    2. Keep the xmin whose fit has the smallest Kolmogorov-Smirnov distance max |F(lambda_i) - i / n| to the tail, with
       F = 1 - (lambda / xmin)^(1 - alpha) and i = 0 ... n - 1.

    This is weightwatcher's alpha (Martin and Mahoney 2021) with its default fit. None for fewer than three distinct
    positive values.
    """
    positive = s.double()[s > 0]
    if len(positive) <= MIN_TAIL:
        return None
    values: NDArray[np.float64] = np.sort((positive / positive.max()).square().numpy())
    starts = np.unique(values, return_index=True)[1]
    if len(starts) <= MIN_TAIL:
        return None
    logs = np.log(values)
    best: PowerLaw | None = None
    for start in starts[:-1].tolist():
        tail = logs[start:] - logs[start]
        n = len(tail)
        alpha = 1.0 + n / float(tail.sum())
        distance = float(np.abs(1.0 - np.exp((1.0 - alpha) * tail) - np.arange(n) / n).max())
        if best is None or distance < best.distance:
            best = PowerLaw(alpha, (alpha - 1.0) / math.sqrt(n), float(values[start]), tail=n, distance=distance)
    assert best is not None
    scale = float(positive.max()) ** 2
    return PowerLaw(best.alpha, best.stderr, best.xmin * scale, tail=best.tail, distance=best.distance)


def bulk_edge(s: Float[Tensor, " r"], d_in: int, d_out: int) -> float | None:
    """Largest singular value of a random matrix of this shape with the spectrum's own noise: sigma (sqrt N + sqrt M).

    N and M are the longer and the shorter side, and entries are independent with variance sigma^2 (Marchenko and
    Pastur 1967; without the fluctuation of order N^(-2/3) of the largest value). sigma is estimated from the median,
    s_med / sqrt(N mu), with mu the median of the Marchenko-Pastur law of ratio M / N (Gavish and Donoho 2014): unlike
    the variance of all entries, it does not follow a few large values. None if the median is null.
    """
    values = s.double()
    n, m = max(d_in, d_out), min(d_in, d_out)
    median = float(values.quantile(0.5))
    if median < n * torch.finfo(torch.float32).eps * float(values[0]) or median == 0:
        return None
    sigma = median / math.sqrt(n * marchenko_pastur_median(m / n))
    return sigma * (math.sqrt(n) + math.sqrt(m))


@lru_cache(maxsize=256)
def marchenko_pastur_median(ratio: float) -> float:
    """Median of the Marchenko-Pastur law with unit variance and ratio M / N in (0, 1]: of eigenvalues of X^T X / N."""
    from scipy.integrate import quad  # slow to import, and few commands ask for a noise edge
    from scipy.optimize import brentq

    lower, upper = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    middle, half = (lower + upper) / 2, (upper - lower) / 2

    def density(angle: float) -> float:  # lambda = middle - half cos(angle): without the roots at both ends
        x = middle - half * math.cos(angle)
        return half**2 * math.sin(angle) ** 2 / (2 * math.pi * ratio * x) if x > 0 else half / (math.pi * ratio)

    def below(angle: float) -> float:
        return float(quad(density, 0.0, angle)[0]) - 0.5

    angle = float(brentq(below, 0.0, math.pi, xtol=1e-12))
    return middle - half * math.cos(angle)


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
