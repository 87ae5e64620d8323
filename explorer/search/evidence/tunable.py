"""What the trained baselines train: output biases, an adapter of rank one, a gain per singular value.

Each has at most as many numbers as the mask has values, those to which the mean train loss reacts most at the unpruned
model, by its gradient:

- `bias-only`: shifts of output coordinates, those of all chosen matrices whose bias has the largest gradient.
- `scaling`: gains of singular values, 1 at first, those with the largest scores of either sign. The mask is the case of
  gains that are 0.
- `lora-1`: `W + a b^T`. Matrices go by the largest singular value of the weight's gradient; each takes d_in + d_out
  numbers. For what is left, or if it is too few for one matrix, the coordinates are taken that are largest in that
  gradient's first singular vectors.

Of an adapter b is 0 at first, and a is the gradient's first left singular vector.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.attribution import MatrixScores, score
from explorer.core.errors import SettingsError
from explorer.core.keys import MatrixKey
from explorer.masks.mask import Mode
from explorer.measure.batches import batches
from explorer.measure.metrics import run
from explorer.models import View
from explorer.models.matrices import differentiable, parts_of, read_base, read_base_bias
from explorer.search.evidence.claim import Claim, Weights, base

ROUNDS = 50  # of the power iteration
Parts = tuple[Tensor, Tensor, Tensor, Tensor]  # of some values: u [d_in, n], s and c [n], vh [n, d_out]


class Tunable(ABC):
    """Some numbers, and the weights that they make."""

    @property
    @abstractmethod
    def parameters(self) -> list[Tensor]:
        """What is trained."""

    @property
    def numbers(self) -> int:
        """How many numbers these are."""
        return sum(map(len, self.parameters))

    @abstractmethod
    def weights(self) -> Weights:
        """Weight and bias of every stacked matrix that they change; gradients reach the parameters."""


@dataclass(frozen=True, eq=False)
class BiasShifts(Tunable):
    """Shifts of single coordinates of biases."""

    view: View
    where: Mapping[MatrixKey, Int[Tensor, " coordinate"]]
    shifts: Mapping[MatrixKey, Float[Tensor, " coordinate"]]

    @classmethod
    def chosen(cls, claim: Claim, numbers: int) -> BiasShifts:
        """The coordinates with the largest gradients, none of them shifted."""
        found = {site: of_bias for site, (_, of_bias) in gradients(claim).items()}
        ranked = torch.cat([one.abs() for one in found.values()]).argsort(descending=True, stable=True)[:numbers]
        where, start = {}, 0
        for site, one in found.items():
            own = ranked[(ranked >= start) & (ranked < start + len(one))] - start
            if len(own):
                where[site] = own.sort().values
            start += len(one)
        shifts = {site: torch.zeros(len(one), device=one.device, requires_grad=True) for site, one in where.items()}
        return cls(claim.view, where, shifts)

    @property
    def parameters(self) -> list[Tensor]:
        """The shifts."""
        return list(self.shifts.values())

    def weights(self) -> Weights:
        """The weight as it is, and the shifted bias."""
        found = {}
        for site, shift in self.shifts.items():
            W, b = base(self.view, site)
            found[site] = (W, b.index_add(0, self.where[site], shift.to(b)))
        return found


@dataclass(frozen=True, eq=False)
class Adapters(Tunable):
    """Adapters of rank one, `W + a b^T`, on some input and output coordinates of some matrices."""

    view: View
    rows: Mapping[MatrixKey, Int[Tensor, " row"]]
    columns: Mapping[MatrixKey, Int[Tensor, " column"]]
    a: Mapping[MatrixKey, Float[Tensor, " row"]]
    b: Mapping[MatrixKey, Float[Tensor, " column"]]

    @classmethod
    def chosen(cls, claim: Claim, numbers: int) -> Adapters:
        """Adapters where the gradient is largest; they change nothing yet.

        Raises:
            SettingsError: fewer than two numbers.
        """
        if numbers < 2:
            raise SettingsError("an adapter has two numbers at least, and the mask one value.")
        found = {site: first_triple(of_weight) for site, (of_weight, _) in gradients(claim).items()}
        rows, columns, a, b, left = {}, {}, {}, {}, numbers
        for site in sorted(found, key=lambda one: (-found[one][1], one)):
            u, _, v = found[site]
            if left < 2:
                break
            rows[site], columns[site] = _coordinates(u, v, left)
            start = u[rows[site]]
            a[site] = (start / start.norm().clamp_min(1e-12)).requires_grad_()
            b[site] = torch.zeros_like(v[columns[site]]).requires_grad_()
            left -= len(a[site]) + len(b[site])
        return cls(claim.view, rows, columns, a=a, b=b)

    @property
    def parameters(self) -> list[Tensor]:
        """Both factors of each adapter."""
        return [*self.a.values(), *self.b.values()]

    def weights(self) -> Weights:
        """The weight with its adapter, and the bias as it is."""
        found = {}
        for site, a in self.a.items():
            W, bias = read_base(self.view, site).detach(), read_base_bias(self.view, site)
            x = torch.zeros(W.shape[0], device=W.device).index_copy(0, self.rows[site], a)
            y = torch.zeros(W.shape[1], device=W.device).index_copy(0, self.columns[site], self.b[site])
            found[site] = (W + torch.outer(x, y).to(W), None if bias is None else bias.detach())
        return found


@dataclass(frozen=True, eq=False)
class Gains(Tunable):
    """A gain per singular value, in the mode of the mask: 1 leaves a value as it is, 0 removes it."""

    view: View
    mode: Mode
    parts: Mapping[MatrixKey, Parts]
    gains: Mapping[MatrixKey, Float[Tensor, " n"]]

    @classmethod
    def chosen(cls, claim: Claim, numbers: int) -> Gains:
        """The values with the largest scores, of either sign, as they are."""
        problem = claim.problem
        claim.unprune()
        scores = score(
            claim.view, problem.task, problem.svds, keys=problem.keys, scorer="gradient", mode=problem.mode,
            limit=problem.limit,
        )  # fmt: skip
        ranked = sorted(scores.ranking(), key=lambda entry: (-abs(entry[0]), entry[1], entry[2]))[:numbers]
        indices: dict[MatrixKey, list[int]] = {}
        for _, key, index in ranked:
            indices.setdefault(key, []).append(index)
        parts = {
            key: _parts(claim, key, scores.matrices[key], some=sorted(some)) for key, some in sorted(indices.items())
        }
        gains = {key: torch.ones_like(one[1]).requires_grad_() for key, one in parts.items()}
        return cls(claim.view, problem.mode, parts, gains=gains)

    @property
    def parameters(self) -> list[Tensor]:
        """The gains."""
        return list(self.gains.values())

    def weights(self) -> Weights:
        """Weights with scaled values, and biases with what freezing puts in the place of the rest."""
        found: dict[MatrixKey, tuple[Tensor, Tensor]] = {}
        for key, gain in self.gains.items():
            site, (rows, columns) = key.stacked, parts_of(self.view, key)
            W, b = found.get(site) or base(self.view, site)
            u, s, c, vh = self.parts[key]
            W, b = W.clone(), b.clone()
            W[rows, columns] = W[rows, columns] + ((u * ((gain - 1) * s)) @ vh).to(W)
            if self.mode == "freeze":
                b[columns] = b[columns] + (((1 - gain) * s * c) @ vh).to(b)
            found[site] = (W, b)
        return found


def gradients(claim: Claim) -> dict[MatrixKey, tuple[Tensor, Tensor]]:
    """Gradients of the train loss of the unpruned model, summed over examples: of each stacked weight and bias."""
    problem, view = claim.problem, claim.view
    claim.unprune()
    sites = tuple(dict.fromkeys(key.stacked for key in problem.keys))
    with view.lock, differentiable(view, sites) as leaves, torch.enable_grad():
        for batch in batches(view, problem.task, problem.examples):
            run(view, batch).loss.sum().backward()  # type: ignore[no-untyped-call]
        return {site: (one.weight_gradient.float(), one.bias_gradient.float()) for site, one in leaves.items()}


def first_triple(G: Float[Tensor, "d_in d_out"]) -> tuple[Float[Tensor, " d_in"], float, Float[Tensor, " d_out"]]:
    """The first singular triple of a matrix, by power iteration from its longest row."""
    v = G[G.norm(dim=1).argmax()]
    for _ in range(ROUNDS):
        v = G.T @ (G @ (v / v.norm().clamp_min(1e-30)))
    v = v / v.norm().clamp_min(1e-30)
    u = G @ v
    size = u.norm()
    return u / size.clamp_min(1e-30), float(size), v


def _coordinates(u: Tensor, v: Tensor, left: int) -> tuple[Tensor, Tensor]:
    """The `left` largest coordinates of both vectors together, at least one of each; all if there are no more."""
    if left >= len(u) + len(v):
        return torch.arange(len(u), device=u.device), torch.arange(len(v), device=v.device)
    ranked = torch.cat([u.abs(), v.abs()])
    ranked[u.abs().argmax()] = ranked[len(u) + v.abs().argmax()] = torch.inf
    chosen = ranked.argsort(descending=True, stable=True)[:left].sort().values
    return chosen[chosen < len(u)], chosen[chosen >= len(u)] - len(u)


def _parts(claim: Claim, key: MatrixKey, scores: MatrixScores, some: list[int]) -> Parts:
    svd, W = claim.problem.svds.get(claim.view, key), read_base(claim.view, key)
    made = (svd.left(some), svd.s[some], scores.c[some], svd.right(some))
    u, s, c, vh = (one.to(W.device, torch.float32) for one in made)
    return u, s, c, vh
