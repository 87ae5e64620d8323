"""Removal of O's values with a frozen mean for every token position, as in the paper's released code.

No mask file can hold that. With m_p what a matrix reads at prompt position p on average, the removed part of its output
is replaced, at position p,

    y_p = x_p (W - sum_i s_i u_i v_i^T) + b + sum_i s_i (m_p . u_i) v_i     over removed i

1. The mask is put onto the view, but with c_i = 0 in matrices that have means by position: their weights lose the
   removed part, and their biases gain nothing.
2. A hook on each of these matrices' output adds the last sum, from a table with one row per position.

For a mask of gain g both sums are multiplied by 1 - g.

Positions are counted back from the prompt's end, so that prompts that were padded on the left when the means were taken
are run without their padding. What comes after the prompt (all answer tokens but the last) gets the last position's
mean, and what comes before the first position gets the first one's, which is padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.core.errors import TaskError
from explorer.core.keys import MatrixKey
from explorer.masks.apply import apply, empty_mask
from explorer.masks.fitting import fitting
from explorer.masks.mask import Mask
from explorer.measure.batches import Batch, answer_logits
from explorer.measure.metrics import Outcome, outcome
from explorer.models import View
from explorer.models.matrices import output_hook, parts_of, read, shape
from explorer.spectra.cache import SvdCache


@dataclass(frozen=True, eq=False)
class PositionMeans:
    """Frozen means by position.

    Attributes:
        of: per matrix m_p . u_i, for the prompt's last position in the last row; none for a matrix whose mean is the
            mask's own at every position.
        padded: whether they were taken on prompts of several lengths, padded on the left; else prompts must have one
            token per row.
    """

    of: Mapping[MatrixKey, Float[Tensor, "position r"]]
    padded: bool = False

    @property
    def length(self) -> int:
        """Number of positions."""
        return len(next(iter(self.of.values()))) if self.of else 0


@contextmanager
def frozen_by_position(view: View, mask: Mask, means: PositionMeans, svds: SvdCache) -> Iterator[Positions]:
    """Put a mask onto a view for a block, with frozen means by position where there are any; the view is left unpruned.

    Run batches through what the block is given. Raises what `explorer.masks.apply.apply` raises.
    """
    positions = Positions(means)
    with view.lock:
        try:
            placed = (one for one in mask.removed if one.key in means.of)
            apply(view, mask.with_removed(one.model_copy(update={"c": 0.0}) for one in placed), svds)
            tables = _tables(view, mask, means, svds=svds)
            hooks = [(output_hook(site), partial(positions.add, table=table)) for site, table in tables.items()]
            with view.bridge.hooks(fwd_hooks=hooks):
                yield positions
        finally:
            apply(view, empty_mask(view.model), svds)


class Positions:
    """Which row of the tables each token of the running batch takes; see `frozen_by_position`."""

    def __init__(self, means: PositionMeans) -> None:
        self._means = means
        self._rows: Int[Tensor, "batch position"] | None = None

    def run(self, view: View, batch: Batch) -> Outcome:
        """Run a batch; raises as `logits` does."""
        return outcome(self.logits(view, batch), batch)

    def logits(self, view: View, batch: Batch) -> Float[Tensor, "answer_token vocabulary"]:
        """The view's logits for every answer token of a batch.

        Raises:
            TaskError: a prompt of another length than the means, unless they were taken on padded prompts.
        """
        self._place(batch)
        return answer_logits(view, batch)

    def _place(self, batch: Batch) -> None:
        """Count the positions of a batch back from where its prompts end."""
        first = torch.full((len(batch),), batch.tokens.shape[1], device=batch.tokens.device)
        ends = first.scatter_reduce(0, batch.rows, batch.positions, "amin")
        last, lengths = self._means.length - 1, sorted({int(end) + 1 for end in ends})
        if not self._means.padded and self._means.length and lengths != [last + 1]:
            given = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
            raise TaskError(
                f"the prompts have {given} tokens, the frozen means by position are of {last + 1}: give prompts of "
                "that length."
            )
        places = torch.arange(batch.tokens.shape[1], device=ends.device)
        self._rows = (last + places - ends[:, None]).clamp(0, last)

    def add(self, y: Tensor, hook: Any, table: Float[Tensor, "position d_out"]) -> Tensor:
        """The output of a matrix with its removed part's mean."""
        assert self._rows is not None, "run batches through `Positions.run`"
        return y + table[self._rows.to(table.device)].to(y.dtype).view(y.shape)


def _tables(
    view: View, mask: Mask, means: PositionMeans, svds: SvdCache
) -> dict[MatrixKey, Float[Tensor, "position d_out"]]:
    """Per stacked matrix what is added to its output at each position."""
    tables: dict[MatrixKey, Tensor] = {}
    for key, removed in mask.by_matrix.items():
        if key not in means.of:
            continue
        svd, site = fitting(view, key, removed, svds=svds), key.stacked
        indices = [one.index for one in removed]
        c = means.of[key][:, indices]
        dtype = torch.promote_types(c.dtype, svd.s.dtype)
        added = (c.to(dtype) * svd.s[indices].to(dtype)) @ svd.right(indices).to(dtype)
        if site not in tables:
            tables[site] = torch.zeros(len(c), shape(view, site)[1], dtype=dtype)
        tables[site][:, parts_of(view, key)[1]] += (1.0 - mask.gain) * added
    return {site: table.to(read(view, site).device) for site, table in tables.items()}
