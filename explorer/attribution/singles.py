"""Many single values at once: copies of a batch run together, one value changed in each.

Removing value i of `W = sum_i s_i u_i v_i^T` changes the matrix's output by a rank-one term, so no weight is edited:

    y_j  <-  y_j - s_i (x_j . u_i - c_i) v_i        copy j, removing a kept value (c_i = m . u_i, or 0 for zero removal)
    y_j  <-  y_j + s_i (x_j . u_i - c_i) v_i        copy j, restoring a removed one (c_i from the mask)

and 1 - g times that at a mask of gain g, which scales values instead of removing them.

x_j is what the matrix really reads in copy j. Copies differ only from their own matrix on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.core.keys import MatrixKey
from explorer.measure.metrics import losses
from explorer.measure.residuals import Kept, logits_from
from explorer.models import View
from explorer.models.matrices import input_hook, output_hook, parts_of
from explorer.models.matrices import read as weight_of


@dataclass(frozen=True, eq=False)
class Flip:
    """The rank-one change that flips one value.

    Attributes:
        key: the value's matrix.
        u: what it reads [d_in].
        write: what it adds to the output per unit read: -s v to remove it, +s v to restore it, or a share of that
            [d_out].
        c: frozen mean.
    """

    key: MatrixKey
    u: Float[Tensor, " d_in"]
    write: Float[Tensor, " d_out"]
    c: float


def changed_losses(view: View, kept: Kept, changes: Sequence[Flip]) -> Float[Tensor, "change example"]:
    """Loss of every example under each change alone (nats, on the CPU); one forward per batch for all of them.

    Args:
        view: in the state that `kept` was kept in.
        kept: residual streams of the batches.
        changes: of one layer, those of one matrix side by side.
    """
    layer = changes[0].key.layer
    found = []
    with torch.no_grad(), _changing(view, changes):
        copied = logits_from(view, kept, layer, copies=len(changes))
        for batch, logits in zip(kept.batches, copied, strict=True):
            found.append(losses(logits, batch.repeated(len(changes))).reshape(len(changes), -1))
    return torch.cat(found, dim=1).cpu()


@dataclass(frozen=True, eq=False)
class _Part:
    """The copies that one matrix changes."""

    copies: slice
    rows: slice
    columns: slice
    u: Float[Tensor, "d_in change"]
    write: Float[Tensor, "change d_out"]
    c: Float[Tensor, " change"]

    def apply(
        self, x: Float[Tensor, "copy batch position d_in"], y: Float[Tensor, "copy batch position d_out"]
    ) -> None:
        """Flip y in place."""
        read = torch.einsum("kbpd,dk->kbp", x[self.copies, ..., self.rows].to(self.u.dtype), self.u)
        read = read - self.c[:, None, None]
        y[self.copies, ..., self.columns] += (read[..., None] * self.write[:, None, None, :]).to(y.dtype)


@contextmanager
def _changing(view: View, changes: Sequence[Flip]) -> Iterator[None]:
    """Hooks that make change j in copy j."""
    parts: dict[MatrixKey, list[_Part]] = {}
    start = 0
    for key, group in groupby(changes, key=lambda change: change.key):
        same = list(group)
        parts.setdefault(key.stacked, []).append(_part(view, key, same, start=start))
        start += len(same)
    inputs: dict[MatrixKey, Tensor] = {}

    def read(x: Tensor, hook: Any, site: MatrixKey) -> None:
        inputs[site] = x.flatten(2)

    def write(y: Tensor, hook: Any, site: MatrixKey) -> Tensor:
        x, moved = inputs.pop(site), y.flatten(2).clone(memory_format=torch.contiguous_format)
        for part in parts[site]:
            part.apply(_copies(x, len(changes)), _copies(moved, len(changes)))
        return moved.view(y.shape)

    hooks: list[tuple[str, Any]] = [(input_hook(site), partial(read, site=site)) for site in parts]
    hooks += [(output_hook(site), partial(write, site=site)) for site in parts]
    with view.bridge.hooks(fwd_hooks=hooks):
        yield


def _copies(rows: Tensor, copies: int) -> Tensor:
    """`[copies * batch, position, width]` as `[copy, batch, position, width]`; no copy of what is contiguous."""
    return rows.reshape(copies, -1, *rows.shape[1:])


def _part(view: View, key: MatrixKey, changes: Sequence[Flip], start: int) -> _Part:
    rows, columns = parts_of(view, key)
    device = weight_of(view, key).device
    u, write = (torch.stack([getattr(change, name) for change in changes]).to(device) for name in ("u", "write"))
    c = torch.tensor([change.c for change in changes], dtype=u.dtype, device=device)
    return _Part(slice(start, start + len(changes)), rows, columns, u=u.T, write=write, c=c)
