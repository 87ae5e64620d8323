"""How large a frozen mean can be: c_i = m . u_i, where m is a mean of what the matrix reads.

A norm in front of a matrix bounds what it reads, whatever the input: with d coordinates, scale g and shift b,

    x = g * n + b, |n| <= sqrt(d)        so        |x . u| <= sqrt(d) |g * u| + |b . u|

O reads the heads' values, averaged by the attention: no longer than the longest value that V can give. OUT reads the
activation of IN, or IN times the activation of GATE; where the activation makes nothing larger (ReLU, GELU, SiLU), that
is no longer than what these can give, a square (`relu2`) no longer than its square, and what lies between 0 and 1 no
longer than the square root of its width. V, IN and GATE may carry a mask themselves, which at most doubles that. Only
of OUT behind an activation with parameters of its own (`xielu`, `prelu`), or one that is not known here, no bound is
known, and any finite mean is taken.

Where no norm stands in front (OLMo 2, OPT with norms behind), a matrix reads the residual stream itself. That is no
longer than all that is written to it together: the longest embedding with its position, and for every O and OUT on the
way what the norm behind it lets through, or the longest that it can write.

The released code takes its means from the stream in front of the norm, for OUT from what the non-linearity reads, and
adds them up over the positions of a prompt: they are bounded by the longest of these, times the positions that the
model has. A combination of masks takes each of its values from one of them, so that the same bounds hold for it.

A frozen mean beyond the bound is no mean of anything that this model can read.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from explorer.core.errors import MaskError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.mask import Mask
from explorer.models import View
from explorer.models.architectures import architecture
from explorer.models.matrices import heads, kinds, norm_of, read_base, read_base_bias, shape
from explorer.models.norms import READERS, WRITERS, norms
from explorer.spectra.svd import Decomposition

SHRINKING = frozenset(
    [
        "relu",
        "gelu",
        "gelu_new",
        "gelu_fast",
        "gelu_python",
        "gelu_pytorch_tanh",
        "gelu_accurate",
        "quick_gelu",
        "silu",
        "swish",
        "gelu_10",
        "gelu_python_tanh",
        "leaky_relu",
        "linear",
        "mish",
        "relu6",
        "tanh",
    ]
)
UP_TO_ONE = frozenset(["sigmoid", "laplace"])
SQUARING = "relu2"
UNNAMED = {"BloomForCausalLM": "gelu"}  # activations of classes whose configurations name none
ACTIVATIONS = ("activation_function", "hidden_activation", "hidden_act", "activation")  # names in configurations
SLACK, HALF_SLACK = 1e-3, 5e-2  # of the bound, for rounding in float32 and in half types
TOGETHER = 1024  # tokens whose embeddings are looked at together
_LENGTHS: dict[tuple[str, MatrixKey], float] = {}
_NORMS: dict[tuple[str, int, str], tuple[Tensor, Tensor]] = {}
_EMBEDDED: dict[str, float] = {}


def check_means(view: View, key: MatrixKey, mask: Mask, svd: Decomposition) -> None:
    """Raise MaskError if a frozen mean is larger than any that an input of this model can give.

    Args:
        view: of the mask's model.
        key: the matrix.
        mask: whose values of this matrix are looked at; one that removes by zero has no frozen means.
        svd: the matrix's decomposition.
    """
    if mask.mode != "freeze":
        return
    removed = mask.by_matrix[key]
    bounds = _bounds(view, key, svd.left([one.index for one in removed]))
    if mask.has_released_means:
        bounds = [max(bound, _summed(view, key)) for bound in bounds]
    slack = HALF_SLACK if view.bridge.original_model.dtype.itemsize < 4 else SLACK
    for one, bound in zip(removed, bounds, strict=True):
        if abs(one.c) > bound * (1 + slack):
            raise MaskError(
                f"the frozen mean of value {one.index} of {key} is {one.c:.6g}, but whatever this model reads, it is "
                f"at most {bound:.6g} in size: the mask is damaged or of another model; make it again."
            )


def _bounds(view: View, key: MatrixKey, u: Float[Tensor, "d_in n"]) -> list[float]:
    if key.kind in READERS:
        norm = _norm(view, key.layer, key.kind)
        if norm is None:
            return [_stream(view, key.layer, key.kind)] * u.shape[1]
        gain, shift = norm
        wide = u.double()
        most = math.sqrt(len(gain)) * (gain[:, None] * wide).norm(dim=0) + (shift @ wide).abs()
        return [float(one) for one in most]
    return [_longest(view, key)] * u.shape[1]


def _summed(view: View, key: MatrixKey) -> float:
    """Bound of a sum over positions of what the released code takes for the input of a matrix; of O it is a mean."""
    if key.kind is Kind.O:
        return _longest(view, key)
    if key.kind is Kind.OUT:
        read = _written(view, MatrixKey(key.layer, Kind.GATE if Kind.GATE in kinds(view) else Kind.IN))
    else:
        read = _stream(view, key.layer, key.kind)
    return int(view.config.n_ctx) * read


def _norm(view: View, layer: int, kind: Kind) -> tuple[Tensor, Tensor] | None:
    """Scale (its size) and shift of the norm in front of a kind; None without a norm. Computed once."""
    names = norms(view.model.architecture, view.bridge.original_model.config)
    before = names.before(kind)
    return None if before is None else _named(view, layer, before)


def _named(view: View, layer: int, norm: str) -> tuple[Tensor, Tensor]:
    """Scale (its size) and shift of a norm by its name. Computed once."""
    name = (view.model.as_loaded, layer, norm)
    if name not in _NORMS:
        module = norm_of(view, layer, norm)
        assert module is not None
        centred = norms(view.model.architecture, view.bridge.original_model.config).centred
        _NORMS[name] = _measured(view, module, centred=centred)
    return _NORMS[name]


def _through(view: View, layer: int, norm: str) -> float:
    """Length of the longest vector that a norm lets through."""
    gain, shift = _named(view, layer, norm)
    return math.sqrt(len(gain)) * float(gain.max()) + float(shift.norm())


def _measured(view: View, module: nn.Module, *, centred: bool) -> tuple[Tensor, Tensor]:
    """Scale (its size) and shift of a norm, from what it makes of two vectors."""
    width, weight = int(view.config.d_model), next(module.parameters(), None)
    signs = torch.ones(width, dtype=torch.float64)
    signs[1::2] = -1
    unit = signs - signs.mean() if centred else signs
    unit = unit / unit.square().mean().sqrt()  # what the norm makes of it, before scale and shift
    x = (8 * signs).to(torch.zeros((), device=view.device) if weight is None else weight)[None, None]
    with torch.no_grad():
        up, down = (module(one)[0, 0].double().cpu() for one in (x, -x))
    return ((up - down) / 2 / unit).abs(), (up + down) / 2


def _longest(view: View, key: MatrixKey) -> float:
    """Length of the longest vector that O or OUT can read; infinity where that is not known. Computed once."""
    name = (view.model.as_loaded, key)
    if name not in _LENGTHS:
        _LENGTHS[name] = _values(view, key) if key.kind is Kind.O else _activations(view, key.layer)
    return _LENGTHS[name]


def _values(view: View, key: MatrixKey) -> float:
    """What O reads: for each of its heads the longest value of the KV head that it looks at."""
    per_kv = heads(view, Kind.O) // heads(view, Kind.V)
    among = range(heads(view, Kind.O)) if key.head is None else (key.head,)
    longest = {kv: _written(view, MatrixKey(key.layer, Kind.V, kv)) for kv in {head // per_kv for head in among}}
    return math.sqrt(sum(longest[head // per_kv] ** 2 for head in among))


def _activations(view: View, layer: int) -> float:
    """What OUT reads: the activation of IN, or IN times the activation of GATE."""
    config = view.bridge.original_model.config
    usual = UNNAMED.get(view.model.architecture)
    activation = next((getattr(config, name) for name in ACTIVATIONS if hasattr(config, name)), usual)
    gated = Kind.GATE in kinds(view)
    length = _written(view, MatrixKey(layer, Kind.GATE if gated else Kind.IN))
    if activation in UP_TO_ONE:
        length = math.sqrt(shape(view, MatrixKey(layer, Kind.IN))[1])
    elif activation == SQUARING:
        length = length**2
    elif activation not in SHRINKING:
        return math.inf
    return length * _written(view, MatrixKey(layer, Kind.IN)) if gated else length


def _written(view: View, key: MatrixKey) -> float:
    """Length of the longest output that V, IN or GATE can give, under any mask."""
    norm = _norm(view, key.layer, key.kind)
    if norm is None:
        read = _stream(view, key.layer, key.kind)
    else:
        gain, shift = norm
        read = math.sqrt(len(gain)) * float(gain.max()) + float(shift.norm())
    bias = read_base_bias(view, key)
    size = float(torch.linalg.matrix_norm(read_base(view, key).double()))
    return 2 * read * size + (0.0 if bias is None else float(bias.double().norm()))


def _stream(view: View, layer: int, kind: Kind) -> float:
    """Length of the longest residual stream in front of a kind that reads it, under any mask."""
    names = norms(view.model.architecture, view.bridge.original_model.config)
    in_mlp = kind in (Kind.IN, Kind.GATE)
    if names.post and names.attention is None:  # OPT: the stream is what the last norm let through
        if in_mlp:
            return _through(view, layer, "self_attn_layer_norm")
        return _through(view, layer - 1, "final_layer_norm") if layer else longest_embedding(view)
    if names.post and names.attention is not None and names.mlp is not None:  # BLOOM: each half adds to its norm
        if in_mlp:
            return _through(view, layer, names.attention) + _writes(view, layer, Kind.O)
        before = layer - 1
        return _through(view, before, names.mlp) + _writes(view, before, Kind.OUT) if layer else longest_embedding(view)
    halves = [(before, half) for before in range(layer) for half in WRITERS] + ([(layer, Kind.O)] if in_mlp else [])
    return longest_embedding(view) + sum(_writes(view, before, half) for before, half in halves)


def _writes(view: View, layer: int, kind: Kind) -> float:
    """Length of the longest vector that O or OUT can add to the stream, under any mask."""
    names = norms(view.model.architecture, view.bridge.original_model.config)
    if (after := names.after(kind)) is not None:
        return _through(view, layer, after)
    key = MatrixKey(layer, kind)
    bias = read_base_bias(view, key)
    size = float(torch.linalg.matrix_norm(read_base(view, key).double()))
    return 2 * _longest(view, key) * size + (0.0 if bias is None else float(bias.double().norm()))


def longest_embedding(view: View) -> float:
    """Length of the longest vector that the first block can read. Computed once.

    That of every token at the first position, as the model makes it; another position is at most as far from that as
    two of its embeddings are long.
    """
    name = view.model.as_loaded
    if name not in _EMBEDDED:
        own = view.bridge.original_model
        words = own.get_input_embeddings().weight
        tables = [one.weight for one in own.modules() if isinstance(one, nn.Embedding) and one.weight is not words]
        parts = torch.split(torch.arange(len(words)), TOGETHER)
        longest = [float(_first(view, part).norm(dim=-1).max()) for part in parts]
        places = sum(float(one.detach().double().norm(dim=-1).max()) for one in tables if one.shape != words.shape)
        _EMBEDDED[name] = max(longest) + 2 * places
    return _EMBEDDED[name]


class _Read(Exception):
    """What the first block reads."""

    def __init__(self, x: Tensor) -> None:
        self.x = x


def _first(view: View, tokens: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
    """What the first block reads at each of some tokens, alone."""

    def stop(module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        raise _Read(args[0] if args else options["hidden_states"])

    blocks = architecture(view.model.source.name, view.model.architecture).blocks
    handle = view.bridge.original_model.get_submodule(f"{blocks}.0").register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with torch.no_grad():
            view.bridge.original_model(tokens[:, None].to(view.device), use_cache=False)
    except _Read as read:
        return read.x[:, 0].double()
    finally:
        handle.remove()
    raise AssertionError("the model did not run its first block")
