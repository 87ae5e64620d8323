"""The bytes of a tensor, for digests."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The values of a tensor in C order as bytes, whatever their type; on the CPU without a copy if contiguous."""
    flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return memoryview(cast("bytes", flat.numpy()))
