"""How large a frozen mean can be: c_i = m . u_i, where m is a mean of what the matrix reads.

A norm in front of a matrix bounds what it reads, whatever the input: with d coordinates, scale g and shift b,

    x = g * n + b, |n| <= sqrt(d)        so        |x . u| <= sqrt(d) |g * u| + |b . u|

O reads the heads' values, averaged by the attention: no longer than the longest value that V can give. OUT reads the
activation of IN, times GATE where there is one; where the activation makes nothing larger (ReLU, GELU, SiLU), that is
no longer than what these can give. V, IN and GATE may carry a mask themselves, which at most doubles that.

A frozen mean beyond the bound is no mean of anything that this model can read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from explorer.core.errors import MaskError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.mask import Mask, Removed
from explorer.models import View
from explorer.models.matrices import heads, kinds, norm_of, read_base, read_base_bias
from explorer.models.norms import READERS, norms

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
    ]
)
ACTIVATIONS = ("activation_function", "hidden_activation", "hidden_act", "activation")  # names in configurations
SLACK, HALF_SLACK = 1e-3, 5e-2  # of the bound, for rounding in float32 and in half types
_LENGTHS: dict[tuple[str, str, MatrixKey], float] = {}
_NORMS: dict[tuple[str, str, int, str], tuple[Tensor, Tensor]] = {}


def is_bounded(mask: Mask) -> bool:
    """Whether a mask's frozen means are means of what the matrices read.

    The released code takes them from the residual stream in front of the norm, summed over positions; a combination of
    masks may hold some of these.
    """
    made = mask.provenance
    combined = made.derived is not None and made.derived.means is None
    return (
        mask.mode == "freeze" and made.scorer != "as-released" and "frozen_means" not in mask.metrics and not combined
    )


def check_means(view: View, key: MatrixKey, removed: Sequence[Removed], u: Float[Tensor, "d_in r"]) -> None:
    """Raise MaskError if a frozen mean is larger than any that an input of this model can give.

    Args:
        view: of the mask's model.
        key: the matrix.
        removed: its values in the mask.
        u: its left singular vectors.
    """
    indices = [one.index for one in removed]
    bounds = _bounds(view, key, u[:, indices])
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
            return [math.inf] * u.shape[1]
        gain, shift = norm
        wide = u.double()
        most = math.sqrt(len(gain)) * (gain[:, None] * wide).norm(dim=0) + (shift @ wide).abs()
        return [float(one) for one in most]
    return [_longest(view, key)] * u.shape[1]


def _norm(view: View, layer: int, kind: Kind) -> tuple[Tensor, Tensor] | None:
    """Scale (its size) and shift of the norm in front of a kind; None without a norm. Computed once."""
    names = norms(view.model.architecture, view.bridge.original_model.config)
    before = names.before(kind)
    module = norm_of(view, layer, before)
    if before is None or module is None:
        return None
    name = (view.model.digest, view.model.basis, layer, before)
    if name not in _NORMS:
        _NORMS[name] = _measured(view, module, centred=names.centred)
    return _NORMS[name]


def _measured(view: View, module: nn.Module, *, centred: bool) -> tuple[Tensor, Tensor]:
    """Scale (its size) and shift of a norm, from what it makes of two vectors."""
    width, weight = int(view.config.d_model), next(module.parameters(), None)
    signs = torch.ones(width, dtype=torch.float64)
    signs[1::2] = -1
    unit = signs - signs.mean() if centred else signs
    unit = unit / unit.square().mean().sqrt()  # what the norm makes of it, before scale and shift
    x = (8 * signs).to(view.device, torch.float32 if weight is None else weight.dtype)[None, None]
    with torch.no_grad():
        up, down = (module(one)[0, 0].double().cpu() for one in (x, -x))
    return ((up - down) / 2 / unit).abs(), (up + down) / 2


def _longest(view: View, key: MatrixKey) -> float:
    """Length of the longest vector that O or OUT can read; infinity where that is not known. Computed once."""
    name = (view.model.digest, view.model.basis, key)
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
    activation = next((getattr(config, name) for name in ACTIVATIONS if hasattr(config, name)), None)
    if activation not in SHRINKING:
        return math.inf
    length = _written(view, MatrixKey(layer, Kind.IN))
    return length * _written(view, MatrixKey(layer, Kind.GATE)) if Kind.GATE in kinds(view) else length


def _written(view: View, key: MatrixKey) -> float:
    """Length of the longest output that V, IN or GATE can give, under any mask."""
    norm = _norm(view, key.layer, key.kind)
    if norm is None:
        return math.inf
    gain, shift = norm
    read = math.sqrt(len(gain)) * float(gain.max()) + float(shift.norm())
    bias = read_base_bias(view, key)
    size = float(torch.linalg.matrix_norm(read_base(view, key).double()))
    return 2 * read * size + (0.0 if bias is None else float(bias.double().norm()))
