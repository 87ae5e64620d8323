"""In which type proposals are computed.

A search proposes, and what it proposes is measured. Measuring is done in the type that the model is loaded in;
proposing may be done in bfloat16, which some processors multiply several times faster.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch

from explorer.core.errors import SettingsError
from explorer.models.model import Model

Compute = Literal["auto", "float32", "bfloat16"]
COMPUTE: tuple[str, ...] = get_args(Compute)
WORTH_IT = 50_000_000  # weights: a smaller model spends its time between multiplications


def compute_type(model: Model, choice: str = "auto") -> str:
    """The type in which proposals of a model are computed: one of its own, or a narrower one.

    `auto` is bfloat16 for a model of `WORTH_IT` weights or more on a device that multiplies it faster, but not for a
    large one, of which there is to be no second copy (`Model.is_large`). A type that is wider than the model's own
    gains nothing: then it is the model's.

    Raises:
        SettingsError: no such choice.
    """
    if choice not in COMPUTE:
        raise SettingsError(f"compute {choice[:40]!r} is not known: choose one of {', '.join(COMPUTE)}.")
    narrow = model.dtype in ("float32", "float64")
    if choice == "auto":
        wanted = narrow and model.parameters_count >= WORTH_IT and not model.is_large and _multiplies_bfloat16(model)
        return "bfloat16" if wanted else model.dtype
    narrower = (choice == "bfloat16" and narrow) or (choice == "float32" and model.dtype == "float64")
    return choice if narrower else model.dtype


def _multiplies_bfloat16(model: Model) -> bool:
    """Whether the model's device has instructions for it."""
    kind = torch.device(model.bridge.original_model.device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind != "cpu":
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
