"""What all exact effects of large models would take on GPUs, by the cost model that cells are cut by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from explorer.attribution.effect_costs import cell_flop, run_flop, value_flop
from explorer.attribution.runs import TOKENS

EXAMPLES, WORDS = 32, 7  # of a task such as int-mult
GPU_FLOP = 0.4 * 60e12  # a second: 40 % of what a large GPU of 2024 does in float32 without rounding to TF32
STORE_BYTES = 10e9  # a second, from the file system that all workers load the model from
DRIVER_SECONDS = 0.0015  # of the driver's time for a cell (`python -m tests.bench.driver`)
GPUS = (8, 64, 512)


@dataclass(frozen=True)
class ModelShape:
    """A model of the Llama family, and over how many GPUs of 80 GB it is spread in float32."""

    name: str
    layers: int
    d_model: int
    heads: int
    kv_heads: int
    d_mlp: int
    spread: int
    d_head: int = 128

    @property
    def values(self) -> int:
        """Singular values of a layer: per head, and of the three matrices of the MLP."""
        return 2 * (self.heads + self.kv_heads) * self.d_head + 3 * min(self.d_model, self.d_mlp)

    @property
    def weights(self) -> int:
        """Weights of all blocks."""
        attention = 2 * (self.heads + self.kv_heads) * self.d_head * self.d_model
        return self.layers * (attention + 3 * self.d_model * self.d_mlp)

    def run(self, layer: int) -> tuple[int, float]:
        """How many values of a layer run together, and what that takes (floating-point operations)."""
        tokens = EXAMPLES * WORDS
        copies = max(1, TOKENS // tokens)
        share = (self.layers - layer) / self.layers
        return copies, run_flop("cuda", copies * value_flop(self.weights, tokens, share))

    @property
    def flop(self) -> float:
        """Of all values."""
        runs = (self.run(layer) for layer in range(self.layers))
        return sum(flop * self.values / copies for copies, flop in runs)

    def cells(self) -> Iterator[float]:
        """Seconds of a worker for each cell of all values."""
        flop, wanted = 0.0, cell_flop("cuda")
        for layer in range(self.layers):
            copies, one = self.run(layer)
            runs = math.ceil(self.values / copies)
            while runs:
                some = min(runs, math.ceil((wanted - flop) / one))
                runs, flop = runs - some, flop + some * one
                if flop >= wanted:
                    yield flop / GPU_FLOP
                    flop = 0.0
        if flop:
            yield flop / GPU_FLOP


SHAPES = (
    ModelShape("7 B (Llama 2)", 32, 4096, 32, kv_heads=32, d_mlp=11008, spread=1),
    ModelShape("70 B (Llama 2)", 80, 8192, 64, kv_heads=8, d_mlp=28672, spread=4),
)


def table() -> str:
    """A row for each model and number of GPUs."""
    head = ("model", "values", "FLOP", "GPUs", "workers", "cells a second", "computing", "loading", "driver busy")
    lines = [head, ("---", *["---:"] * (len(head) - 1))]
    for shape in SHAPES:
        seconds = list(shape.cells())
        for gpus in GPUS:
            workers = gpus // shape.spread
            computing = sum(seconds) / workers
            loading = 4 * shape.weights * workers / STORE_BYTES
            rate = len(seconds) / computing
            lines.append(
                (
                    shape.name, f"{shape.values * shape.layers:,}", f"{shape.flop:.1e}", str(gpus), str(workers),
                    f"{rate:.1f}", time(computing), time(loading), f"{100 * rate * DRIVER_SECONDS:.1f} %",
                )
            )  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def time(seconds: float) -> str:
    """Such as `3.2 h`."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
