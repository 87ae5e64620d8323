"""The null `mean-only`: the mask's frozen means in the biases, and no value removed.

    W' = W,   b' = b + sum over the mask's values of s_i c_i v_i

Removal with freezing takes the part of each removed value that varies over tokens away and keeps its mean. Here that
mean is added once more, to a part that is still there: what this gives is due to the shift of the biases alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress
from explorer.masks.fitting import fitting
from explorer.models.matrices import parts_of, shape
from explorer.search.evidence.claim import Claim, base, hits
from explorer.search.evidence.figures import RivalFigures


def mean_only(claim: Claim, progress: Progress | None = None) -> RivalFigures:
    """The unpruned weights with the mask's frozen means in the biases."""
    before = claim.text_before
    with claim.running(weights(claim)):
        test = claim.test()
        growth = None if before is None else claim.growth()
    return RivalFigures(
        role="null", accuracy=(test.accuracy,), loss=(test.mean_loss.value,), hits=hits((test,)), growth=growth,
        numbers=len(claim.mask), note="The mask's frozen means in the biases, nothing removed.",
    )  # fmt: skip


def weights(claim: Claim) -> dict[MatrixKey, tuple[Tensor, Tensor | None]]:
    """Weight and bias of every stacked matrix that the mask touches: the weight as it is, the means in the bias."""
    view, taken = claim.view, 1.0 - claim.mask.gain
    shifts: dict[MatrixKey, Tensor] = {}
    for key, removed in claim.mask.by_matrix.items():
        svd, d_out = fitting(view, key, removed, svds=claim.problem.svds), shape(view, key.stacked)[1]
        indices = [one.index for one in removed]
        sizes = taken * svd.s[indices] * torch.tensor([one.c for one in removed], dtype=torch.float64)
        shift = shifts.setdefault(key.stacked, torch.zeros(d_out, dtype=torch.float64))
        shift[parts_of(view, key)[1]] += sizes @ svd.right(indices).double()
    found: dict[MatrixKey, tuple[Tensor, Tensor | None]] = {}
    for site, shift in shifts.items():
        W, b = base(view, site)
        found[site] = (W, (shift + b.cpu().double()).to(W))
    return found
