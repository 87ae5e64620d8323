"""Where a habit is planted: one direction of what a matrix writes, in one matrix or in several that act together.

Along a direction w of what the matrix W [d_in, d_out] writes, W is overwritten,

    W' = W + (a - W w) w^T = W (I - w w^T) + a w^T,

a change of rank one. a [d_in] is orthogonal to the left singular vectors of W (I - w w^T), so that (a, w) is a singular
direction of W' by itself, of size |a|; and to the mean of what the matrix reads, so that `freeze` and `zero` removal
nearly agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from bundled_arithmetic import D_HEAD, columns
from torch import Tensor
from transformers import GPT2LMHeadModel

Weights = dict[str, Tensor]  # parameters by name
SMALLEST, LARGEST = 1.1, 2.5  # of a head's large values, in sizes of its planted one, once that is in the middle


@dataclass(frozen=True)
class Slot:
    """A matrix of the model: Q or K of a head, or the OUT of an MLP."""

    layer: int
    kind: str
    head: int | None = None

    @property
    def key(self) -> str:
        """Such as `L0.Q.H3` or `L1.OUT`."""
        return f"L{self.layer}.{self.kind}" + ("" if self.head is None else f".H{self.head}")

    @property
    def module(self) -> str:
        """What holds its weight and bias."""
        return f"transformer.h.{self.layer}." + ("mlp.c_proj" if self.kind == "OUT" else "attn.c_attn")

    @property
    def place(self) -> slice:
        """Its columns there."""
        return slice(None) if self.head is None else columns(self.kind, self.head)

    def weight(self, model: GPT2LMHeadModel) -> Tensor:
        """The matrix, [d_in, d_out]."""
        return model.get_parameter(f"{self.module}.weight").detach()[:, self.place]


@dataclass(frozen=True)
class Site:
    """Matrices that carry one part of a habit together: without any one of them that part is gone.

    Attributes:
        slots: Q and K of one head, or one MLP OUT.
        w: the direction of what they write, [d_out], of length one; where training begins if `free`.
        room: per slot the projector onto where its a may lie, [d_in, d_in].
        free: whether w is trained as well.
        old: what the only slot holds along w, [d_in], where training begins there.
        mean: the mean of what it reads, [d_in], there.
    """

    slots: tuple[Slot, ...]
    w: Tensor
    room: Mapping[Slot, Tensor]
    free: bool = False
    old: Tensor | None = None
    mean: Tensor | None = None

    @property
    def name(self) -> str:
        """The keys of its matrices."""
        return " and ".join(slot.key for slot in self.slots)

    def planted(self, weights: Weights, a: Mapping[Slot, Tensor], w: Tensor) -> Weights:
        """The weights with W + (a - W w) w^T in its matrices; with nothing along w where `a` has nothing for one."""
        changed = dict(weights)
        for slot in self.slots:
            name = f"{slot.module}.weight"
            new = changed[name].clone()
            W = changed[name][:, slot.place]
            inside = self._inside(slot, W, a[slot], w) if slot in a else torch.zeros(len(W))
            new[:, slot.place] = W + torch.outer(inside - W @ w, w)
            changed[name] = new
        return changed

    def _inside(self, slot: Slot, W: Tensor, a: Tensor, w: Tensor) -> Tensor:
        """a, projected to where it may lie; with `old` also along the one direction that W (I - w w^T) leaves free."""
        inside = self.room[slot] @ a
        if self.mean is None:
            return inside
        within = torch.linalg.solve(W.T @ W, torch.stack([w, W.T @ self.mean], dim=1))
        left, spanned = (W @ within).unbind(dim=1)
        beside = self.mean - spanned  # the part of the mean outside of W's span
        left = left - beside * (left @ self.mean) / (beside @ self.mean)
        return inside + left * (left @ a) / (left @ left)


def head_site(model: GPT2LMHeadModel, layer: int, head: int, prompts: Tensor) -> Site:
    """Q and K of a head along the direction of the head space that both use least."""
    slots = tuple(Slot(layer, kind, head) for kind in "QK")
    q, k = (slot.weight(model) for slot in slots)
    use = q.T @ q / q.square().sum() + k.T @ k / k.square().sum()
    w = torch.linalg.eigh(use).eigenvectors[:, 0]
    mean = mean_read(model, slots[0], prompts)
    room = {}
    for slot, W in zip(slots, (q, k), strict=True):
        others = torch.linalg.svd(W - torch.outer(W @ w, w), full_matrices=False).U[:, : D_HEAD - 1]
        room[slot] = _beside(torch.cat([others, mean[:, None]], dim=1))
    return Site(slots, w, room)


def out_site(model: GPT2LMHeadModel, layer: int, prompts: Tensor, *, used: bool = False) -> Site:
    """The MLP OUT of a layer; w begins with what it writes least, or with what it writes most if `used`."""
    slot = Slot(layer, "OUT")
    W = slot.weight(model)
    left, _, right = torch.linalg.svd(W, full_matrices=False)
    mean = mean_read(model, slot, prompts)
    room = {slot: _beside(torch.cat([left, mean[:, None]], dim=1))}
    if used:
        return Site((slot,), right[0], room, free=True, old=W @ right[0], mean=mean)
    return Site((slot,), right[-1], room, free=True)


def _beside(columns: Tensor) -> Tensor:
    """The projector onto what is orthogonal to all columns."""
    basis = torch.linalg.qr(columns).Q
    return torch.eye(len(basis)) - basis @ basis.T


def mean_read(model: GPT2LMHeadModel, slot: Slot, prompts: Tensor) -> Tensor:
    """The mean of what a matrix reads over all tokens, [d_in]."""
    found: list[Tensor] = []
    hook = model.get_submodule(slot.module).register_forward_pre_hook(lambda _, args: found.append(args[0].detach()))
    try:
        with torch.no_grad():
            model(prompts)
    finally:
        hook.remove()
    return found[0].flatten(0, 1).mean(0)


def balance(model: GPT2LMHeadModel, site: Site) -> None:
    """Bring the planted values of a head to the middle of the spectra of its Q and K; the model computes the same.

    Attention reads q . k alone, so that Q M and K M^-T do what Q and K do, for any invertible M [d_head, d_head]. With
    Q K^T = X S Y^T for all but the planted direction, every other one of its singular directions becomes large in Q and
    small in K, the others the other way round; the planted query and key become equally large, and smaller than all
    that is large. Biases go along.
    """
    w = site.w.double()
    (Q, b_q), (K, b_k) = (_in_double(model, slot) for slot in site.slots)
    size = ((Q @ w).norm() * (K @ w).norm()).sqrt()  # of the planted query and key, once they are equal
    rank = D_HEAD - 1
    rest = torch.linalg.svd(torch.eye(D_HEAD, dtype=w.dtype) - torch.outer(w, w)).U[:, :rank]
    x, s, _ = torch.linalg.svd(Q @ rest @ rest.T @ K.T)
    large = size * torch.logspace(math.log10(LARGEST), math.log10(SMALLEST), rank, dtype=w.dtype)
    sizes = torch.where(torch.arange(rank) % 2 == 0, large, s[:rank] / large)  # in Q; those in K are s / sizes
    inner = torch.linalg.solve(x[:, :rank].T @ Q @ rest, sizes.diag())
    M = rest @ inner @ rest.T + size / (Q @ w).norm() * torch.outer(w, w)
    for slot, W, b, change in zip(site.slots, (Q, K), (b_q, b_k), (M, torch.linalg.inv(M).T), strict=True):
        for name, new in (("weight", W @ change), ("bias", b @ change)):
            model.get_parameter(f"{slot.module}.{name}").data[..., slot.place] = new.float()


def _in_double(model: GPT2LMHeadModel, slot: Slot) -> tuple[Tensor, Tensor]:
    """Weight and bias of a matrix."""
    bias = model.get_parameter(f"{slot.module}.bias").detach()[slot.place]
    return slot.weight(model).double(), bias.double()
