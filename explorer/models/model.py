"""A loaded model, which nothing changes, and the views of it that sessions work on: modules of their own, its weights.

A view is a deep copy whose memo already holds every weight and buffer, so it costs no weight memory. Replacing a
weight on it changes the view only.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.models.agreement import UNCHECKED, Fidelity
from explorer.models.delta import DeltaBase
from explorer.models.identity import Parts, content, weights_digest
from explorer.models.rotary import side
from explorer.models.sources import Source
from explorer.models.spread import devices

Basis = Literal["raw", "folded", "delta"]
LARGE = 10**9  # weights
# TransformerLens takes the copy hook off a class while it copies an instance of it, so copies must not overlap.
_COPYING = threading.Lock()


@dataclass(frozen=True, eq=False)
class Model:
    """One loaded model, shared by all sessions and never changed: work happens on `view()`s.

    Attributes:
        source: where it came from.
        digest: its identity (`explorer.models.identity`): weights as stored, configuration, tokenizer and basis, but
            not the type that it is loaded in, nor what changes no token that it reads and no number.
        parts: what the identity is made of.
        basis: `raw`, the weights as in the checkpoint, `folded` (see `explorer.models.folding`) or `delta`, their
            difference from those of `against` (see `explorer.models.delta`).
        tokenizer: the Hugging Face tokenizer.
        parameters_count: number of weights, tied ones once.
        architecture: class name of the Hugging Face model.
        fidelity: how close its views are to plain transformers.
        against: the model whose weights are subtracted; None unless the basis is `delta`.
    """

    source: Source
    digest: str
    parts: Parts
    basis: Basis
    tokenizer: Any
    parameters_count: int
    architecture: str
    bridge: Any = field(repr=False)
    _weights: dict[str, Tensor] = field(repr=False)
    _state: dict[str, Tensor] = field(repr=False)
    _content: str = field(repr=False)
    _stored: frozenset[torch.dtype] = field(repr=False)
    fidelity: Fidelity = UNCHECKED
    against: DeltaBase | None = None
    _ready: list[View] = field(default_factory=list, repr=False)

    @property
    def dtype(self) -> str:
        """The type that it is loaded in, such as `float32`."""
        return str(self.bridge.original_model.dtype).removeprefix("torch.")

    @property
    def is_large(self) -> bool:
        """Whether memory decides how it is worked with: no second copy of its weights, of decompositions one side."""
        return self.parameters_count > LARGE

    @property
    def decomposed(self) -> str:
        """What its matrices are, as part of an identity: the basis, with the weights that are subtracted."""
        return in_basis(self.basis, self.against)

    @property
    def as_asked(self) -> dict[str, Any]:
        """Basis and base model, as `explorer.models.load` takes them beside its name."""
        return {"basis": self.basis, "against": None if self.against is None else self.against.source.name}

    @property
    def earlier(self) -> frozenset[str]:
        """What its digest may have been in earlier versions (`Parts.earlier`)."""
        return self.parts.earlier(self.decomposed)

    @property
    def as_loaded(self) -> str:
        """Identity (`Parts.exactly`), type and device: what numbers depend on, and are kept under."""
        return f"{self.parts.exactly(self.decomposed)} {self.dtype} {'+'.join(self.devices)}"

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that it lies on, in the order in which its blocks run; mostly one."""
        return devices(self.bridge.original_model)

    @property
    def wide(self) -> str:
        """The type in which its matrices are decomposed: float32, or float64 if it is loaded in that."""
        return "float64" if self.dtype == "float64" else "float32"

    @property
    def rounding(self) -> float:
        """Twice the relative rounding error of numbers that are stored in float32, or float64 if all weights are."""
        return float(torch.finfo(torch.float64 if self._stored == {torch.float64} else torch.float32).eps)

    def rounds(self, dtype: str) -> bool:
        """Whether loading it in a type rounds weights: those that are stored, or what folding makes of them."""
        wanted = getattr(torch, dtype)
        return self.basis == "folded" or any(torch.promote_types(one, wanted) != wanted for one in self._stored)

    def holds(self, dtype: str) -> bool:
        """Whether the weights in memory are those that loading it in a type gives, in this type or a narrower one."""
        return dtype == self.dtype or not (self.rounds(dtype) or self.rounds(self.dtype))

    @property
    def matrices_identity(self) -> str:
        """`matrices_as` in the type in which its matrices are decomposed."""
        return self.matrices_as(self.wide)

    def matrices_as(self, dtype: str) -> str:
        """What decides its matrices in a type and nothing else: weights, basis, and how they are cut into heads.

        Models that differ in other ways (an activation, a tokenizer) share their decompositions.
        """
        shape = self.bridge.cfg
        heads = (shape.n_heads, getattr(shape, "n_key_value_heads", None), shape.d_head)
        if self.holds(dtype):
            signs = " signs as in float32" if dtype == "float64" else ""  # before, float64 had its own
            return f"{self.architecture} {self._content} {self.decomposed} {heads}{signs}"
        return f"{self.architecture} {self.parts.weights} in {dtype} {self.decomposed} {heads}"

    @classmethod
    def of(cls, model: Model) -> Self:
        """The same loaded model as an instance of this class."""
        same = cls(**{one.name: getattr(model, one.name) for one in fields(model)})
        for view in same._ready:
            view.model = same
        return same

    def view(self, dtype: str | None = None) -> View:
        """A private copy of the modules that shares every weight: edits on it leave this model as it is.

        With another type than the model's, it has copies of the weights in that type, masked or not: a view that
        computes faster and less exactly, for what is measured again by a view of the model's own type.
        """
        if dtype not in (None, self.dtype):
            return View(self, copy_bridge(self.bridge, getattr(torch, str(dtype))))
        with suppress(IndexError):  # empty, but for the view that the load looked at
            if (ready := self._ready.pop()).model is self:
                return ready
        return View(self, copy_bridge(self.bridge))

    @cached_property
    def rows(self) -> int:
        """How many tokens the model has an embedding and an unembedding of; the tokenizer may have more, or fewer."""
        model = self.bridge.original_model
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        return min(int(end.weight.shape[0]) for end in ends if end is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all weights, tied ones under their first."""
        return tuple(self._weights)

    def weights(self) -> dict[str, Tensor]:
        """The Hugging Face state dict as it was loaded, tied weights under each of their names; no copies."""
        return dict(self._state)

    def current_digest(self) -> str:
        """Equals `digest` as long as nothing has changed the weights in memory; another digest of them afterwards."""
        same = content(self._weights) == self._content
        return self.digest if same else self.weights_now()

    def weights_now(self) -> str:
        """`weights_digest` of the weights in memory, in the type in which they are loaded."""
        return weights_digest(self._weights, self.basis)


def in_basis(basis: Basis, against: DeltaBase | None) -> str:
    """See `Model.decomposed`."""
    return basis if against is None else f"{basis} {against.weights}"


class View:
    """Modules of one session over the weights of a shared `Model`; used by one thread at a time.

    Attributes:
        model: the shared model.
        bridge: TransformerLens bridge of this view: hooks, names, configuration.
        applied: what `explorer.masks.apply` has put onto this view, per stacked matrix; empty means unpruned.
    """

    def __init__(self, model: Model, bridge: Any) -> None:
        self.model = model
        self.bridge = bridge
        self.applied: dict[Any, Any] = {}
        self.lock = threading.RLock()

    @property
    def config(self) -> Any:
        """TransformerLens configuration: n_layers, n_heads, n_key_value_heads, d_head, d_model, ..."""
        return self.bridge.cfg

    def logits(
        self, tokens: Int[Tensor, "batch position"], keep: Int[Tensor, " kept"] | None = None
    ) -> Float[Tensor, "batch kept vocabulary"]:
        """Next-token logits; `keep` limits the unembedding to some positions."""
        options = {} if keep is None else {"logits_to_keep": keep}
        logits: Tensor = self.bridge.original_model(tokens, use_cache=False, **options).logits
        return logits

    def logits_at(
        self,
        tokens: Int[Tensor, "batch position"],
        rows: Int[Tensor, " place"],
        positions: Int[Tensor, " place"],
        **options: Any,
    ) -> Float[Tensor, "place vocabulary"]:
        """Next-token logits at single places (row, position) only; `options` go to the Hugging Face model.

        The places are picked from what the unembedding reads, so it runs on no other, whatever the family does with
        its logits afterwards (soft caps).
        """

        def pick(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            x = args[0]
            return (x[rows.to(x.device), positions.to(x.device)][None], *args[1:])

        handle = self.bridge.unembed.register_forward_pre_hook(pick)
        try:
            logits: Tensor = self.bridge.original_model(tokens, **{"use_cache": False, **options}).logits
        finally:
            handle.remove()
        return logits[0]

    def side(self, length: int) -> int:
        """Runs of lengths with one answer rotate alike, and may be put together: see `explorer.models.rotary`."""
        return side(self.bridge.original_model.config, length)

    @property
    def device(self) -> torch.device:
        """Where tokens go and logits come from; where the weights are, unless they are spread over several devices."""
        return torch.device(self.bridge.original_model.device)


class ViewPool:
    """Views of one model lent out for exclusive use, so that sessions and jobs never share one.

    A lent view may still carry the last borrower's mask: put yours onto it first (`explorer.masks.apply.apply`).

    Attributes:
        model: whose views.
    """

    def __init__(self, model: Model, idle: int = 4) -> None:
        self.model = model
        self._idle: list[View] = []
        self._keep = idle
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self) -> Iterator[View]:
        """A view that nobody else uses until the block ends."""
        with self._lock:
            view = self._idle.pop() if self._idle else None
        view = view or self.model.view()
        try:
            yield view
        finally:
            with self._lock:
                if len(self._idle) < self._keep:
                    self._idle.append(view)


def copy_bridge(bridge: Any, dtype: torch.dtype | None = None) -> Any:
    """Deep copy of a TransformerLens bridge that shares all parameters, and buffers but of rotations.

    Some rotations write their frequencies (a few numbers) as they run; two views may run at the same time. With a type,
    what is of another one is copied into it instead.
    """
    memo: dict[int, Any] = {}
    own = {id(x) for part in bridge.original_model.modules() if hasattr(part, "rope_type") for x in part.buffers()}
    for root in (bridge, bridge.original_model):
        for tensor in (*root.parameters(), *root.buffers()):
            if id(tensor) not in memo and id(tensor) not in own:
                memo[id(tensor)] = tensor if dtype is None else in_type(tensor, dtype)
    for module in {*bridge.modules(), *bridge.original_model.modules()}:  # nearly all belong to both
        memo.update(_empty_copies(module))
    with _COPYING:
        copied = copy.deepcopy(bridge, memo)
    if dtype is not None:
        copied.cfg.dtype = dtype  # what attention casts to
    return copied


def in_type(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A parameter or buffer in a type; itself if it is in that already, or holds no fractions."""
    if tensor.dtype == dtype or not tensor.is_floating_point():
        return tensor
    values = tensor.detach().to(dtype)
    return torch.nn.Parameter(values, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else values


def _empty_copies(module: torch.nn.Module) -> Iterator[tuple[int, Any]]:
    """A new one for every empty collection of a module: it has a dozen for hooks, and `deepcopy` is slow with them."""
    for value in vars(module).values():
        if type(value) in (OrderedDict, dict, set) and not value:
            yield id(value), type(value)()
