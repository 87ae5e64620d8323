"""What exact effects cost, about: what cells are cut by, and what estimates are made from.

A value of layer l of L is measured by one forward pass of a copy of all examples from layer l on, that is by about

    2 P T (L - l) / L  floating-point operations,

with P weights in the blocks and T tokens in the examples: two operations per weight and token. Attention itself and the
unembedding of the answers, are small beside that for short prompts.
"""

from __future__ import annotations

# What a cell is to take: a few tenths of a second on a core of a processor, a few seconds on a GPU, so that a driver of
# hundreds of GPUs has time for each. It depends on the device, and never on how many there are.
CELL_FLOP = {"cpu": 1e10, "cuda": 1e14}
RUN_FLOP = {"cpu": 2e9, "cuda": 2.5e11}  # what could be done in the time that a run of copies takes to begin


def value_flop(weights: int, tokens: int, share: float) -> float:
    """Floating-point operations for one value: `share` is that of the blocks that run."""
    return 2.0 * weights * tokens * share


def cell_flop(device: str) -> float:
    """What a cell is to take on a type of device, `cpu` or `cuda`."""
    return CELL_FLOP.get(device, CELL_FLOP["cpu"])


def run_flop(device: str, flop: float) -> float:
    """What a run of so many operations takes on a type of device, its beginning included."""
    return RUN_FLOP.get(device, RUN_FLOP["cpu"]) + flop
