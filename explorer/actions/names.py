"""Names of what can be chosen, for type checkers and help, without loading torch; a test holds them to the tables."""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "validation", "test"]
Scorer = Literal[
    "gradient",
    "hybrid",
    "curvature",
    "integrated",
    "exact",
    "as-released",
    "magnitude",
    "energy",
    "random",
]
Method = Literal[
    "paper",
    "adaptive",
    "verified",
    "stepwise",
    "learned",
    "thorough",
    "laser",
    "ensemble",
]
Chance = Literal["random-search", "random-energy", "smallest", "largest"]
Strategy = Literal[Method, Chance]
Null = Literal["shuffled", "rotated", "mean-only"]
Baseline = Literal["bias-only", "lora-1", "scaling", "shots", "chat"]
Compute = Literal["auto", "float32", "bfloat16"]
Directions = Literal["head", "stacked", "product"]
