"""Every Q, K, V, O, IN, GATE and OUT matrix of a model: which there are, read one, replace one on a view.

Whatever the checkpoint stores (`explorer.models.architectures`), a matrix is `W: [d_in, d_out]`, `y = x @ W + b`, and
runs as a module of its own on a view. Q, K and V heads are column slices of the stacked matrix, O heads are row slices;
O's bias is shared by its heads. `hf_weights` gives the view's weights back in the checkpoint's own layout.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from explorer.core.errors import MatrixError
from explorer.core.keys import Kind, MatrixKey
from explorer.models import View
from explorer.models.architectures import Architecture, architecture
from explorer.models.model import in_type

_SLOTS = {
    Kind.Q: "attn.q",
    Kind.K: "attn.k",
    Kind.V: "attn.v",
    Kind.O: "attn.o",
    Kind.IN: "mlp.in",
    Kind.GATE: "mlp.gate",
    Kind.OUT: "mlp.out",
}


class Site(Protocol):
    """The module that holds a stacked matrix: Linear keeps `[d_out, d_in]`, Conv1D (GPT-2) keeps `[d_in, d_out]`."""

    weight: Tensor
    bias: Tensor | None


def kinds(view: View) -> tuple[Kind, ...]:
    """The kinds of matrix that the model has, in canonical order.

    Raises:
        ModelError: the architecture has no entry in `explorer.models.architectures`.
    """
    return _architecture(view).kinds


def heads(view: View, kind: Kind) -> int:
    """Number of heads of an attention kind: KV heads for K and V, as the checkpoint stores them."""
    grouped = getattr(view.config, "n_key_value_heads", None) if kind in (Kind.K, Kind.V) else None
    return int(grouped or view.config.n_heads)


def matrices(
    view: View,
    of_kinds: Collection[Kind] | None = None,
    layers: Collection[int] | None = None,
    *,
    per_head: bool = True,
) -> tuple[MatrixKey, ...]:
    """All matrices in canonical order, attention either per head or stacked; MLP matrices are always whole.

    Raises:
        MatrixError: a kind or a layer that the model does not have.
    """
    existing = kinds(view)
    for kind in of_kinds or ():
        if kind not in existing:
            raise MatrixError(f"{view.model.source.name} has no {kind} matrices: choose from {', '.join(existing)}.")
    for layer in layers or ():
        _check_layer(view, layer)
    chosen = [kind for kind in existing if of_kinds is None or kind in of_kinds]
    keys = []
    for layer in range(view.config.n_layers) if layers is None else sorted(set(layers)):
        for kind in chosen:
            split = per_head and kind.has_heads
            keys += [MatrixKey(layer, kind, h) for h in range(heads(view, kind))] if split else [MatrixKey(layer, kind)]
    return tuple(keys)


def check(view: View, key: MatrixKey) -> None:
    """Raise MatrixError, saying what there is, unless the model has this matrix."""
    _check_layer(view, key.layer)
    if key.kind not in kinds(view):
        raise MatrixError(f"{key}: the model has no {key.kind} matrices: choose from {', '.join(kinds(view))}.")
    if key.head is not None and not 0 <= key.head < heads(view, key.kind):
        raise MatrixError(
            f"{key}: the model has {key.kind} heads 0 to {heads(view, key.kind) - 1}: choose one of them."
        )


def read(view: View, key: MatrixKey) -> Float[Tensor, "d_in d_out"]:
    """W of a matrix as it is on the view now; shares memory with the weights, so never write to it."""
    return _weight(view, key, base=False)


def read_bias(view: View, key: MatrixKey) -> Float[Tensor, " d_out"] | None:
    """The bias of a matrix on the view now, None if it has none; an O head gives the bias that all heads share."""
    return _bias(view, key, base=False)


def read_base_bias(view: View, key: MatrixKey) -> Float[Tensor, " d_out"] | None:
    """The bias of a matrix in the shared, unpruned model; otherwise as `read_bias`."""
    return _bias(view, key, base=True)


def read_base(view: View, key: MatrixKey) -> Float[Tensor, "d_in d_out"]:
    """W of a matrix in the shared, unpruned model; otherwise as `read`."""
    return _weight(view, key, base=True)


def shape(view: View, key: MatrixKey) -> tuple[int, int]:
    """`(d_in, d_out)` of a matrix."""
    d_in, d_out = read(view, key).shape
    return d_in, d_out


def replace(view: View, key: MatrixKey, W: Tensor, b: Tensor | None = None) -> None:
    """Put `W` (and, if given, `b`) in place of a matrix on this view; other heads and the shared model stay as is.

    Raises:
        MatrixError: no such matrix, or a shape that is not the matrix's.
    """
    check(view, key)
    site, where = _module(view, key), parts_of(view, key)
    current = _oriented(site, site.weight)
    if W.shape != current[where].shape:
        raise MatrixError(f"{key} is {tuple(current[where].shape)}, but the replacement is {tuple(W.shape)}.")
    weight = current.detach().clone()
    weight[where] = W.to(weight)
    bias = site.bias
    if b is not None:
        bias = weight.new_zeros(weight.shape[1]) if bias is None else bias.detach().clone()
        bias[where[1]] = b.to(bias)
    _install(site, _stored(site, weight), bias)


def restore(view: View, key: MatrixKey) -> None:
    """Put the shared model's own weight and bias back for the whole stacked matrix of `key`, in the view's type."""
    site, base = _module(view, key), _module(view, key, base=True)
    dtype = site.weight.dtype
    site.weight, site.bias = in_type(base.weight, dtype), None if base.bias is None else in_type(base.bias, dtype)


@dataclass(frozen=True, eq=False)
class Leaf:
    """Weight and bias of one stacked matrix as autograd leaves; see `differentiable`."""

    site: Site

    @property
    def weight_gradient(self) -> Float[Tensor, "d_in d_out"]:
        """Sum over tokens of x^T g, accumulated so far."""
        return _oriented(self.site, _gradient(self.site.weight))

    @property
    def bias_gradient(self) -> Float[Tensor, " d_out"]:
        """Sum over tokens of g, accumulated so far."""
        return _gradient(self.site.bias)


@contextmanager
def differentiable(view: View, keys: Sequence[MatrixKey]) -> Iterator[dict[MatrixKey, Leaf]]:
    """Make stacked matrices autograd leaves on the view for the time of the block, sharing the weights' memory.

    A matrix without bias gets a zero one, so that the gradient with respect to its output, summed over tokens, can be
    read from it. Gradients accumulate over backward passes.
    """
    sites = {key: _module(view, key) for key in keys}
    before = {key: (site.weight, site.bias) for key, site in sites.items()}
    try:
        for site in sites.values():
            weight = site.weight.detach()
            d_out = _oriented(site, weight).shape[1]
            bias = weight.new_zeros(d_out) if site.bias is None else site.bias.detach()
            site.weight, site.bias = nn.Parameter(weight), nn.Parameter(bias)
        yield {key: Leaf(site) for key, site in sites.items()}
    finally:
        for key, site in sites.items():
            site.weight, site.bias = before[key]


@contextmanager
def substituted(view: View, weights: Mapping[MatrixKey, tuple[Tensor, Tensor | None]]) -> Iterator[None]:
    """Run stacked matrices with other weights `W: [d_in, d_out]` and biases, which may carry gradients, for a block."""
    sites = {key: _module(view, key) for key in weights}
    before = {key: (site.weight, site.bias) for key, site in sites.items()}
    try:
        for key, (W, b) in weights.items():
            site = sites[key]
            for name, value in (("weight", W if _is_conv1d(site) else W.T), ("bias", b)):
                delattr(site, name)  # a parameter; what takes its place is a plain tensor with a history
                setattr(site, name, value)
        yield
    finally:
        for key, site in sites.items():
            for name, value in zip(("weight", "bias"), before[key], strict=True):
                vars(site).pop(name, None)
                cast(nn.Module, site).register_parameter(name, cast("nn.Parameter | None", value))


def norm_of(view: View, layer: int, name: str | None) -> nn.Module | None:
    """A norm of a block on the view, by its name in `explorer.models.norms`; None without a name."""
    if name is None:
        return None
    module: nn.Module = view.bridge.original_model.get_submodule(f"{_architecture(view).blocks}.{layer}.{name}")
    return module


def input_hook(key: MatrixKey) -> str:
    """Name of the TransformerLens hook at which the matrix's input can be read."""
    return f"blocks.{key.layer}.{_SLOTS[key.kind]}.hook_in"


def output_hook(key: MatrixKey) -> str:
    """Name of the TransformerLens hook at which the matrix's output can be read."""
    return f"blocks.{key.layer}.{_SLOTS[key.kind]}.hook_out"


def parts_of(view: View, key: MatrixKey) -> tuple[slice, slice]:
    """The rows (input coordinates) and columns (output coordinates) of the stacked matrix that this matrix takes up."""
    everything = slice(None)
    if key.head is None:
        return everything, everything
    width = int(view.config.d_head)
    part = slice(key.head * width, (key.head + 1) * width)
    return (part, everything) if key.kind is Kind.O else (everything, part)


def hf_weights(view: View) -> dict[str, Tensor]:
    """The model's Hugging Face state dict with the view's matrices in it, in the checkpoint's own names and layout.

    What the view has not changed is the shared model's own tensor, no copy; a module of several kinds, such as GPT-2's
    `c_attn`, is copied once one of them has changed. A bias that the checkpoint does not have (made by freeze removal,
    or by folding a norm that shifts) appears as `<module>.bias`; in a module of several kinds it is zero for the kinds
    without one. To load such a state dict, the Hugging Face model needs that bias first: by its configuration where
    that has a switch (Llama's `attention_bias` and `mlp_bias`, then for all layers), else by giving that one module a
    `bias` parameter.
    """
    weights = view.model.weights()
    owned: set[str] = set()
    for key in matrices(view, per_head=False):
        site, base = _module(view, key), _module(view, key, base=True)
        name = _architecture(view).module(key.layer, key.kind)
        if not _same(site.weight, base.weight):
            _put(view, key, weights, owned=owned, name=f"{name}.weight", value=site.weight)
        if site.bias is not None and not _same(site.bias, base.bias):
            _put(view, key, weights, owned=owned, name=f"{name}.bias", value=site.bias)
    return weights


def _put(view: View, key: MatrixKey, weights: dict[str, Tensor], owned: set[str], name: str, value: Tensor) -> None:
    """Set one matrix's weight or bias in a state dict, copying a fused tensor before its first change (`owned`)."""
    stored = _architecture(view)
    sharing = stored.sharing(key.kind)
    if len(sharing) == 1:
        weights[name] = value.detach()
        return
    widths = {kind: shape(view, MatrixKey(key.layer, kind))[1] for kind in sharing}
    if name not in owned:
        owned.add(name)
        weights[name] = weights[name].clone() if name in weights else value.new_zeros(sum(widths.values()))
    outputs = stored.outputs(key.kind, widths, heads(view, Kind.K)).to(value.device)
    fused = weights[name].T if stored.conv1d and value.ndim == 2 else weights[name]
    fused[outputs] = value.detach()  # a site split from a fused module is a Linear: [d_out, d_in]


def _same(tensor: Tensor | None, other: Tensor | None) -> bool:
    if tensor is None or other is None:
        return tensor is other
    return tensor.data_ptr() == other.data_ptr() and tensor.shape == other.shape


def _architecture(view: View) -> Architecture:
    return architecture(view.model.source.name, view.model.architecture)


def _check_layer(view: View, layer: int) -> None:
    if not 0 <= layer < view.config.n_layers:
        raise MatrixError(f"layer {layer} is out of range: the model has layers 0 to {view.config.n_layers - 1}.")


def _weight(view: View, key: MatrixKey, *, base: bool) -> Tensor:
    check(view, key)
    site = _module(view, key, base=base)
    return _oriented(site, site.weight)[parts_of(view, key)]


def _bias(view: View, key: MatrixKey, *, base: bool) -> Tensor | None:
    check(view, key)
    bias = _module(view, key, base=base).bias
    return None if bias is None else bias[parts_of(view, key)[1]]


def _module(view: View, key: MatrixKey, *, base: bool = False) -> Site:
    bridge = view.model.bridge if base else view.bridge
    module: Site = bridge.blocks[key.layer].get_submodule(_SLOTS[key.kind]).original_component
    return module


def _oriented(site: Site, tensor: Tensor) -> Tensor:
    """Stored weight (or its gradient) as `[d_in, d_out]`."""
    return tensor if _is_conv1d(site) else tensor.T


def _stored(site: Site, W: Tensor) -> Tensor:
    return W if _is_conv1d(site) else W.T.contiguous()


def _is_conv1d(site: object) -> bool:
    return isinstance(site, Conv1D)


def _install(site: Site, weight: Tensor, bias: Tensor | None) -> None:
    site.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        site.bias = nn.Parameter(bias, requires_grad=False)


def _gradient(parameter: Tensor | None) -> Tensor:
    assert parameter is not None
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
