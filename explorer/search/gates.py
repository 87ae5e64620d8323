"""Differentiable binary gates over singular values: `W(z) = W - sum_i (1 - z_i) s_i u_i v_i^T`, z_i in {0, 1}.

With freeze removal the bias carries `+ sum_i (1 - z_i) s_i c_i v_i`, so gates at 0 give exactly the mask's weights.
Gates are binary in the forward pass; the backward pass takes the slope of a sigmoid instead of the step's
(straight-through estimator, Bengio et al. 2013, arXiv 1308.3432). At most `room` of them are 0, those with the lowest
logits (as in movement pruning, Sanh et al. 2020, arXiv 2005.07683), so that a training never passes through models
that its budget does not allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.attribution import MatrixScores
from explorer.core.keys import MatrixKey
from explorer.masks.mask import Mode
from explorer.models import View
from explorer.models.matrices import parts_of, read_base, read_base_bias, substituted
from explorer.spectra.cache import SvdCache


@dataclass(frozen=True, eq=False)
class _Site:
    """The gated parts of one stacked matrix; parts of one shape are computed as a batch."""

    W: Float[Tensor, "d_in d_out"]
    b: Float[Tensor, " d_out"] | None
    keys: tuple[MatrixKey, ...]
    where: tuple[tuple[slice, slice], ...]
    u: Float[Tensor, "part rows r"]
    s: Float[Tensor, "part r"]
    vh: Float[Tensor, "part r columns"]
    c: Float[Tensor, "part r"]


class Gates:
    """One logit per singular value of some matrices of a view; the `room` lowest that are not positive are removed.

    Attributes:
        logits: per stacked matrix, `[part, r]`, parts in the order of `keys`.
        view: what runs; gated weights are computed in the model's type and handed to it in its own.
        keys: per stacked matrix, the matrices (heads) that are gated.
    """

    def __init__(
        self,
        view: View,
        svds: SvdCache,
        values: Mapping[MatrixKey, MatrixScores],
        mode: Mode,
        *,
        start: float,
        room: int,
    ) -> None:
        grouped: dict[MatrixKey, list[MatrixKey]] = {}
        for key in values:
            grouped.setdefault(key.stacked, []).append(key)
        self.view, self._mode, self._room = view, mode, room
        self._dtype = view.bridge.original_model.dtype
        self._sites = {site: _site(view, svds, site, keys=keys, values=values) for site, keys in grouped.items()}
        self.keys = {site: one.keys for site, one in self._sites.items()}
        self.logits = {site: torch.full_like(one.s, start, requires_grad=True) for site, one in self._sites.items()}

    @property
    def size(self) -> int:
        """Number of gated values."""
        return sum(logits.numel() for logits in self.logits.values())

    @property
    def highest(self) -> float:
        """The highest logit at which a value is removed now."""
        flat = torch.cat([logits.detach().flatten() for logits in self.logits.values()])
        return min(0.0, float(flat.kthvalue(min(self._room, flat.numel())).values)) if self._room else -torch.inf

    def price(self) -> Float[Tensor, ""]:
        """Number of removed values, with straight-through gradients."""
        highest = self.highest
        return torch.stack([_off(logits, highest).sum() for logits in self.logits.values()]).sum()

    def chosen(self) -> list[tuple[MatrixKey, int]]:
        """The removed values, the lowest logits first; never more than there is room for, ties among them."""
        highest = self.highest
        ranked = [
            (float(row[index]), key, index)
            for site, logits in self.logits.items()
            for key, row in zip(self.keys[site], logits.detach(), strict=True)
            for index in torch.nonzero(row <= highest).flatten().tolist()
        ]
        return [(key, index) for _, key, index in sorted(ranked)[: self._room]]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Run the view with the gated weights for the time of the block; gradients reach the logits."""
        weights, highest = {}, self.highest
        for site, one in self._sites.items():
            parts, biases = _removed(_off(self.logits[site], highest), one)
            W, b = _assemble(one, parts, biases if self._mode == "freeze" else None)
            weights[site] = W.to(self._dtype), None if b is None else b.to(self._dtype)
        with substituted(self.view, weights):
            yield


class Momentum:
    """Descent with momentum and one scale for all gates: those that matter move, the others stay where they are.

    An optimizer with a scale for each gate, such as Adam, moves all of them alike, however little they matter: within
    a few steps all that have a negative gradient close, and the model breaks. Here a gate moves by `rate` times the
    ratio of its mean gradient to the `room`-th largest of all, and by `rate` at most.

    Attributes:
        rate: of the next step.
        state: what the next step depends on, by logits: the mean gradient, the scale, and how many steps there were.
    """

    MEMORY = 0.9  # of the mean gradient, and of the scale

    def __init__(self, logits: Iterable[Tensor], rate: float, *, room: int) -> None:
        self.rate, self._room = rate, max(room, 1)
        self.state = {
            one: {"mean": torch.zeros_like(one), "scale": torch.zeros(()), "steps": torch.zeros(())} for one in logits
        }

    @torch.no_grad()
    def step(self) -> None:
        """Move all gates by their gradients."""
        means = [self._mean(one, state) for one, state in self.state.items()]
        sizes = torch.cat([mean.abs().flatten() for mean in means])
        latest = sizes.topk(min(self._room, sizes.numel())).values[-1].cpu()
        for (one, state), mean in zip(self.state.items(), means, strict=True):
            scale = torch.lerp(latest, state["scale"], self.MEMORY) if state["scale"] else latest
            state["scale"] = scale
            smallest = torch.finfo(mean.dtype).tiny
            one.sub_((mean / scale.to(mean).clamp_min(smallest)).clamp(-1, 1), alpha=self.rate)

    def _mean(self, one: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        """The mean gradient with the latest, without the bias of its start at zero."""
        assert one.grad is not None
        state["steps"].add_(1)
        state["mean"].lerp_(one.grad, 1 - self.MEMORY)
        return torch.div(state["mean"], 1 - self.MEMORY ** float(state["steps"]))

    def forget(self) -> None:
        """Take the gradients off the logits."""
        for one in self.state:
            one.grad = None


class _Edit(torch.autograd.Function):
    """The removed part `[part, d_in, d_out]` and its frozen mean `[part, d_out]`, as functions of off = 1 - z.

    Forward costs only the removed values; backward is one contraction for all of them.
    """

    @staticmethod
    def forward(ctx: Any, off: Tensor, u: Tensor, s: Tensor, vh: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(u, s, vh, c)
        some = off.any(dim=0)  # the values that any part removes
        scale = (off * s)[:, some]
        return (u[:, :, some] * scale[:, None]) @ vh[:, some], ((scale * c[:, some])[:, None] @ vh[:, some])[:, 0]

    @staticmethod
    def backward(ctx: Any, of_part: Tensor, of_mean: Tensor) -> tuple[Tensor | None, ...]:
        u, s, vh, c = ctx.saved_tensors
        slope = ((u.transpose(1, 2) @ of_part) * vh).sum(dim=2) + c * (vh @ of_mean[:, :, None])[:, :, 0]
        return s * slope, None, None, None, None


def _removed(off: Tensor, site: _Site) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = _Edit.apply(off, site.u, site.s, site.vh, site.c)  # type: ignore[no-untyped-call]
    return found


def _off(logits: Tensor, highest: float) -> Tensor:
    """1 - z, binary, with the slope of a sigmoid; z is 0 up to the `highest` logit."""
    soft = torch.sigmoid(-logits)
    return (logits <= highest).to(soft) + soft - soft.detach()


def _assemble(site: _Site, parts: Tensor, biases: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of the stacked matrix from its parts: heads side by side (Q, K, V), below each other (O)."""
    removed, frozen = torch.zeros_like(site.W), site.W.new_zeros(site.W.shape[1])
    for place, (rows, columns) in enumerate(site.where):
        removed[rows, columns] = parts[place]
        if biases is not None:
            frozen[columns] = frozen[columns] + biases[place]
    if biases is None:
        return site.W - removed, site.b
    return site.W - removed, frozen if site.b is None else site.b + frozen


def _site(
    view: View,
    svds: SvdCache,
    site: MatrixKey,
    keys: Sequence[MatrixKey],
    values: Mapping[MatrixKey, MatrixScores],
) -> _Site:
    W, b = read_base(view, site).detach(), read_base_bias(view, site)
    found = [svds.get(view, key) for key in keys]
    return _Site(
        W=W,
        b=None if b is None else b.detach(),
        keys=tuple(keys),
        where=tuple(parts_of(view, key) for key in keys),
        u=torch.stack([one.u for one in found]).to(W),
        s=torch.stack([_known(one.s, values[key]) for key, one in zip(keys, found, strict=True)]).to(W),
        vh=torch.stack([one.vh for one in found]).to(W),
        c=torch.stack([values[key].c for key in keys]).to(W),
    )


def _known(s: Tensor, values: MatrixScores) -> Tensor:
    """The singular values, 0 where the score is not finite: such a gate does nothing, and so stays open."""
    return torch.where(values.score.to(s.device).isfinite(), s, torch.zeros_like(s))
