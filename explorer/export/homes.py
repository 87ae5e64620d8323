"""Where a checkpoint can hold the biases that freeze removal makes, for classes that have none at some matrices.

1. The class has a bias there, by its own configuration: it holds the new one.
2. A switch of the configuration gives it one (Llama's `attention_bias` and `mlp_bias`, Falcon's `bias`): it is turned
   on, with zeros in all layers that need none.
3. Without a switch, what is exactly the same as another change:

   - K, where positions are not rotary: a bias adds one number to all scores of a query, which softmax takes out again.
     It is dropped.
   - V: attention weights sum to 1, so that b_V adds `b_V @ W_O` behind O whatever is attended to. O holds it.
   - O, where attention and MLP write to the residual stream together (GPT-J): OUT holds it.

4. Otherwise no checkpoint of this class is this model, and it is refused by name.

The same goes for an adapter that is to have no biases: of the biases only those count that step 3 does not take away.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

import torch
from torch import Tensor

from explorer.core.errors import ExportError
from explorer.core.keys import Kind, MatrixKey
from explorer.export.edit import Edit
from explorer.models import View
from explorer.models.architectures import architecture
from explorer.models.matrices import heads, hf_weights, matrices, read

SWITCHES = ("attention_bias", "mlp_bias", "bias", "enable_bias", "qkv_bias")
UNROTATED = frozenset(["GPT2LMHeadModel", "GPTNeoForCausalLM", "OPTForCausalLM", "BloomForCausalLM"])
K_LEFT_OUT = "Frozen means of K are left out: without rotary positions they change no output."
TOGETHER = frozenset(["GPTJForCausalLM"])  # attention and MLP write to the residual stream in one sum


@dataclass(frozen=True, eq=False)
class Settled:
    """A Hugging Face state dict in which every bias has its place.

    Attributes:
        config: the configuration that has a place for each; the model's own where nothing had to be switched on.
        weights: the state dict.
        notes: what was done, in sentences for people.
    """

    config: Any
    weights: dict[str, Tensor]
    notes: tuple[str, ...]


def settled(edit: Edit) -> Settled:
    """The weights of a pruned model, with the biases that its mask made where a checkpoint can hold them.

    Raises:
        ExportError: a bias that no checkpoint of this class can hold; says what would work instead.
    """
    view = edit.raw
    model, stored = view.model.bridge.original_model, view.model.weights()
    weights = hf_weights(view)
    made = [key for key, change in edit.changes.items() if change.bias is not None and _bias(view, key) not in stored]
    if not made:
        return Settled(copy.deepcopy(model.config), weights, ())
    config, homes, notes = _switched(view, made)
    weights = dict(weights)
    for key in made:
        if _bias(view, key) not in homes:
            notes += (_moved(view, key, weights, homes=homes),)
    for name, empty in homes.items():
        if name not in weights:
            like = weights[name.removesuffix("bias") + "weight"]
            weights[name] = torch.zeros(empty, dtype=like.dtype, device=like.device)
    return Settled(config, weights, tuple(dict.fromkeys(notes)))


def without_effect(view: View, key: MatrixKey) -> bool:
    """Whether a bias of this matrix changes no output: K, where positions are not rotary."""
    return key.kind is Kind.K and view.model.architecture in UNROTATED


def refused(view: View, key: MatrixKey) -> ExportError:
    """The sentence for a bias that has no place."""
    return ExportError(
        f"a {view.model.architecture} stores no bias for {key.kind}, so that no checkpoint holds the frozen mean of "
        f"{key}: export with --zero (nothing instead of the mean), or --as lora or --as hooks, which hold it."
    )


def _switched(view: View, made: Collection[MatrixKey]) -> tuple[Any, dict[str, torch.Size], tuple[str, ...]]:
    """The configuration with the fewest switches that leave the fewest biases without a place; all its biases."""
    base = view.model.bridge.original_model.config
    off = [name for name in SWITCHES if getattr(base, name, None) is False]
    best: tuple[int, Any, dict[str, torch.Size], tuple[str, ...]] | None = None
    for names in chain.from_iterable(combinations(off, count) for count in range(len(off) + 1)):
        config = copy.deepcopy(base)
        for name in names:
            setattr(config, name, True)
        homes = _biases(view, config)
        homeless = sum(_bias(view, key) not in homes for key in made)
        if best is None or homeless < best[0]:
            said = tuple(f"Its configuration has {name}: true, with zeros where no mean is frozen." for name in names)
            best = homeless, config, homes, said
    assert best is not None
    return best[1:]


def _biases(view: View, config: Any) -> dict[str, torch.Size]:
    """The biases of matrices that the class has with a configuration, by name, and their shapes."""
    import transformers

    with torch.device("meta"):
        empty = getattr(transformers, view.model.architecture)(copy.deepcopy(config))
    own = {name: one.shape for name, one in empty.state_dict().items()}
    return {name: own[name] for key in matrices(view, per_head=False) if (name := _bias(view, key)) in own}


def _moved(view: View, key: MatrixKey, weights: dict[str, Tensor], homes: Mapping[str, torch.Size]) -> str:
    """Give a bias without a place to a matrix that has one, where that changes no output; says so."""
    if without_effect(view, key):
        weights.pop(_bias(view, key))
        return K_LEFT_OUT
    target = _target(view, key, homes)
    if target is None:
        raise refused(view, key)
    bias, name = weights.pop(_bias(view, key)).double(), _bias(view, target)
    added = _through_o(view, key.layer, bias) if key.kind is Kind.V else bias
    like = weights[name.removesuffix("bias") + "weight"]
    before = weights[name].double() if name in weights else 0.0
    weights[name] = (before + added.to(like.device)).to(like.dtype)
    return f"Frozen means of {key.kind} stand in the bias of {target.kind}, where they change the same."


def _target(view: View, key: MatrixKey, homes: Mapping[str, torch.Size]) -> MatrixKey | None:
    """The matrix whose bias can say what that of V or O says."""
    behind = {Kind.V: (Kind.O, Kind.OUT), Kind.O: (Kind.OUT,)}.get(key.kind, ())
    together = view.model.architecture in TOGETHER
    places = [MatrixKey(key.layer, kind) for kind in behind if kind is Kind.O or together]
    return next((place for place in places if _bias(view, place) in homes), None)


def _through_o(view: View, layer: int, bias: Tensor) -> Tensor:
    """What a bias of V adds behind O: that of every KV head through O's rows of the heads that look at it."""
    count, kv = heads(view, Kind.O), heads(view, Kind.V)
    per_head = bias.double().view(kv, -1).repeat_interleave(count // kv, dim=0)
    W: Tensor = read(view, MatrixKey(layer, Kind.O)).double()
    return per_head.flatten().to(W.device) @ W


def _bias(view: View, key: MatrixKey) -> str:
    return f"{architecture(view.model.source.name, view.model.architecture).module(key.layer, key.kind)}.bias"
