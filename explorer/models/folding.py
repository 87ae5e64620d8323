"""The `folded` basis: layer norms folded into the matrices that read, outputs that layer norms ignore taken out.

Before TransformerLens hooks the model, its own weights are rewritten, so that all else works as in the raw basis.
With g and h the scale and shift of the norm in front of a matrix `W: [d_model, d_out]`, `y = x @ W + b`:

1. `W <- diag(g) W`, `b <- b + h @ W`; the norm's scale becomes 1 and its shift 0.
2. LayerNorm only: what it gives has mean zero, so the mean of each column of W does nothing: `W <- (I - 11^T/d) W`.
3. LayerNorm only: every reader subtracts the mean over d_model, so O and OUT need not write one: `W <- W (I - 11^T/d)`,
   `b <- b (I - 11^T/d)`.

These are TransformerLens's `fold_ln` and `center_writing_weights`, as far as the seven kinds of matrix go: embeddings,
final norm and unembedding stay as they are, which changes no output (a residual stream whose mean differs is read
alike), and keeps tied weights tied. Norms behind O and OUT (Gemma 2 and 3) and on queries and keys (Qwen 3, Gemma 3)
are no function of one matrix and stay. Sums are taken in float64 and rounded to the weights' own type.

Logits are those of the raw model within rounding. A matrix whose checkpoint has no bias gets one where its LayerNorm
has a shift (GPT-Neo, GPT-J, Falcon).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from explorer.core.errors import ModelError
from explorer.models.architectures import architecture
from explorer.models.norms import READERS, WRITERS, Norms, norms


def fold(name: str, model: Any) -> None:
    """Rewrite a loaded Hugging Face model, in place, in the folded basis.

    Raises:
        ModelError: the architecture has no norms that could be folded faithfully.
    """
    class_name = type(model).__name__
    stored, placed = architecture(name, class_name), norms(class_name, model.config)
    if placed.post or placed.attention is None or placed.mlp is None:
        reason = "they are part of the residual stream itself" if placed.post else "none stands before its matrices"
        raise ModelError(
            f"{name} is a {class_name} whose layer norms cannot be folded ({reason}): load it in the raw basis."
        )
    readers = {stored.modules[kind]: placed.before(kind) for kind in READERS if kind in stored.modules}
    for block in model.get_submodule(stored.blocks):
        for module, norm in readers.items():
            assert norm is not None
            fold_reader(block.get_submodule(module), block.get_submodule(norm), placed)
        for norm in (placed.attention, placed.mlp):
            _neutralise(block.get_submodule(norm), placed.offset)
        for kind in WRITERS if placed.centred else ():
            centre_writer(block.get_submodule(stored.modules[kind]))


def fold_reader(site: Any, norm: Any, placed: Norms) -> None:
    """Steps 1 and 2 for one stored module, in place, with the `weight` and, if there is one, `bias` of its norm."""
    W = _oriented(site)
    scale = norm.weight.detach().double() + placed.offset
    shift = getattr(norm, "bias", None)
    if shift is not None:
        added = shift.detach().double() @ W
        bias = added if site.bias is None else site.bias.detach().double() + added
        if site.bias is not None or bool((added != 0).any()):
            site.bias = _parameter(bias, site.weight)
    W = scale[:, None] * W
    _store(site, W - W.mean(dim=0) if placed.centred else W)


def centre_writer(site: Any) -> None:
    """Step 3 for one stored module, in place."""
    W = _oriented(site)
    _store(site, W - W.mean(dim=1, keepdim=True))
    if site.bias is not None:
        bias = site.bias.detach().double()
        site.bias = _parameter(bias - bias.mean(), site.weight)


def _neutralise(norm: Any, offset: float) -> None:
    """Scale one and shift zero."""
    norm.weight = _parameter(torch.full_like(norm.weight, 1.0 - offset), norm.weight)
    if getattr(norm, "bias", None) is not None:
        norm.bias = _parameter(torch.zeros_like(norm.bias), norm.weight)


def _oriented(site: Any) -> Tensor:
    """The weight as `[d_in, d_out]` in float64."""
    weight: Tensor = site.weight.detach().double()
    return weight if isinstance(site, Conv1D) else weight.T


def _store(site: Any, W: Tensor) -> None:
    site.weight = _parameter(W if isinstance(site, Conv1D) else W.T, site.weight)


def _parameter(value: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(value.to(like).contiguous(), requires_grad=False)
